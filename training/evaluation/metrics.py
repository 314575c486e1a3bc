"""Metrics of logits and labels: accuracy with intervals, calibration, and the temperature that calibrates."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from common.statistics import wilson
from dataset.photos import Photo


@dataclass(frozen=True)
class Scores:
    """Accuracy by class and balanced, with 95 % intervals.

    Args:
        confusion: `confusion[i][j]` photos have label i and prediction j.
        loss: mean cross-entropy, in nats.
    """

    labels: tuple[str, ...]
    confusion: list[list[int]]
    loss: float

    @property
    def accuracy(self) -> dict[str, float]:
        """Recall by label, 0 to 1; labels without a photo are left out."""
        return {
            label: row[index] / sum(row)
            for index, (label, row) in enumerate(zip(self.labels, self.confusion, strict=True))
            if sum(row)
        }

    @property
    def mean_accuracy(self) -> float:
        """Balanced accuracy: the mean recall of the classes that have photos, 0 to 1."""
        return sum(self.accuracy.values()) / max(1, len(self.accuracy))

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the balanced accuracy: the classes' Wilson half-widths added in quadrature."""
        below = above = 0.0
        for label in self.accuracy:
            low, high = wilson(*self._hits(label))
            below += (self.accuracy[label] - low) ** 2
            above += (high - self.accuracy[label]) ** 2
        count = max(1, len(self.accuracy))
        return self.mean_accuracy - math.sqrt(below) / count, min(1.0, self.mean_accuracy + math.sqrt(above) / count)

    def as_json(self) -> dict[str, Any]:
        """All figures, for run.json; `mean_accuracy` is the balanced accuracy."""
        return {
            "mean_accuracy": round(self.mean_accuracy, 5),
            "mean_accuracy_95": [round(value, 5) for value in self.interval],
            "accuracy": {label: round(value, 5) for label, value in self.accuracy.items()},
            "accuracy_95": {label: [round(v, 5) for v in wilson(*self._hits(label))] for label in self.accuracy},
            "confusion": self.confusion,
            "labels": list(self.labels),
            "loss": round(self.loss, 5),
        }

    def __str__(self) -> str:
        low, high = self.interval
        classes = ", ".join("{} {}/{}".format(label, *self._hits(label)) for label in self.accuracy)
        return f"{self.mean_accuracy:.1%} balanced accuracy (95 %: {low:.1%} to {high:.1%}), {classes}"

    def _hits(self, label: str) -> tuple[int, int]:
        index = self.labels.index(label)
        return self.confusion[index][index], sum(self.confusion[index])


def score(logits: Tensor, photos: Sequence[Photo], labels: Sequence[str]) -> Scores:
    """Compare logits, shape (photos, classes), with the photos' labels."""
    truth = torch.tensor([photo.label for photo in photos], dtype=torch.long)
    count = len(labels)
    confusion = torch.bincount(truth * count + logits.argmax(1), minlength=count * count).view(count, count)
    loss = float(torch.nn.functional.cross_entropy(logits, truth))
    return Scores(tuple(labels), confusion.tolist(), loss)


def roc_auc(probabilities: Tensor, truth: Tensor) -> float | None:
    """Area under the ROC curve of the second label; with more than two labels the mean of one label versus the rest.

    Args:
        probabilities: shape (photos, classes).

    Returns:
        0 to 1, or None where a class has no photo.

    Source: scikit-learn's roc_auc_score.
    """
    from sklearn.metrics import roc_auc_score

    classes = probabilities.shape[1]
    if len(truth.unique()) < classes:
        return None
    scores = probabilities[:, 1] if classes == 2 else probabilities / probabilities.sum(1, keepdim=True)
    return round(float(roc_auc_score(truth.numpy(), scores.double().numpy(), multi_class="ovr")), 5)


def calibration(probabilities: Tensor, truth: Tensor, bins: int = 10) -> tuple[float, list[dict[str, float]]]:
    """Expected calibration error (Naeini et al., 2015; Guo et al., 2017) over bins of equal width.

    Returns:
        mean |accuracy - confidence|, weighted by photos; and for each bin that has photos its lower end,
        photos, accuracy and mean confidence.
    """
    confidence, predicted = probabilities.max(1)
    correct = (predicted == truth).float()
    bin_of = (confidence * bins).long().clamp(max=bins - 1)
    rows = []
    for index in bin_of.unique().tolist():
        inside = bin_of == index
        rows.append(
            {
                "from": index / bins,
                "photos": int(inside.sum()),
                "accuracy": round(float(correct[inside].mean()), 5),
                "confidence": round(float(confidence[inside].mean()), 5),
            }
        )
    error = sum(row["photos"] * abs(row["accuracy"] - row["confidence"]) for row in rows) / max(1, len(truth))
    return round(error, 5), rows


def fit_temperature(logits: Tensor, truth: Tensor) -> float:
    """The divisor of the logits with the lowest loss on held-out photos (Guo et al., 2017), 0.25 to 10.

    The targets are Platt's (1999): (n + 1) / (n + 2) instead of 1 for a class with n photos. Otherwise a few photos
    that are all predicted correctly would drive every confidence to 1.
    """
    classes = logits.shape[1]
    share = (torch.bincount(truth, minlength=classes) + 1) / (torch.bincount(truth, minlength=classes) + 2)
    one_hot = torch.nn.functional.one_hot(truth, classes).float()
    targets = one_hot * share[truth, None] + (1 - one_hot) * (1 - share[truth, None]) / (classes - 1)
    candidates = torch.logspace(math.log10(0.25), 1, 400)
    losses = -(targets * (logits / candidates[:, None, None]).log_softmax(-1)).sum(-1).mean(-1)
    return round(float(candidates[losses.argmin()]), 4)
