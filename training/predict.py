"""Ask a run or a bundle about photos, without a server.

    python -m training predict runs/classroom/ID-prune room.jpg call.png

prints one JSON line for each photo, in order: result, probabilities, where the time went, and what computed it.
A run is asked in torch (on a GPU where there is one), a bundle as it is served. The probabilities of a run
are not tempered: that is done at export, so they are surer than they should be. A photo that cannot be read is
a line with its `error`; the others are still answered, and the exit code is 1.
"""

import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image

from common.cli import command
from common.errors import UserError
from config.recipe import Recipe
from handler import engine
from handler.errors import RequestError
from handler.image import Pixels, open_photo, to_input
from training.records.run import load_model, read_run

STAGES = ("decode", "resize", "inference")
GRAPH = "model.onnx"
Infer = Callable[[Pixels], torch.Tensor]
"""uint8 (channels, H, W) -> logits or log-probabilities, shape (classes,), float32, on the CPU."""


@command(epilog="Example: python -m training predict runs/shapes/ID-prune runs/drawn/disc/0000.jpg")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("photos", nargs=-1, type=click.Path(path_type=Path), metavar="PHOTO...")
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="What computes a run; auto: the GPU where there is one. A bundle is asked on the CPU.",
)
def predict(run: Path, photos: tuple[Path, ...], device: str) -> None:
    """Ask RUN (a run's folder, or a bundle) about each PHOTO, one JSON line each."""
    if not photos:
        raise UserError(f"give at least one photo: python -m training predict {run} PHOTO")
    recipe, infer, name = inference(run, device)
    infer(np.zeros(recipe.input.shape, np.uint8))  # the first one allocates and compiles
    failed = 0
    for photo in photos:
        line = answer(photo, recipe, infer, name)
        click.echo(json.dumps(line, ensure_ascii=False))
        failed += "error" in line
    if failed:
        raise SystemExit(1)


def inference(run: Path, device: str = "auto") -> tuple[Recipe, Infer, str]:
    """Load a run in torch, or a bundle in the engine that serves it.

    Args:
        run: a folder of runs/RECIPE/, or a bundle (with model.onnx).
        device: `auto`, `cpu` or `cuda`; a bundle is always asked on the CPU.

    Returns:
        its recipe; a function from one photo to its logits; what computes: `cpu`, `cuda`, or `cpu (ENGINE)`.

    Raises:
        UserError: it is no complete run, it cannot be loaded, or there is no such device.
    """
    if (run / GRAPH).is_file():
        return _bundle(run, device)
    name = _device(device)
    recipe, model, _ = load_model(run)
    model.to(name)

    @torch.no_grad()
    def infer(pixels: Pixels) -> torch.Tensor:
        logits: torch.Tensor = model(torch.from_numpy(pixels)[None].to(name))[0]
        return logits.cpu()  # which also waits for the GPU

    return recipe, infer, name


def served(graph: Path, recipe: Recipe) -> Infer:
    """A graph as it will be served: pixels -> log-probabilities, shape (classes,)."""
    ask = engine.load(graph, recipe)
    return lambda pixels: torch.from_numpy(np.log(np.clip(ask(pixels), 1e-12, 1)))


def answer(photo: Path, recipe: Recipe, infer: Infer, device: str) -> dict[str, Any]:
    """One photo's line; times in milliseconds, from the file's bytes in memory to the logits."""
    name = click.format_filename(photo)
    try:
        data = photo.read_bytes()
        _, logits, spent = timed(data, recipe, infer)
    except OSError as error:
        message = f"the file cannot be read: {error.strerror}"
        return {"photo": name, "error": {"code": "unreadable_file", "message": message}}
    except RequestError as error:
        return {"photo": name, "error": error.as_json()}
    scores = logits.softmax(0)
    confidence = float(scores.max())
    return {
        "photo": name,
        "result": recipe.labels[int(scores.argmax())],
        "probabilities": {label: round(float(p), 6) for label, p in zip(recipe.labels, scores, strict=True)},
        "confidence": round(confidence, 6),
        "unsure": confidence < recipe.answer.unsure_below,
        "milliseconds": spent,
        "device": device,
    }


def timed(data: bytes, recipe: Recipe, infer: Infer) -> tuple[Image.Image, torch.Tensor, dict[str, float]]:
    """Ask about one picture file.

    Returns:
        the photo upright, its logits, and milliseconds of each stage and together.

    Raises:
        RequestError: it is no photo that we take.
    """
    marks = [time.perf_counter()]
    upright = open_photo(data, recipe.limits, recipe.input)
    marks.append(time.perf_counter())
    pixels = to_input(upright, recipe.input)
    marks.append(time.perf_counter())
    logits = infer(pixels)
    marks.append(time.perf_counter())
    spent = [(after - before) * 1000 for before, after in itertools.pairwise(marks)]
    stages = dict(zip((*STAGES, "together"), (*spent, sum(spent)), strict=True))
    return upright, logits, {stage: round(value, 2) for stage, value in stages.items()}


def _bundle(run: Path, device: str) -> tuple[Recipe, Infer, str]:
    if device == "cuda":
        raise UserError(
            f"{run} is a bundle, which is asked as it is served, on the CPU: leave out --device, or give the run itself"
        )
    recipe, _ = read_run(run)
    try:
        infer = served(run / GRAPH, recipe)
    except RuntimeError as error:
        raise UserError(f"{run}: {' '.join(str(error).split())[:200]}: export it again") from error
    return recipe, infer, f"cpu ({recipe.runtime.engine})"


def _device(wanted: str) -> str:
    present = torch.cuda.is_available()
    if wanted == "cuda" and not present:
        raise UserError("--device cuda: torch finds no GPU here: give --device cpu, or auto")
    return "cuda" if present and wanted != "cpu" else "cpu"
