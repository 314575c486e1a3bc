"""How well a model tells photos of its classes from photos of no class: AUROC, and who passes, by kind."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from common.statistics import wilson
from training.evaluation.metrics import roc_auc
from training.records.run import Passed, ScopeFit


@dataclass(frozen=True)
class Scoped:
    """The probabilities of being in scope of photos of the classes and of photos of no class.

    Args:
        labels: of the photos of the classes.
        inside: their probabilities, shape (photos,).
        kinds: of the photos of no class.
        outside: their probabilities, shape (photos,).
    """

    labels: Sequence[str]
    inside: Tensor
    kinds: Sequence[str]
    outside: Tensor


def scored(scoped: Scoped, threshold: float) -> ScopeFit:
    """AUROC, and the shares in scope by label and by kind.

    Args:
        threshold: a photo whose probability is below it is out of scope.
    """
    return ScopeFit(
        threshold=round(threshold, 6),
        auroc=_auroc(scoped.inside, scoped.outside),
        kept=passed(scoped.labels, scoped.inside, threshold),
        passed=passed(scoped.kinds, scoped.outside, threshold),
    )


def passed(groups: Sequence[str], probabilities: Tensor, threshold: float) -> dict[str, Passed]:
    """The share in scope of each group, and of `all` if there are several groups."""
    names = sorted(set(groups))
    members = {name: [group == name for group in groups] for name in names}
    if len(names) > 1:
        members["all"] = [True] * len(groups)
    return {name: _passed(probabilities[torch.tensor(chosen)] >= threshold) for name, chosen in members.items()}


def _passed(hits: Tensor) -> Passed:
    count, photos = int(hits.sum()), len(hits)
    low, high = wilson(count, photos)
    return Passed(photos=photos, passed=count, share=round(count / photos, 5), share_95=(round(low, 5), round(high, 5)))


def _auroc(inside: Tensor, outside: Tensor) -> float | None:
    """Area under the ROC curve for telling both apart, 0 to 1; None without photos of one side."""
    truth = torch.tensor([1] * len(inside) + [0] * len(outside))
    scores = torch.cat([inside, outside])
    return roc_auc(torch.stack([1 - scores, scores], 1), truth)
