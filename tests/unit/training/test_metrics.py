"""Intervals and temperature against published values and plain reasoning."""

import math
from pathlib import Path

import pytest
import torch
from scipy.stats import binomtest

from common.statistics import Paired, wilson
from dataset.photos import Photo
from training.evaluation.metrics import fit_temperature, score


def photos(labels: list[int]) -> list[Photo]:
    return [Photo(Path("x"), label, "s") for label in labels]


def test_wilson_against_agresti_and_coull() -> None:
    """Newcombe (1998), table I: 81 of 263 and 15 of 148."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)


@pytest.mark.parametrize(("hits", "trials"), [(0, 1), (1, 1), (1, 2), (3, 7), (19, 20), (81, 263), (9_999, 10_000)])
def test_wilson_equals_scipys(hits: int, trials: int) -> None:
    assert wilson(hits, trials) == pytest.approx(
        tuple(binomtest(hits, trials).proportion_ci(method="wilson")), abs=1e-9
    )


def test_the_paired_interval_against_newcombe() -> None:
    """Newcombe (1998), paired data, table III, method 10: 36, 12, 2 and 0 of 50."""
    assert Paired(both=36, regressions=2, fixes=12, neither=0).interval == pytest.approx((0.0569, 0.3404), abs=1e-4)
    low, high = Paired(both=36, regressions=12, fixes=2, neither=0).interval
    assert (low, high) == pytest.approx((-0.3404, -0.0569), abs=1e-4)


def test_two_equal_models_may_still_differ() -> None:
    low, high = Paired(both=50, regressions=0, fixes=0, neither=0).interval
    assert low == pytest.approx(-high) and high > 0.05
    assert Paired(0, 0, 0, 0).interval == (-1.0, 1.0)


def test_wilson_without_trials_says_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def test_balanced_accuracy_does_not_depend_on_class_sizes() -> None:
    logits = torch.tensor([[9.0, 0.0]] * 90 + [[9.0, 0.0]] * 5 + [[0.0, 9.0]] * 5)
    scores = score(logits, photos([0] * 90 + [1] * 10), ("a", "b"))
    assert scores.accuracy == {"a": 1.0, "b": 0.5}
    assert scores.mean_accuracy == 0.75
    assert scores.confusion == [[90, 0], [5, 5]]
    low, high = scores.interval
    assert low < 0.75 < high


def test_temperature_cools_an_overconfident_model() -> None:
    logits = torch.tensor([[8.0, 0.0]] * 60 + [[0.0, 8.0]] * 40)
    labels = [0] * 50 + [1] * 10 + [1] * 30 + [0] * 10
    fitted = fit_temperature(logits, torch.tensor(labels))
    confidence = float((logits / fitted).softmax(1).max(1).values.mean())
    assert confidence == pytest.approx(0.8, abs=0.03)


def test_a_few_correct_predictions_do_not_drive_the_confidence_to_one() -> None:
    logits = torch.tensor([[4.0, 0.0], [0.0, 4.0]] * 5)
    fitted = fit_temperature(logits, torch.tensor([0, 1] * 5))
    confidence = float((logits / fitted).softmax(1).max())
    assert confidence == pytest.approx(6 / 7, abs=0.02)
    assert math.isfinite(fitted)
