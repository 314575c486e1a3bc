"""The golden photos of a bundle: drawn photos with the graph's probabilities.

A label with a drawing (recipe: `drawn`) gets photos that are predicted correctly with a margin. The other labels share
patterns: drawings of no label, of which those with the largest margins are kept. Their probabilities pin the graph just
as well, but do not show that a prediction is correct. With a scope there are also drawings of no class (a logo, a
chart ...) that the model finds out of scope.
"""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import CheckFailed
from common.files import write_json, write_whole
from config.recipe import NO_CLASS, Recipe
from dataset.draw import DRAWINGS, draw
from handler import engine, goldens
from handler.image import preprocess

GOLDEN_SEED = 900_000_000  # far from the seeds of `dataset sample`
TRIES = 200
"""The number of drawings that are tried per label."""
NO_CLASS_DRAWING = "papers"
OUT_OF_SCOPE = 2
"""The number of drawings of no class."""
CLEAR = 0.05
"""How far from 0 or 1 the probability of being in scope of a good golden photo is at most."""
CANDIDATES = 3
"""The number of good drawings to choose from for each one that is kept."""


def draw_goldens(folder: Path, recipe: Recipe) -> None:
    """Write goldens.json and its photos into the folder of a graph.

    Raises:
        CheckFailed: too few drawings of a label are predicted correctly with the recipe's margin.
    """
    run = engine.load(folder / "model.onnx", recipe)
    count = -(-recipe.goldens.count // len(recipe.labels))
    drawn = [label for label in recipe.labels if label in recipe.drawn]
    rows = [row for label in drawn for row in _of_label(folder, recipe, run, label, count)]
    if run.has_scope:
        rows += _outside(folder, recipe, run)
    if len(drawn) < len(recipe.labels):
        rows += _patterns(folder, recipe, run, max(2, recipe.goldens.count - len(rows)))
    write_json(folder / goldens.FILE, rows)


def _of_label(folder: Path, recipe: Recipe, run: engine.Engine, label: str, count: int) -> list[dict[str, Any]]:
    """The smallest files among the drawn photos of a label that are predicted correctly with the recipe's margin."""
    good: list[tuple[bytes, engine.Answer]] = []
    index = recipe.labels.index(label)
    for attempt in range(TRIES):
        data = _drawn(recipe.drawn[label], attempt)
        answer = run.answer(preprocess(data, recipe.input, recipe.limits))
        right = answer.probabilities.argmax() == index and _margin(answer) >= recipe.goldens.margin
        if right and not recipe.answer.is_out_of_scope(answer.in_scope):
            good.append((data, answer))
        if len(good) == CANDIDATES * count:
            break
    if len(good) < count:
        raise CheckFailed(
            f"only {len(good)} of {TRIES} drawn photos of {label} are predicted correctly with a margin of "
            f"{recipe.goldens.margin}",
            "train on drawn photos too (--extra), or remove the label from drawn",
        )
    # every archive contains them and every start predicts them, maybe on a processor that rounds int8 otherwise
    good.sort(key=lambda pair: (not _clear(pair[1]), len(pair[0])))
    return [
        _write(folder, f"goldens/{index}_{number}.jpg", data, label, answer)
        for number, (data, answer) in enumerate(good[:count])
    ]


def _patterns(folder: Path, recipe: Recipe, run: engine.Engine, count: int) -> list[dict[str, Any]]:
    """The patterns with the largest margins, largest first."""
    kinds = sorted(DRAWINGS)
    drawn = [_drawn(kinds[number % len(kinds)], number) for number in range(CANDIDATES * count)]
    predicted = [(run.answer(preprocess(data, recipe.input, recipe.limits)), data) for data in drawn]
    predicted.sort(key=lambda pair: _margin(pair[0]), reverse=True)
    return [
        _without_label(folder, f"goldens/pattern_{number}.jpg", data, answer, recipe)
        for number, (answer, data) in enumerate(predicted[:count])
    ]


def _outside(folder: Path, recipe: Recipe, run: engine.Engine) -> list[dict[str, Any]]:
    """Of some drawings of no class, those that are furthest out of scope."""
    drawn = [_drawn(NO_CLASS_DRAWING, number) for number in range(CANDIDATES * OUT_OF_SCOPE)]
    answers = [run.answer(preprocess(data, recipe.input, recipe.limits)) for data in drawn]
    scopes = [1.0 if answer.in_scope is None else answer.in_scope for answer in answers]
    return [
        _without_label(folder, f"goldens/{NO_CLASS}_{number}.jpg", drawn[number], answers[number], recipe)
        for number in sorted(range(len(drawn)), key=scopes.__getitem__)[:OUT_OF_SCOPE]
        if recipe.answer.is_out_of_scope(scopes[number])
    ]


def _drawn(kind: str, attempt: int) -> bytes:
    buffer = BytesIO()
    draw(kind, GOLDEN_SEED + attempt).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _clear(answer: engine.Answer) -> bool:
    """Whether rounding hardly changes the probability of being in scope."""
    return answer.in_scope is None or not CLEAR < answer.in_scope < 1 - CLEAR


def _margin(answer: engine.Answer) -> float:
    second, first = np.sort(answer.probabilities)[-2:]
    return float(first - second)


def _without_label(folder: Path, name: str, data: bytes, answer: engine.Answer, recipe: Recipe) -> dict[str, Any]:
    label = recipe.labels[int(answer.probabilities.argmax())]
    return _write(folder, name, data, label, answer) | {"own": False}


def _write(folder: Path, name: str, data: bytes, label: str, answer: engine.Answer) -> dict[str, Any]:
    write_whole(folder / name, data)
    scope = {} if answer.in_scope is None else {"in_scope": round(answer.in_scope, 6)}
    return {"photo": name, "label": label, "probabilities": [round(float(p), 6) for p in answer.probabilities], **scope}
