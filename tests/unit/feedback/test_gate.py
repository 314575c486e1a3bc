"""The gate: the rates at which equal and worse candidates pass, and what each condition refuses."""

import numpy as np
import pytest

from feedback.learning.gate import (
    Compared,
    Counts,
    decide,
    evidence_of_losses,
    not_inferior,
    not_worse_on_sample,
    probability_of_small_loss,
)

PHOTOS = 450
CANDIDATES = 100


def rows(same: int, lost: int = 0, won: int = 0, probability: float = 1.0) -> list[Compared]:
    return [
        *[Compared(True, True, probability)] * same,
        *[Compared(True, False, probability)] * lost,
        *[Compared(False, True, probability)] * won,
    ]


def share_that_passes(lost: float, won: float) -> float:
    """Of seeded candidates that lose and win these shares of their answers."""
    rng = np.random.default_rng(7)
    passed = 0
    for _ in range(CANDIDATES):
        a, b, _ = rng.multinomial(PHOTOS, (lost, won, 1 - lost - won))
        passed += not_inferior(Counts(PHOTOS, int(a), int(b)), draws=20_000).passed
    return passed / CANDIDATES


def test_equal_candidates_mostly_pass_and_worse_ones_do_not() -> None:
    assert share_that_passes(0.005, 0.005) >= 0.6
    assert share_that_passes(0.0125, 0.0025) <= 0.15
    assert share_that_passes(0.0225, 0.0025) <= 0.02


def test_the_posterior_agrees_with_the_counts() -> None:
    assert probability_of_small_loss(Counts(450, 0, 0)) > 0.95
    assert probability_of_small_loss(Counts(450, 9, 0)) < 0.1
    assert probability_of_small_loss(Counts(100, 0, 0)) < probability_of_small_loss(Counts(1000, 0, 0))


def test_each_try_makes_the_gate_stricter() -> None:
    counts = Counts(450, 2, 1)
    assert not_inferior(counts).passed
    assert not not_inferior(counts, tries=30).passed


def test_a_model_that_fixes_all_corrections_and_loses_frozen_photos_is_refused_with_that_sentence() -> None:
    verdict = decide(rows(447, lost=9), rows(30), rows(0, won=20), rows(10))
    assert not verdict.passed
    assert "9 regressions" in verdict.sentence
    assert verdict.as_json()["conditions"][0]["numbers"]["regressions"] == 9


@pytest.mark.parametrize(
    ("sample", "passes"),
    [
        (rows(20), True),
        (rows(20, lost=1), False),
        ([*rows(20, lost=1), *rows(0, won=1, probability=0.01)], True),  # the win stands for 100 photos
        ([*rows(20, won=1), *rows(0, lost=1, probability=0.01)], False),
    ],
)
def test_the_random_sample_is_weighted_by_its_probability(sample: list[Compared], passes: bool) -> None:
    assert not_worse_on_sample(sample).passed is passes


def test_seven_straight_losses_are_evidence_and_balanced_changes_are_none() -> None:
    assert evidence_of_losses(7, 0) > 15
    assert evidence_of_losses(8, 0) > 20
    assert evidence_of_losses(5, 5) < 1
    assert evidence_of_losses(0, 0) == 1


def test_unseen_corrections_and_photos_fixed_once_each_can_refuse() -> None:
    good = (rows(450), rows(20), rows(3, won=2), rows(9, lost=1))
    assert decide(*good).passed
    assert not decide(good[0], good[1], rows(3, won=1), good[3]).passed
    assert not decide(good[0], good[1], good[2], rows(8, lost=2)).passed
