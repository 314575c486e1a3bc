"""Answers -> evidence: how good, how sure, how fast, and what happens to photos as the world sends them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.progress import track
from torch import Tensor

from config.recipe import Recipe
from dataset.photos import Photo
from handler.image import open_photo, to_input
from handler.spec import Input
from training.data.loader import naming
from training.evaluation.corruptions import CHANGES
from training.evaluation.metrics import Scores, calibration, roc_auc, score
from training.fitting.loop import console
from training.predict import STAGES, Infer, timed

Spent = Mapping[str, float]


@dataclass(frozen=True)
class Evidence:
    """What was asked and answered: `logits` has shape (photos, classes), `changed` the same by change."""

    recipe: Recipe
    photos: Sequence[Photo]
    logits: Tensor
    spent: Sequence[Spent]
    changed: Mapping[str, Tensor]
    ambiguous: Tensor | None

    @property
    def scores(self) -> Scores:
        return score(self.logits, self.photos, self.recipe.labels)

    @property
    def probabilities(self) -> Tensor:
        return self.logits.softmax(1)

    @property
    def truth(self) -> Tensor:
        return torch.tensor([photo.label for photo in self.photos])

    def hardest(self, count: int) -> list[int]:
        """Indices of the photos whose own label got the least probability, hardest first."""
        own = self.probabilities[torch.arange(len(self.photos)), self.truth]
        return [int(index) for index in own.argsort()[:count]]

    def as_json(self) -> dict[str, Any]:
        """Everything but the photos themselves."""
        error, bins = calibration(self.probabilities, self.truth)
        return {
            "metrics": self.scores.as_json()
            | {"roc_auc": roc_auc(self.probabilities, self.truth), "expected_calibration_error": error},
            "reliability": bins,
            "milliseconds": latency(self.spent),
            "confidence": spread(self.probabilities, self.recipe),
            "ambiguous": None if self.ambiguous is None else self._ambiguous(self.ambiguous),
            "changes": {name: self._change(logits) for name, logits in self.changed.items()},
        }

    def _ambiguous(self, logits: Tensor) -> dict[str, Any]:
        """How sure the answers about ambiguous photos are, and in words whether less than about the labelled ones."""
        entry, labelled = spread(logits.softmax(1), self.recipe), spread(self.probabilities, self.recipe)
        lower = entry["median"] < labelled["median"]
        told = f"{'less' if lower else 'NOT less'} sure of ambiguous photos: median {entry['median']}"
        return {**entry, "lower": lower, "told": told}

    def _change(self, logits: Tensor) -> dict[str, Any]:
        flips = int((logits.argmax(1) != self.logits.argmax(1)).sum())
        return {**score(logits, self.photos, self.recipe.labels).as_json(), "answers_that_changed": flips}


def gather(
    recipe: Recipe, infer: Infer, photos: Sequence[Photo], ambiguous: Sequence[Path] = (), changes: bool = True
) -> Evidence:
    """Ask every photo, as it is and changed, and every ambiguous one.

    Raises:
        UserError: a photo cannot be read, naming it.
    """
    chosen = CHANGES if changes else {}
    logits, spent = measure(recipe, infer, photos)
    rows: dict[str, list[Tensor]] = {name: [] for name in chosen}
    if chosen:
        for photo in track(photos, "asking about changed photos", console=console, transient=True):
            upright = _upright(photo.path, recipe)
            for name, change in chosen.items():
                rows[name].append(_ask(recipe, infer, upright, change))
    unsure = [_ask(recipe, infer, _upright(path, recipe, recipe.input)) for path in ambiguous]
    return Evidence(
        recipe,
        photos,
        logits,
        spent,
        {name: torch.stack(answers) for name, answers in rows.items()},
        torch.stack(unsure) if unsure else None,
    )


def measure(recipe: Recipe, infer: Infer, photos: Sequence[Photo]) -> tuple[Tensor, list[Spent]]:
    """Ask every photo once.

    Returns:
        logits, shape (photos, classes), and for each photo the milliseconds of each stage and together.
    """
    logits: list[Tensor] = []
    spent: list[Spent] = []
    for photo in track(photos, "asking", console=console, transient=True):
        with naming(photo.path):
            _, answer, times = timed(photo.path.read_bytes(), recipe, infer)
        logits.append(answer)
        spent.append(times)
    return torch.stack(logits), spent


def latency(spent: Sequence[Spent]) -> dict[str, dict[str, float]]:
    """Milliseconds by stage: median (p50) and p95 over all photos but the first, which warms up."""
    rows = spent[1:] or spent
    return {
        name: {
            "p50": round(float(np.median([row[name] for row in rows])), 2),
            "p95": round(float(np.percentile([row[name] for row in rows], 95)), 2),
        }
        for name in (*STAGES, "together")
    }


def spread(probabilities: Tensor, recipe: Recipe) -> dict[str, float]:
    """How sure the answers are: photos, quartiles of the confidence, share below the recipe's `unsure_below`."""
    confidence = probabilities.max(1).values.double().numpy()
    low, middle, high = (round(float(value), 4) for value in np.percentile(confidence, (25, 50, 75)))
    unsure = round(float((confidence < recipe.answer.unsure_below).mean()), 4)
    return {
        "photos": len(confidence),
        "lower_quartile": low,
        "median": middle,
        "upper_quartile": high,
        "unsure": unsure,
    }


def _upright(path: Path, recipe: Recipe, size: Input | None = None) -> Image.Image:
    """A photo as it is served (`size`), or with every pixel, to be changed first."""
    with naming(path):
        return open_photo(path.read_bytes(), recipe.limits, size)


def _ask(
    recipe: Recipe,
    infer: Infer,
    photo: Image.Image,
    change: Callable[[Image.Image], Image.Image] = lambda photo: photo,
) -> Tensor:
    return infer(to_input(change(photo), recipe.input))
