"""Intervals and temperature against published values and plain reasoning."""

import math
from pathlib import Path

import pytest
import torch

from dataset.photos import Photo
from training.evaluation.metrics import fit_temperature, score, wilson


def photos(labels: list[int]) -> list[Photo]:
    return [Photo(Path("x"), label, "s") for label in labels]


def test_wilson_against_agresti_and_coull() -> None:
    """Newcombe (1998), table I: 81 of 263 and 15 of 148."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)


@pytest.mark.parametrize(("hits", "trials"), [(0, 1), (1, 1), (1, 2), (3, 7), (19, 20), (81, 263), (9_999, 10_000)])
def test_wilson_is_the_published_formula(hits: int, trials: int) -> None:
    z, share = 1.959963984540054, hits / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    assert wilson(hits, trials) == pytest.approx((max(0.0, centre - half), min(1.0, centre + half)), abs=1e-9)


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
