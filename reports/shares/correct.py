"""Shares corrected for the classifier's errors, with intervals. Pure functions of counts.

A classifier with sensitivity se and specificity sp reads a true share p as q = p se + (1 - p)(1 - sp). So
p = (q + sp - 1) / (se + sp - 1), cut off at 0 and 1 (Rogan and Gladen 1978). se, sp and q are drawn from their
posteriors (Jeffreys' prior), and the interval is that of the drawn p: the delta method's intervals cover too little
(BMC Public Health 2020, 12889-020-09177-4).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

DRAWS = 2000
MIN_PHOTOS = 10
"""Below this many photos a share is "too few"."""
MIN_REVIEWED = 30
"""Below this many reviewed photos shares are not corrected."""
MIN_YOUDEN = 0.5
"""se + sp - 1 below which the classifier says too little to be corrected."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Stratum:
    """Reviewed photos that the classifier answered alike.

    Attributes:
        positive: it answered the label whose share is reported.
        photos: of this kind in the whole population.
        reviewed: of them drawn at random and reviewed; `right`: of these with the answered label.
    """

    positive: bool
    photos: int
    reviewed: int
    right: int


@dataclass(frozen=True)
class Outside:
    """Reviewed photos that the classifier took for out of scope: with the reported label, another one, or none."""

    label: int
    other: int
    none: int

    @property
    def reviewed(self) -> int:
        """How many were reviewed."""
        return self.label + self.other + self.none


@dataclass(frozen=True)
class Accuracy:
    """Draws of sensitivity and specificity, shape (draws,) each, and on how many photos they rest.

    `outside`: draws of which part of the out-of-scope photos shows the label, and which another one, shape (2, draws);
    None: none were reviewed.
    """

    sensitivity: Floats
    specificity: Floats
    reviewed: int
    outside: Floats | None = None

    @property
    def usable(self) -> bool:
        """Whether shares can be corrected with it."""
        youden = float(np.median(self.sensitivity + self.specificity - 1))
        return self.reviewed >= MIN_REVIEWED and youden >= MIN_YOUDEN


@dataclass(frozen=True)
class Share:
    """A share of 0 to 1 and its 95 % interval."""

    value: float
    low: float
    high: float


def accuracy_of(
    true_positive: int, false_negative: int, true_negative: int, false_positive: int, seed: int = 0
) -> Accuracy:
    """Sensitivity and specificity from photos that were drawn at random from all photos and reviewed."""
    rng = np.random.default_rng(seed)
    reviewed = true_positive + false_negative + true_negative + false_positive
    return Accuracy(
        _beta(rng, true_positive, false_negative), _beta(rng, true_negative, false_positive), reviewed
    )  # fmt: skip


def accuracy_of_strata(strata: Sequence[Stratum], outside: Outside | None = None, seed: int = 0) -> Accuracy:
    """Sensitivity and specificity from photos drawn at random within each answer of the classifier.

    Of each answer the share that is right is drawn; weighted with how often the classifier gives that answer, it yields
    the two rates. Several strata with the same answer are added in proportion to their photos.
    """
    rng = np.random.default_rng(seed)
    right = {True: np.zeros(DRAWS), False: np.zeros(DRAWS)}
    wrong = {True: np.zeros(DRAWS), False: np.zeros(DRAWS)}
    for stratum in strata:
        rate = _beta(rng, stratum.right, stratum.reviewed - stratum.right)
        right[stratum.positive] += stratum.photos * rate
        wrong[stratum.positive] += stratum.photos * (1 - rate)
    with np.errstate(invalid="ignore", divide="ignore"):
        sensitivity = np.nan_to_num(right[True] / (right[True] + wrong[False]))
        specificity = np.nan_to_num(right[False] / (right[False] + wrong[True]))
    lost = None
    if outside and outside.reviewed:
        counts = np.array([outside.label, outside.other, outside.none]) + 0.5
        lost = np.random.default_rng([seed, 2]).dirichlet(counts, DRAWS).T[:2]
    return Accuracy(sensitivity, specificity, sum(stratum.reviewed for stratum in strata), lost)


def raw_share(positive: int, photos: int, seed: int = 0) -> Share | None:
    """The share as the classifier reads it, with the interval of the count alone; None: no photo.

    The interval of none begins at 0 and that of all ends at 1 (Brown, Cai and DasGupta 2001, 10.1214/ss/1009213286).
    """
    if not photos:
        return None
    low, high = _interval(_beta(np.random.default_rng(seed), positive, photos - positive))
    return Share(positive / photos, low if positive else 0.0, high if positive < photos else 1.0)


def corrected_share(positive: int, photos: int, accuracy: Accuracy, outside: int = 0, seed: int = 0) -> Share | None:
    """The share corrected for the classifier's errors; None: too few photos, or the accuracy is not usable.

    If out-of-scope photos were reviewed, those that show a class are added: the share is then of all class photos.
    Where nearly all draws are cut off at 0 or 1 the interval has no width, because the reviewed rates do not hold for
    these photos: it then reaches as far as that of the raw share.

    Args:
        positive: photos that the classifier answered with the label.
        photos: all photos counted.
        outside: photos out of scope, which are not counted.
    """
    if photos < MIN_PHOTOS or not accuracy.usable:
        return None
    read = _beta(np.random.default_rng([seed, positive, photos]), positive, photos - positive)
    gain = accuracy.sensitivity + accuracy.specificity - 1
    gain = np.where(gain > 0, gain, np.nan)
    draws = np.clip((read + accuracy.specificity - 1) / gain, 0, 1)
    if accuracy.outside is not None:
        label, other = accuracy.outside * outside
        draws = (draws * photos + label) / (photos + label + other)
    draws = draws[~np.isnan(draws)]
    low, high = _interval(draws)
    if low == high:
        read_low, read_high = _interval(read)
        low, high = min(low, read_low), max(high, read_high)
    return Share(float(np.median(draws)), low, high)


def _beta(rng: np.random.Generator, successes: int, failures: int) -> Floats:
    return rng.beta(successes + 0.5, failures + 0.5, DRAWS)


def _interval(draws: Floats) -> tuple[float, float]:
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), float(high)
