"""The golden photos of a bundle: drawn, asked of the graph as it is served, and written with its answers.

A label with a drawing (recipe: `drawn`) gets photos of its own, answered rightly and with a margin. Where labels have
none, patterns stand in: drawings of no label, of which those with the clearest answers are kept. Their probabilities
pin the graph just as well; only that the answer is right, they do not say.
"""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import UserError
from common.files import write_json, write_whole
from config.recipe import Recipe
from dataset.draw import DRAWINGS, draw
from handler import engine, goldens
from handler.image import preprocess

GOLDEN_SEED = 900_000_000  # far from the seeds of `dataset sample`
TRIES = 200
"""Drawings of one label that are tried."""
CANDIDATES = 3
"""So many sound drawings are found for each one that is kept."""


def draw_goldens(folder: Path, recipe: Recipe) -> None:
    """Write goldens.json and its photos beside a graph.

    Raises:
        UserError: a label's drawings are not answered rightly and with the recipe's margin.
    """
    run = engine.load(folder / "model.onnx", recipe)
    each = -(-recipe.goldens.count // len(recipe.labels))
    rows = [row for label in recipe.labels if label in recipe.drawn for row in _own(folder, recipe, run, label, each)]
    if any(label not in recipe.drawn for label in recipe.labels):
        rows += _patterns(folder, recipe, run, max(2, recipe.goldens.count - len(rows)))
    write_json(folder / goldens.FILE, rows)


def _own(folder: Path, recipe: Recipe, run: engine.Engine, label: str, each: int) -> list[dict[str, Any]]:
    """The smallest of the drawn photos of one label that are answered rightly and with the recipe's margin."""
    sound: list[tuple[bytes, engine.Probabilities]] = []
    index = recipe.labels.index(label)
    for attempt in range(TRIES):
        data = _drawn(recipe.drawn[label], attempt)
        answer = run(preprocess(data, recipe.input, recipe.limits))
        if answer.argmax() == index and _margin(answer) >= recipe.goldens.margin:
            sound.append((data, answer))
        if len(sound) == CANDIDATES * each:
            break
    if len(sound) < each:
        raise UserError(
            f"only {len(sound)} of {TRIES} drawn photos of {label} are answered with a margin of "
            f"{recipe.goldens.margin}: train on drawn photos too (--extra), or take the label out of drawn"
        )
    sound.sort(key=lambda pair: len(pair[0]))  # they lie in every archive and are asked at every start
    return [
        _write(folder, f"goldens/{index}_{number}.jpg", data, label, answer)
        for number, (data, answer) in enumerate(sound[:each])
    ]


def _patterns(folder: Path, recipe: Recipe, run: engine.Engine, count: int) -> list[dict[str, Any]]:
    """The patterns whose answers are clearest, clearest first."""
    kinds = sorted(DRAWINGS)
    drawn = [_drawn(kinds[number % len(kinds)], number) for number in range(CANDIDATES * count)]
    asked = [(run(preprocess(data, recipe.input, recipe.limits)), data) for data in drawn]
    asked.sort(key=lambda pair: _margin(pair[0]), reverse=True)
    return [
        _write(folder, f"goldens/pattern_{number}.jpg", data, recipe.labels[int(answer.argmax())], answer)
        | {"own": False}
        for number, (answer, data) in enumerate(asked[:count])
    ]


def _drawn(kind: str, attempt: int) -> bytes:
    buffer = BytesIO()
    draw(kind, GOLDEN_SEED + attempt).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _margin(answer: engine.Probabilities) -> float:
    second, first = np.sort(answer)[-2:]
    return float(first - second)


def _write(folder: Path, name: str, data: bytes, label: str, answer: engine.Probabilities) -> dict[str, Any]:
    write_whole(folder / name, data)
    return {"photo": name, "label": label, "probabilities": [round(float(p), 6) for p in answer]}
