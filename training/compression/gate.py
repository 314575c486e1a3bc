"""Decide whether a smaller model may replace its parent: accurate enough, little lost, few answers changed."""

from collections.abc import Sequence

import torch
from torch import Tensor

from config.recipe import Recipe
from dataset.photos import Photo
from training.evaluation.metrics import score
from training.records.run import Flips, GateResult


def compare(before: Tensor, after: Tensor, photos: Sequence[Photo]) -> Flips:
    """Regressions and fixes between two models' logits (or log-probabilities), both of shape (photos, classes)."""
    truth = torch.tensor([photo.label for photo in photos], dtype=torch.long)
    was_right, is_right = before.argmax(1) == truth, after.argmax(1) == truth
    rows = torch.arange(len(truth))
    moved = (after.double().softmax(1)[rows, truth] - before.double().softmax(1)[rows, truth]).abs()
    mean = float(moved.mean()) if len(truth) else 0.0
    regressions, fixes = int((was_right & ~is_right).sum()), int((~was_right & is_right).sum())
    return Flips(
        photos=len(truth),
        regressions=regressions,
        fixes=fixes,
        mean_change=round(mean, 5),
        net_flips=regressions - fixes,
    )


def budget_used(before: Tensor, after: Tensor, photos: Sequence[Photo], recipe: Recipe) -> float:
    """The share of the allowed loss that a child uses, of `gate.max_loss` or `prune.most_flips`, the larger one.

    Args:
        before, after: logits (or log-probabilities) of parent and child, shape (photos, classes).

    Returns:
        0 where nothing is lost; up to 1 is within the budget.
    """
    accuracies = [score(logits, photos, recipe.labels).mean_accuracy for logits in (before, after)]
    lost, flips = accuracies[0] - accuracies[1], compare(before, after, photos).net_flips
    return max(_share(lost - 1e-9, recipe.gate.max_loss), _share(flips, recipe.prune.most_flips))


def _share(value: float, most: float) -> float:
    if value <= 0:
        return 0.0
    return value / most if most else float("inf")


def gate(accuracy: float, parent: float, recipe: Recipe) -> GateResult:
    """Whether a model may be packed: accurate enough, and not much worse than its unpruned parent.

    Args:
        accuracy, parent: balanced accuracies on the same held-out photos.
    """
    lost = parent - accuracy
    return GateResult(
        passed=accuracy >= recipe.gate.mean_accuracy and lost <= recipe.gate.max_loss + 1e-9,
        mean_accuracy=round(accuracy, 5),
        least_mean_accuracy=recipe.gate.mean_accuracy,
        lost=round(lost, 5),
        most_lost=recipe.gate.max_loss,
    )
