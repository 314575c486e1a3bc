"""Compare speed and accuracy of our training with the training loop of the classroom document (docs/sources.md).

    python -m benchmarks.training --data SPLIT --weights FILE
    python -m benchmarks.training --data SPLIT --backbone efficientnet_lite0
    python -m benchmarks.training --quick

The baseline has the document's settings (recipe classroom_document) and loop (benchmarks/document_training.py). Ours
runs in bf16, if the processor has it, and in f32. All start from the same weights and train on the same photos for the
same number of epochs with a validation pass each, all layers and frozen. They run in turn, in reverse order in every
second round. Times include decoding, worker start-up and validation. The accuracy of each trained model is measured
afterwards in f32. Exits 1 if a bound is missed; --quick has no bounds. Prints Markdown, and one JSON line last; writes
benchmarks/results/training.json.
"""

import copy
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.document_training import train_as_the_document
from benchmarks.harness.commands import RESULTS
from common.cli import command
from common.errors import CheckFailed, InvalidInput
from common.files import write_json
from config.recipe import Recipe, override, read_recipe
from dataset.photos import Photo, counts, read_photos
from dataset.sample import draw_set
from training.data.loader import check_readable
from training.data.selection import divide, read_data
from training.evaluation.inference import predict, uses_bf16
from training.evaluation.metrics import score
from training.fitting.loop import optimise
from training.models.classifier import Classifier
from training.models.registry import build

RECIPE = "classroom_document"
WAYS = ("document", "ours", "ours, f32")
MODES = {"full": False, "frozen": True}
BOUNDS = {("full", "ours"): 2.5, ("full", "ours, f32"): 1.3, ("frozen", "ours"): 5.0}
"""Least speed relative to the classroom document's loop; the bounds of `ours` count only in bf16."""

Row = dict[str, Any]


@command(epilog="Example: python -m benchmarks.training --quick")
@click.option(
    "--data",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Label folders, a split (dataset split), or a table; may be given again.",
)
@click.option("--backbone", help="Backbone, instead of the classroom document's ResNet-18.")
@click.option("--weights", help="imagenet, none, or the path of a state dict, instead of ImageNet's.")
@click.option("--epochs", type=click.IntRange(1), help="Epochs, instead of the classroom document's 5.")
@click.option("--mode", type=click.Choice(list(MODES)), help="Measure only this mode.  [default: both]")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1), help="Trainings of each kind.")
@click.option("--quick", is_flag=True, help="A few drawn photos, a tiny network, one round: checks that it runs.")
@click.option("--out", default=RESULTS, type=click.Path(file_okay=False, path_type=Path), help="Folder of the results.")
def main(
    data: tuple[Path, ...],
    backbone: str | None,
    weights: str | None,
    epochs: int | None,
    mode: str | None,
    rounds: int,
    quick: bool,
    out: Path,
) -> None:
    """Train with the classroom document's loop and with ours, and compare times and accuracy."""
    if not data and not quick:
        raise InvalidInput("there are no photos to train on", "give --data SPLIT, or --quick for drawn photos")
    if quick:
        backbone, weights, epochs, rounds = backbone or "smallnet", weights or "none", epochs or 2, 1
    recipe = override(read_recipe(RECIPE), "backbone", name=backbone, weights=weights)
    recipe = override(recipe, "train", epochs=epochs)
    with tempfile.TemporaryDirectory() as work:
        photos = read_data(data, (), recipe) if data else drawn(Path(work), recipe)
        training, validation = divide(photos, recipe)
        check_readable(photos, recipe)
        modes = [mode] if mode else list(MODES)
        rows = [row for number in range(rounds) for row in one_round(number, modes, recipe, training, validation)]
    report = {
        "benchmark": "training",
        "cores": os.cpu_count(),
        "backbone": recipe.backbone.name,
        "epochs": recipe.train.epochs,
        "photos": {"trained on": counts(training, recipe.labels), "validated on": counts(validation, recipe.labels)},
        **summary(rows, uses_bf16(recipe)),
    }
    if quick:
        report["broken"] = []
    write_json(out / "training.json", {**report, "trainings": rows})
    click.echo(as_markdown(report["ways"]), nl=False)
    click.echo(json.dumps(report))
    if report["broken"]:
        raise CheckFailed("; ".join(report["broken"]))


def drawn(folder: Path, recipe: Recipe) -> list[Photo]:
    """Eight drawn photos of each label."""
    draw_set(folder, recipe, 8, seed=1)
    return read_photos(folder, recipe.labels)


def one_round(
    number: int, modes: Sequence[str], recipe: Recipe, training: Sequence[Photo], validation: Sequence[Photo]
) -> list[Row]:
    """Train once with each loop in each mode, from the same weights."""
    torch.manual_seed(number)
    start = build(recipe.backbone, len(recipe.labels))
    recipe = override(recipe, "train", seed=number)
    ways = WAYS if number % 2 == 0 else WAYS[::-1]
    return [train_once(way, mode, copy.deepcopy(start), recipe, training, validation) for mode in modes for way in ways]


def train_once(
    way: str, mode: str, model: Classifier, recipe: Recipe, training: Sequence[Photo], validation: Sequence[Photo]
) -> Row:
    """One training: its seconds, and the accuracy of the trained model."""
    freeze, begun = MODES[mode], time.perf_counter()
    torch.manual_seed(recipe.train.seed)
    if way == WAYS[0]:
        train_as_the_document(model, training, validation, recipe.input, recipe.train.epochs, freeze)
    else:
        recipe = override(recipe, "train", freeze=freeze, precision="f32" if way == WAYS[2] else "auto")
        if freeze:
            model.freeze()
        optimise(model, training, validation, recipe, recipe.train)
    seconds = time.perf_counter() - begun
    scores = score(predict(model, validation, recipe), validation, recipe.labels)
    click.echo(f"round {recipe.train.seed + 1}, {mode}, {way}: {seconds:.1f} s, {scores}", err=True)
    return {"mode": mode, "way": way, "seconds": round(seconds, 2), "mean_accuracy": round(scores.mean_accuracy, 5)}


def summary(rows: Sequence[Row], bf16: bool) -> dict[str, Any]:
    """The figures of each loop and mode; `broken` lists the missed bounds."""
    ways, broken = [], []
    for mode in dict.fromkeys(row["mode"] for row in rows):
        base = _figures(rows, mode, WAYS[0])
        for way in WAYS:
            figures = _figures(rows, mode, way)
            fast = round(base["seconds"] / figures["seconds"], 2)
            ways.append({"mode": mode, "way": way, **figures, "times_as_fast": fast})
            bound = (bf16 or way != WAYS[1]) and BOUNDS.get((mode, way))
            if bound and fast < bound:
                broken.append(f"{mode}, {way}: {fast} times as fast, less than {bound:g}")
            if figures["mean_accuracy"] < base["mean_accuracy"]:
                broken.append(
                    f"{mode}, {way}: {figures['mean_accuracy']:.1%}, the document's loop {base['mean_accuracy']:.1%}"
                )
    return {"bf16": bf16, "ways": ways, "broken": broken}


def as_markdown(ways: Sequence[Row]) -> str:
    """A Markdown table with a row for each loop and mode."""
    lines = ["| trained | by | seconds (min to max) | times as fast | balanced accuracy |", "|---|---|---|---|---|"]
    lines += [
        f"| {row['mode']} | {row['way']} | {row['seconds']} ({row['min']} to {row['max']}) | {row['times_as_fast']} "
        f"| {row['mean_accuracy']:.1%} |"
        for row in ways
    ]
    return "\n".join(lines) + "\n"


def _figures(rows: Sequence[Row], mode: str, way: str) -> dict[str, float]:
    """Median, least and most seconds, and mean accuracy, over the rounds."""
    chosen = [row for row in rows if (row["mode"], row["way"]) == (mode, way)]
    seconds = [row["seconds"] for row in chosen]
    return {
        "seconds": round(statistics.median(seconds), 2),
        "min": min(seconds),
        "max": max(seconds),
        "mean_accuracy": round(statistics.mean(row["mean_accuracy"] for row in chosen), 5),
    }


if __name__ == "__main__":
    main()
