"""The gate: the rates at which equal and worse candidates pass, and what each condition refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.files import write_whole
from dataset.tables import write_rows
from feedback.learning.gate import (
    Compared,
    Counts,
    decide,
    evidence_of_losses,
    not_inferior,
    not_worse_on_sample,
    probability_of_small_loss,
)
from feedback.learning.judge import gather, judge
from feedback.learning.serving import Answers, as_fast, as_small, calibrated, not_less_sure
from handler.spec import read_spec
from tests.helpers.light import write_coloured_photos

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


@pytest.mark.slow
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


def answers(right: int, wrong: int, confidence: float = 0.95, **changes: Any) -> Answers:
    """Answers of which some are right, all with one confidence."""
    count = right + wrong
    values = {"milliseconds": [2.0] * count, "unsure_below": 0.8, "size": 1000, **changes}
    return Answers([True] * right + [False] * wrong, values.pop("confidences", [confidence] * count), **values)


@pytest.mark.parametrize(
    ("candidate", "passes"),
    [
        (answers(380, 20), True),  # confidence 95 %, accuracy 95 %
        (answers(340, 60), False),  # accuracy 85 %
        (answers(18, 2, 0.95), True),  # 90 % of 20 photos: chance
        (answers(400, 0, 0.99), True),
        (answers(0, 0), True),
    ],
)
def test_an_overconfident_candidate_is_refused_and_chance_is_not_mistaken_for_it(
    candidate: Answers, passes: bool
) -> None:
    assert calibrated(answers(399, 1, 0.995), candidate).passed is passes


def test_a_candidate_may_be_as_badly_calibrated_as_the_anchor() -> None:
    assert calibrated(answers(340, 60), answers(345, 55)).passed


@pytest.mark.parametrize(
    ("before", "after", "passes"), [(0, 2, True), (0, 5, True), (0, 6, False), (20, 35, True), (20, 36, False)]
)
def test_hardly_more_photos_may_be_unsure(before: int, after: int, passes: bool) -> None:
    rows = [answers(500, 0, confidences=[0.7] * count + [0.9] * (500 - count)) for count in (before, after)]
    assert not_less_sure(*rows).passed is passes


def test_a_slow_or_a_large_candidate_is_refused_and_a_disturbed_one_is_not() -> None:
    anchor = answers(100, 0)
    assert not as_fast(anchor, answers(100, 0, milliseconds=[3.2] * 100), 1.5).passed
    assert as_fast(anchor, answers(100, 0, milliseconds=[2.1] * 20 + [90.0] * 80), 1.5).passed
    assert as_small(anchor, answers(1, 0, size=1100)).passed
    assert not as_small(anchor, answers(1, 0, size=1101)).passed


def test_both_bundles_are_asked_about_all_photos_and_the_numbers_can_be_written(light: Path, tmp_path: Path) -> None:
    labels = read_spec(light / "recipe.json").labels
    frozen = write_coloured_photos(tmp_path / "frozen", 5)
    snapshot = tmp_path / "snapshot"
    for number, path in enumerate(sorted(write_coloured_photos(tmp_path / "more", 2).glob("*/*"))):
        write_whole(snapshot / "held" / path.parent.name / f"{number}.jpg", path.read_bytes())
    write_rows(
        snapshot / "photos.tsv",
        ("id", "reason", "probability"),
        [{"id": "3", "reason": "random", "probability": "0.5"}],
    )
    verdict = judge(light, light, gather(frozen, snapshot, None, labels), snapshot, 0)
    rows = {row["name"]: row for row in json.loads(json.dumps(verdict.as_json()))["conditions"]}
    assert [row["numbers"]["photos"] for row in rows.values() if "photos" in row["numbers"]] == [15, 1, 6, 0, 15, 15]
    assert [name for name, row in rows.items() if not row["passed"]] == [
        "not inferior on the frozen set",  # 15 photos are too few
        "better on corrections it has not seen",  # it is the same model
    ]
    assert rows["as small"]["numbers"]["ratio"] == 1
    assert rows["as fast"]["numbers"]["milliseconds"] > 0
