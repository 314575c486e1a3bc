"""Predict photos with a run or a bundle, without a server.

    python -m training predict runs/classroom/ID-prune room.jpg call.png

prints one JSON line for each photo, in order: result, probabilities, milliseconds of each stage, and the device.
A run is computed by PyTorch (on a GPU where there is one), a bundle by the engine that serves it. A run is not
calibrated (temperature scaling happens at export), so its probabilities are overconfident. A photo that cannot be
read gets a line with its `error`; the others are still predicted, and the exit code is 1.
"""

import json
from pathlib import Path
from typing import Any

import click
import numpy as np

from common.cli import command
from common.errors import InvalidInput
from config.recipe import Recipe
from handler.errors import RequestError
from training.evaluation.predictor import Infer, load_predictor, timed
from training.options import run_argument


@command(epilog="Example: python -m training predict runs/shapes/ID-prune runs/drawn/disc/0000.jpg")
@run_argument
@click.argument("photos", nargs=-1, type=click.Path(path_type=Path), metavar="PHOTO...")
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where a run is computed; auto: on the GPU where there is one. A bundle always runs on the CPU.",
)
def predict(run: Path, photos: tuple[Path, ...], device: str) -> None:
    """Predict each PHOTO with RUN (a run's folder, or a bundle), one JSON line each."""
    if not photos:
        raise InvalidInput("no photo was given", f"give at least one photo: python -m training predict {run} PHOTO")
    recipe, infer, name = load_predictor(run, device)
    infer(np.zeros(recipe.input.shape, np.uint8))  # the first call allocates and compiles
    failed = 0
    for photo in photos:
        line = answer(photo, recipe, infer, name)
        click.echo(json.dumps(line, ensure_ascii=False))
        failed += "error" in line
    if failed:
        raise SystemExit(1)


def answer(photo: Path, recipe: Recipe, infer: Infer, device: str) -> dict[str, Any]:
    """One photo's line; milliseconds from the file's bytes in memory to the logits."""
    name = click.format_filename(photo)
    try:
        _, prediction, milliseconds = timed(photo.read_bytes(), recipe, infer.answer)
    except OSError as error:
        message = f"the file cannot be read: {error.strerror}"
        return {"photo": name, "error": {"code": "unreadable_file", "message": message}}
    except RequestError as error:
        return {"photo": name, "error": error.as_json()}
    scores, in_scope = prediction.logits.softmax(0), prediction.in_scope
    confidence = float(scores.max())
    return {
        "photo": name,
        "result": recipe.labels[int(scores.argmax())],
        "probabilities": {label: round(float(p), 6) for label, p in zip(recipe.labels, scores, strict=True)},
        "confidence": round(confidence, 6),
        "unsure": confidence < recipe.answer.unsure_below,
        **({} if in_scope is None else _scope(in_scope, recipe)),
        "milliseconds": milliseconds,
        "device": device,
    }


def _scope(in_scope: float, recipe: Recipe) -> dict[str, Any]:
    return {"in_scope": round(in_scope, 6), "out_of_scope": recipe.answer.is_out_of_scope(in_scope)}
