"""Whether a child may take its parent's place: accurate enough, little lost, few photos flipped."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from config.recipe import Recipe
from dataset.photos import Photo
from training.evaluation.metrics import score


@dataclass(frozen=True)
class Paired:
    """Two models on the same photos: answers `lost` (right before, wrong after) and `won`, and how far p moved.

    `mean_change` is the mean of |p after - p before| of each photo's own label, 0 to 1.
    """

    photos: int
    lost: int
    won: int
    mean_change: float

    @property
    def net_flips(self) -> int:
        return self.lost - self.won

    def as_json(self) -> dict[str, Any]:
        """For run.json."""
        return {**asdict(self), "net_flips": self.net_flips}

    def __str__(self) -> str:
        return f"{self.lost} photos lost, {self.won} won, mean |dp| {self.mean_change:.4f}"


def compare(before: Tensor, after: Tensor, photos: Sequence[Photo]) -> Paired:
    """Pair two models' logits (or log-probabilities), both of shape (photos, classes)."""
    truth = torch.tensor([photo.label for photo in photos], dtype=torch.long)
    right, now = before.argmax(1) == truth, after.argmax(1) == truth
    own = torch.arange(len(truth))
    moved = (after.double().softmax(1)[own, truth] - before.double().softmax(1)[own, truth]).abs()
    mean = float(moved.mean()) if len(truth) else 0.0
    return Paired(len(truth), int((right & ~now).sum()), int((~right & now).sum()), round(mean, 5))


def strain(before: Tensor, after: Tensor, photos: Sequence[Photo], recipe: Recipe) -> float:
    """How much a child uses of what it may lose, `gate.max_loss` and `prune.most_flips`: 0 nothing, up to 1 within.

    Args:
        before, after: logits (or log-probabilities) of parent and child, shape (photos, classes).
    """
    found = [score(logits, photos, recipe.labels).mean_accuracy for logits in (before, after)]
    lost, flips = found[0] - found[1], compare(before, after, photos).net_flips
    return max(_share(lost - 1e-9, recipe.gate.max_loss), _share(flips, recipe.prune.most_flips))


def _share(value: float, most: float) -> float:
    if value <= 0:
        return 0.0
    return value / most if most else float("inf")


def gate(found: float, parent: float, recipe: Recipe) -> dict[str, Any]:
    """Whether a child may be packed: accurate enough, and not much worse than its unpruned parent.

    Args:
        found, parent: means of the classes' accuracies on the same held-out photos.
    """
    lost = parent - found
    passed = found >= recipe.gate.mean_accuracy and lost <= recipe.gate.max_loss + 1e-9
    return {
        "passed": passed,
        "mean_accuracy": round(found, 5),
        "least_mean_accuracy": recipe.gate.mean_accuracy,
        "lost": round(lost, 5),
        "most_lost": recipe.gate.max_loss,
    }
