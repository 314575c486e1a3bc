"""In which week an institution moved to another way of teaching, and back, with the uncertainty. Pure functions.

The model: outside one episode the label is rare, inside it is common; an institution may have no episode. Each pair of
first and last week, and "no episode", has a marginal likelihood in closed form (Beta-binomial), so their posterior
probabilities are computed exactly, without sampling. https://doi.org/10.1007/BF00127126 has the general method.
Weeks without a photo say nothing: an episode without photos is none, and one that covers the last photo has not ended.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betaln

MIN_PHOTOS = 5
"""An institution with fewer photos has too few."""
SURE = 0.9
"""Probability above which an institution is said to have moved, or to have stayed."""

_RARE, _COMMON = (1.0, 9.0), (9.0, 1.0)  # Beta priors of the label's share outside and inside an episode

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class When:
    """A week, counted from 0: the posterior's median, and the weeks that hold 90 % of its probability."""

    week: int
    low: int
    high: int


@dataclass(frozen=True)
class Move:
    """What the counts of an institution say.

    `state`: `moved`, `stayed` (no episode), `always` (the episode covers the first week), `unclear`, `too_few`.
    `probability`: that there is an episode. `moved` and `back`: None if it did not, or it cannot be said.
    """

    state: str
    probability: float = 0.0
    moved: When | None = None
    back: When | None = None


def find_move(positive: Counts, photos: Counts) -> Move:
    """Find the episode of one institution.

    Args:
        positive: photos with the label, by week, shape (weeks,).
        photos: all photos, by week, shape (weeks,).
    """
    weeks = len(photos)
    if int(photos.sum()) < MIN_PHOTOS:
        return Move("too_few")
    first, end, weight, none = _posterior(positive, photos)
    probability = 1 - none
    if probability <= 1 - SURE:
        return Move("stayed", probability)
    by_start = np.bincount(first, weight, weeks).astype(np.float64)
    by_end = np.bincount(end, weight, weeks + 1).astype(np.float64)
    if probability < SURE:
        return Move("unclear", probability)
    posted = np.flatnonzero(photos)
    ended, always = by_end[: posted[-1] + 1], by_start[: posted[0] + 1].sum() >= 0.5 * probability
    back = _when(ended) if ended.sum() > 0.5 * probability else None
    return Move("always", probability, None, back) if always else Move("moved", probability, _when(by_start), back)


def _posterior(positive: Counts, photos: Counts) -> tuple[Counts, Counts, npt.NDArray[np.float64], float]:
    """First weeks, ends (exclusive) and probabilities of all episodes, and the probability of none."""
    weeks = len(photos)
    first, end = np.triu_indices(weeks + 1, 1)
    yes, all_ = (np.concatenate([[0], np.cumsum(values)]) for values in (positive, photos))
    inside_yes, inside_all = yes[end] - yes[first], all_[end] - all_[first]
    evidence = _evidence(inside_yes, inside_all, _COMMON) + _evidence(
        yes[-1] - inside_yes, all_[-1] - inside_all, _RARE
    )
    never = float(_evidence(yes[-1], all_[-1], _RARE))
    prior = np.log(0.5 / len(first))
    top = max(float(evidence.max()) + prior, never + np.log(0.5))
    weight, none = np.exp(evidence + prior - top), float(np.exp(never + np.log(0.5) - top))
    none += float(weight[inside_all == 0].sum())
    weight[inside_all == 0] = 0
    total = float(weight.sum()) + none
    return first, end, weight / total, none / total


def _evidence(yes: Counts, all_: Counts, prior: tuple[float, float]) -> npt.NDArray[np.float64]:
    """Logarithm of the marginal likelihood of counts whose share has a Beta prior, up to a constant."""
    result: npt.NDArray[np.float64] = betaln(yes + prior[0], all_ - yes + prior[1]) - betaln(*prior)
    return result


def _when(weight: npt.NDArray[np.float64]) -> When:
    """The median, and the shortest stretch around it with 90 % of the probability."""
    weight = weight / weight.sum()
    week = low = high = int(np.searchsorted(weight.cumsum(), 0.5))
    while weight[low : high + 1].sum() < SURE:
        left = weight[low - 1] if low > 0 else -1.0
        right = weight[high + 1] if high + 1 < len(weight) else -1.0
        if left < 0 and right < 0:
            break
        low, high = (low - 1, high) if left > right else (low, high + 1)
    return When(week, low, high)
