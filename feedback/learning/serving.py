"""Conditions of the gate about how a candidate answers: how sure, how fast, how large. Pure functions.

Both models are asked about the same photos: the random sample if it has enough photos, otherwise the frozen ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.words import number_of
from feedback.learning.conditions import Condition

MOST_CALIBRATION_ERROR = 0.03
CHANCE = 0.95
DRAWS = 2_000
SEED = 20260102
BINS = 10
MOST_UNSURE = 1.5
"""The candidate's unsure photos, as a multiple of the anchor's."""
UNSURE_SLACK = 0.01
"""Share of the photos that may be unsure besides: with few unsure ones a multiple of them says nothing."""
MOST_BYTES = 1.1
FAST = 0.1
"""Latency is the lower decile: other work on the machine only ever adds to it."""


@dataclass(frozen=True)
class Answers:
    """How a model answered photos.

    Attributes:
        right: whether each answer is the label.
        confidences: of each answer, 0 to 1.
        milliseconds: of each answer, preprocessing left out.
        unsure_below: of its recipe.
        size: bytes of its graph.
    """

    right: Sequence[bool]
    confidences: Sequence[float]
    milliseconds: Sequence[float]
    unsure_below: float
    size: int


def calibrated(anchor: Answers, candidate: Answers) -> Condition:
    """Condition 5: its confidence is its accuracy: as nearly as the anchor's, or as chance makes it on few photos."""
    error, before = _calibration_error(candidate), _calibration_error(anchor)
    chance = _error_by_chance(np.asarray(candidate.confidences))
    most = max(MOST_CALIBRATION_ERROR, before, chance)
    sentence = (
        f"its confidence differs from its accuracy by {error:.3f} on average (calibration error, "
        f"{number_of(len(candidate.right), 'photo')}), at most {most:.3f} is allowed"
    )
    numbers = {"photos": len(candidate.right), "error": round(error, 4), "anchor": round(before, 4)}
    return Condition("calibrated", error <= most, sentence, {**numbers, "by_chance": round(chance, 4)})


def not_less_sure(anchor: Answers, candidate: Answers) -> Condition:
    """Condition 6: hardly more photos are unsure."""
    counts = [sum(p < answers.unsure_below for p in answers.confidences) for answers in (anchor, candidate)]
    most = MOST_UNSURE * counts[0] + max(1.0, UNSURE_SLACK * len(candidate.right))
    sentence = (
        f"{counts[1]} of {len(candidate.right)} answers are unsure, {counts[0]} of the anchor's are; "
        f"at most {most:.0f} may be"
    )
    numbers = {"photos": len(candidate.right), "unsure": counts[1], "anchor": counts[0], "most": round(most, 1)}
    return Condition("not less sure", counts[1] <= most, sentence, numbers)


def as_fast(anchor: Answers, candidate: Answers, most_ratio: float) -> Condition:
    """Condition 7: its latency, as a multiple of the anchor's, is at most what the recipe allows a rollout."""
    before, after = (_lower_decile(answers.milliseconds) for answers in (anchor, candidate))
    ratio = after / before if before else 1.0
    sentence = (
        f"an answer takes {after:.2f} ms, {ratio:.2f} times as long as the anchor's; at most {most_ratio:g} times"
    )
    numbers = {"milliseconds": round(after, 3), "anchor": round(before, 3), "ratio": round(ratio, 3)}
    return Condition("as fast", ratio <= most_ratio, sentence, {**numbers, "most": most_ratio})


def as_small(anchor: Answers, candidate: Answers) -> Condition:
    """Condition 8: the graph is at most a tenth larger."""
    ratio = candidate.size / anchor.size
    sentence = f"the graph has {candidate.size:,} bytes, {ratio:.2f} times the anchor's; at most {MOST_BYTES} times"
    numbers = {"bytes": candidate.size, "anchor": anchor.size, "ratio": round(ratio, 3)}
    return Condition("as small", ratio <= MOST_BYTES, sentence, numbers)


def _calibration_error(answers: Answers) -> float:
    if not answers.right:
        return 0.0
    return float(_error(np.asarray(answers.confidences), np.asarray([answers.right], np.float64))[0])


def _error(confidences: npt.NDArray[np.float64], right: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Expected calibration error with bins of equally many photos.

    Args:
        confidences: shape (photos,).
        right: shape (draws, photos), 0 or 1.

    Returns:
        shape (draws,).
    """
    mixed = np.random.default_rng(SEED).permutation(len(confidences))  # equal confidences come sorted by label
    order = mixed[np.argsort(confidences[mixed], kind="stable")]
    gaps = (right - confidences)[:, order]
    parts = np.array_split(gaps, BINS, axis=1)
    return np.asarray(sum(np.abs(part.sum(axis=1)) for part in parts) / len(confidences), np.float64)


def _error_by_chance(confidences: npt.NDArray[np.float64]) -> float:
    """What a perfectly calibrated model with these confidences exceeds in one of twenty samples."""
    if not len(confidences):
        return 0.0
    right = np.random.default_rng(SEED).random((DRAWS, len(confidences))) < confidences
    return float(np.quantile(_error(confidences, right.astype(np.float64)), CHANCE))


def _lower_decile(values: Sequence[float]) -> float:
    return float(np.quantile(values, FAST)) if values else 0.0
