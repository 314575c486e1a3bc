"""An evaluation: areas, calibration, confidence and corruptions, checked against hand-calculated figures."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from config.recipe import read_recipe
from dataset.photos import Photo
from tests.helpers.commands import SHAPES, SHIPPED
from training.evaluation.charts import draw_curves
from training.evaluation.measure import CORRUPTIONS, Evaluation, latency, spread
from training.evaluation.metrics import calibration, roc_auc
from training.evaluation.report import by_class


@pytest.mark.slow
def test_roc_auc_counts_pairs_in_the_right_order() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.6, 0.4], [0.2, 0.8]])
    assert roc_auc(probabilities, torch.tensor([0, 0, 1, 1])) == 0.75
    assert roc_auc(probabilities, torch.tensor([0, 0, 0, 0])) is None


def test_roc_auc_of_more_classes_is_the_mean_against_the_rest() -> None:
    probabilities = torch.eye(3) * 0.4 + 0.2
    assert roc_auc(probabilities, torch.tensor([0, 1, 2])) == 1.0


def test_calibration_error_is_the_distance_between_sure_and_right() -> None:
    probabilities = torch.tensor([[0.85, 0.15]] * 4 + [[0.35, 0.65]] * 4)
    truth = torch.tensor([0, 0, 0, 1, 1, 1, 0, 0])
    error, bins = calibration(probabilities, truth)
    assert [(row["from"], row["photos"], row["accuracy"]) for row in bins] == [(0.6, 4, 0.5), (0.8, 4, 0.75)]
    assert error == pytest.approx(0.5 * abs(0.5 - 0.65) + 0.5 * abs(0.75 - 0.85), abs=1e-5)


def test_a_model_as_sure_as_it_is_right_has_no_calibration_error() -> None:
    assert calibration(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1]))[0] == 0


def test_confidence_is_summarised_by_quartiles_and_the_recipes_threshold() -> None:
    summary = spread(torch.tensor([[0.5, 0.5, 0], [0.7, 0.3, 0], [0.9, 0.1, 0], [1.0, 0, 0]]), read_recipe(SHAPES))
    assert summary["photos"] == 4
    assert summary["median"] == pytest.approx(0.8, abs=1e-4)
    assert summary["unsure"] == 0.25


def test_the_first_photo_warms_up_and_is_not_counted() -> None:
    stages = ("decode", "resize", "inference", "together")
    spent = [dict.fromkeys(stages, 1000.0), *[dict.fromkeys(stages, 2.0)] * 3]
    assert latency(spent)["together"] == {"p50": 2.0, "p95": 2.0}


def evaluation(logits: list[list[float]], labels: list[int], changed: list[list[float]]) -> Evaluation:
    photos = [Photo(Path(f"{index}.jpg"), label, str(index)) for index, label in enumerate(labels)]
    stages = dict.fromkeys(("decode", "resize", "inference", "together"), 1.0)
    return Evaluation(
        read_recipe(SHAPES),
        photos,
        torch.tensor(logits).float(),
        [stages] * len(photos),
        {"x": torch.tensor(changed).float()},
        None,
    )


def test_the_hardest_photo_is_the_one_most_surely_wrong() -> None:
    evaluated = evaluation([[2, 0, 0], [9, 0, 0], [0, 1, 0]], [0, 1, 1], [[2, 0, 0], [9, 0, 0], [0, 0, 3]])
    assert evaluated.hardest(2) == [1, 2]
    assert evaluated.as_json()["changes"]["x"]["answers_that_changed"] == 1
    assert evaluated.as_json()["ambiguous"] is None


KEPT = ("turned by EXIF", "all re-encoded as JPEG 75", "640 pixels, JPEG 35")


def test_changes_change_the_pixels_but_turning_by_exif_does_not() -> None:
    from tests.helpers import pictures

    photo = pictures.photo()
    for name, change in CORRUPTIONS.items():
        changed = change(photo.copy())
        assert changed.mode == "RGB"
        same = changed.size == photo.size
        difference = np.abs(np.asarray(changed, int) - np.asarray(photo, int)).mean() if same else np.inf
        assert 0 < difference < 3 if name in KEPT else difference > 3, name


def test_curves_of_runs_that_kept_fewer_figures_are_drawn() -> None:
    run = json.loads((SHIPPED / "run.json").read_text())
    for axes in draw_curves(run["epochs"]).axes:
        assert len(axes.lines) == 2


@pytest.mark.slow
def test_a_change_of_a_legal_photo_is_never_too_large() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (2500, 3500, 3), np.uint8))
    turned = CORRUPTIONS["turned by EXIF"](noise)
    assert turned.size == noise.size


def test_rows_of_the_class_table_stay_with_their_labels_when_a_class_has_no_photo() -> None:
    """The report zipped the accuracies, which leave out empty classes, with all rows of the confusion matrix."""
    scores = evaluation([[0, 3, 0], [0, 0, 3], [0, 3, 0]], [1, 2, 2], [[0, 3, 0]] * 3).scores
    rows = [(row["label"], row["hits"], row["photos"], row["accuracy"]) for row in by_class(scores)]
    assert rows == [("disc", 0, 0, None), ("stripe", 1, 1, 1.0), ("cross", 1, 2, 0.5)]
