"""Measure a run or a bundle on labelled photos.

    python -m training evaluate models/classroom --data PHOTOS --where open_licence=no

A run is measured in torch, a bundle as it is served (OpenVINO or ONNX Runtime). Prints and writes beside
it (evaluation.json, or --out): accuracy by class with Wilson's 95 % intervals, confusion matrix, loss, and
where the time of a photo goes: decode, resize, inference.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np
import torch
from rich.progress import track
from rich.table import Table

from config.files import write_json
from config.recipe import Recipe
from dataset.photos import Photo
from handler import engine
from handler.image import Pixels, fit, open_photo, to_array
from training.data import naming
from training.loop import console
from training.metrics import Scores, score
from training.options import data_options, read_data
from training.runs import fingerprint, load_model, read_run

STAGES = ("decode", "resize", "inference")


@click.command(epilog="Example: python -m training evaluate models/classroom --data runs/drawn")
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@data_options
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="[default: RUN/evaluation.json]")
def evaluate(run: Path, data: tuple[Path, ...], where: tuple[str, ...], out: Path | None) -> None:
    """Measure RUN (a run, or a bundle) on labelled photos."""
    recipe, infer = _load(run)
    photos = read_data(data, where, recipe)
    found, spent = measure(recipe, infer, photos)
    result = {"data": fingerprint(photos, recipe.labels), "metrics": found.as_json(), "milliseconds": latency(spent)}
    try:
        write_json(out or run / "evaluation.json", result)
    except OSError as error:
        raise click.ClickException(f"the result cannot be written: {error.strerror}: give --out FILE") from error
    show(found, result["milliseconds"])
    click.echo(str(found))


def measure(
    recipe: Recipe, infer: Callable[[Pixels], torch.Tensor], photos: Sequence[Photo]
) -> tuple[Scores, list[list[float]]]:
    """Ask every photo once.

    Returns:
        scores, and for each photo the seconds of decode, resize and inference.
    """
    logits, spent = [], []
    for photo in track(photos, "asking", console=console, transient=True):
        with naming(photo.path):
            data = photo.path.read_bytes()
            marks = [time.perf_counter()]
            upright = open_photo(data, recipe.limits)
        marks.append(time.perf_counter())
        pixels = to_array(fit(upright, recipe.input))
        marks.append(time.perf_counter())
        logits.append(infer(pixels))
        marks.append(time.perf_counter())
        spent.append([after - before for before, after in itertools.pairwise(marks)])
    return score(torch.stack(logits), photos, recipe.labels), spent


def latency(spent: Sequence[Sequence[float]]) -> dict[str, dict[str, float]]:
    """Milliseconds by stage: median (p50) and p95 over all photos but the first, which warms up."""
    table = np.asarray(spent[1:] or spent) * 1000
    columns = {stage: table[:, index] for index, stage in enumerate(STAGES)} | {"together": table.sum(axis=1)}
    return {
        name: {"p50": round(float(np.median(values)), 2), "p95": round(float(np.percentile(values, 95)), 2)}
        for name, values in columns.items()
    }


def show(found: Scores, milliseconds: dict[str, dict[str, float]]) -> None:
    """Print the confusion matrix and the latency."""
    matrix = Table("is \\ answered", *found.labels, "accuracy", "95 %")
    entry = found.as_json()
    for label, row in zip(found.labels, found.confusion, strict=True):
        low, high = entry["accuracy_95"].get(label, (0, 1))
        matrix.add_row(label, *map(str, row), f"{entry['accuracy'].get(label, 0):.1%}", f"{low:.1%} to {high:.1%}")
    console.print(matrix)
    times = Table("milliseconds", "p50", "p95")
    for name, values in milliseconds.items():
        times.add_row(name, str(values["p50"]), str(values["p95"]))
    console.print(times)


def served(graph: Path, recipe: Recipe) -> Callable[[Pixels], torch.Tensor]:
    """A graph as it will be served: pixels -> log-probabilities, shape (classes,)."""
    ask = engine.load(graph, recipe)
    return lambda pixels: torch.from_numpy(np.log(np.clip(ask(pixels), 1e-12, 1)))


def _load(run: Path) -> tuple[Recipe, Callable[[Pixels], torch.Tensor]]:
    if (run / "model.onnx").is_file():
        recipe, _ = read_run(run)
        return recipe, served(run / "model.onnx", recipe)
    recipe, model, _ = load_model(run)

    @torch.no_grad()
    def infer(pixels: Pixels) -> torch.Tensor:
        return model(torch.from_numpy(pixels)[None])[0]  # type: ignore[no-any-return]

    return recipe, infer
