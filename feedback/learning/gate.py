"""Whether a fine-tuned model may replace the anchor: pure functions on counts and answers.

The anchor is the last model that a person signed, not last night's: otherwise many small losses, each too small to be
seen, add up. Corrections are no yardstick on their own, because they exist where the serving model was wrong; they are
one condition of several. A photo is a regression if the anchor was right and the candidate is wrong, a fix the other
way round; regressions, fixes and the rest have a Dirichlet(1/2, 1/2, 1) prior.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from common.words import number_of
from feedback.learning.conditions import Condition, Verdict

MOST_LOSS = 0.01
"""One point of accuracy."""
CERTAINTY = 0.95
DRAWS = 200_000
SEED = 20260101
MOST_ONCE_FIXED_LOST = 1
MOST_EVIDENCE = 20
"""Evidence (an e-value) of losses on the random sample from which a candidate is refused."""
LEAST_NEW = 20
"""Fewer newly agreed photos are no reason to train."""


@dataclass(frozen=True)
class Compared:
    """One photo: whether anchor and candidate answer it correctly, and its sampling probability, above 0 to 1."""

    anchor_right: bool
    candidate_right: bool
    probability: float = 1.0


@dataclass(frozen=True)
class Counts:
    """Photos of a set by outcome."""

    photos: int
    regressions: int
    fixes: int

    @classmethod
    def of(cls, photos: Iterable[Compared]) -> "Counts":
        rows = list(photos)
        lost = sum(row.anchor_right and not row.candidate_right for row in rows)
        won = sum(row.candidate_right and not row.anchor_right for row in rows)
        return cls(len(rows), lost, won)


def decide(
    frozen: Sequence[Compared],
    sample: Sequence[Compared],
    corrections: Sequence[Compared],
    once_fixed: Sequence[Compared],
    tries: int = 0,
    serving: Sequence[Condition] = (),
) -> Verdict:
    """Judge a candidate.

    Args:
        frozen: the frozen test photos.
        sample: reviewed photos of the random sample since the anchor.
        corrections: corrections that were held out from training, by uploader and chain of near duplicates.
        once_fixed: reviewed photos that were wrong once and that a former version fixed.
        tries: candidates since the anchor; each makes the first condition stricter.
        serving: conditions about calibration, latency and size (feedback/learning/serving.py).
    """
    return Verdict(
        (
            not_inferior(Counts.of(frozen), tries),
            not_worse_on_sample(sample),
            learned(Counts.of(corrections)),
            never_again(Counts.of(once_fixed)),
            *serving,
        )
    )


def probability_of_small_loss(counts: Counts, most: float = MOST_LOSS, draws: int = DRAWS) -> float:
    """P(share of regressions - share of fixes <= most), from the Dirichlet posterior, with a fixed seed."""
    rest = counts.photos - counts.regressions - counts.fixes
    shares = np.random.default_rng(SEED).dirichlet((counts.regressions + 0.5, counts.fixes + 0.5, rest + 1), draws)
    return float((shares[:, 0] - shares[:, 1] <= most).mean())


def _flips(counts: Counts) -> str:
    return f"{number_of(counts.regressions, 'regression')}, {number_of(counts.fixes, 'fix', 'fixes')}"


def not_inferior(counts: Counts, tries: int = 0, draws: int = DRAWS) -> Condition:
    """Condition 1: on the frozen set at most one point is lost, with a certainty that rises with the tries."""
    needed = 1 - (1 - CERTAINTY) / (tries + 1)
    found = probability_of_small_loss(counts, draws=draws)
    sentence = (
        f"the chance that at most {MOST_LOSS:.0%} is lost on the {number_of(counts.photos, 'frozen photo')} is "
        f"{found:.1%}, {needed:.1%} is needed ({_flips(counts)})"
    )
    numbers = {**asdict(counts), "probability": round(found, 4), "needed": round(needed, 4), "tries": tries}
    return Condition("not inferior on the frozen set", found >= needed, sentence, numbers)


def not_worse_on_sample(sample: Sequence[Compared]) -> Condition:
    """Condition 2: on the random sample, each photo weighted by 1 / its probability, at most one point is lost.

    "Nothing lost" would refuse more than a quarter of equal candidates with a sample of 100 (benchmarks/gates).

    The evidence is the mean of a likelihood ratio over all shares of losses above one half, so it may be read at any
    time; the estimate is the weighted difference in accuracy.
    """
    counts = Counts.of(sample)
    weights = [1 / row.probability for row in sample]
    gains = [weight * (row.candidate_right - row.anchor_right) for weight, row in zip(weights, sample, strict=True)]
    estimate = sum(gains) / sum(weights) if weights else 0.0
    evidence = evidence_of_losses(counts.regressions, counts.fixes)
    sentence = (
        f"on the {number_of(counts.photos, 'photo')} of the random sample the accuracy changes by "
        f"{100 * estimate:+.2f} points ({_flips(counts)})"
    )
    numbers = {**asdict(counts), "estimate": round(estimate, 5), "evidence": round(evidence, 3)}
    passed = estimate >= -MOST_LOSS and evidence < MOST_EVIDENCE
    return Condition("not worse on the random sample", passed, sentence, numbers)


def evidence_of_losses(lost: int, won: int) -> float:
    """E-value that more than half of the changed answers are losses; uniform prior on shares from 1/2 to 1."""
    if not lost + won:
        return 1.0
    shares = (np.arange(4000) + 0.5) / 8000 + 0.5
    logs = lost * np.log(2 * shares) + won * np.log(2 * (1 - shares))
    return float(np.exp(logs).mean())


def learned(counts: Counts) -> Condition:
    """Condition 3: more corrections that it has not seen are right than before, by at least two."""
    sentence = (
        f"of {counts.photos} corrections that it has not seen it gets {counts.fixes} right that the anchor got wrong, "
        f"and {counts.regressions} the other way round; the difference must be 2"
    )
    passed = counts.fixes - counts.regressions >= 2
    return Condition("better on corrections it has not seen", passed, sentence, asdict(counts))


def never_again(counts: Counts) -> Condition:
    """Condition 4: at most one of the photos that were fixed once is wrong again."""
    sentence = f"{counts.regressions} of {counts.photos} photos that were fixed once are wrong again, at most 1 may be"
    return Condition("keeps what was fixed once", counts.regressions <= MOST_ONCE_FIXED_LOST, sentence, asdict(counts))
