"""Write a run's or a bundle's predictions and their analysis as files that other systems read.

    python -m training analyse runs/flowers/ID-train --data PHOTOS --part val --out analysis-val

writes into the folder, each file atomically:

    model_analysis_results.json   overall, by class, confusion matrix, accuracy by brightness, sharpness, size ...
    all_samples.json              path -> label, prediction, probabilities; paths are relative to --data
    tmp_model_analysis.npz        the same as arrays, and logits and features; loads with allow_pickle=False

The first two are validated against training/evaluation/schemas/ before they are written.
"""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from torch import Tensor

from common.cli import command
from common.files import write_json, write_whole, writing
from common.statistics import wilson
from config.recipe import Recipe
from dataset.photos import Photo
from training.data.selection import read_data
from training.evaluation.measure import measure
from training.evaluation.metrics import score
from training.evaluation.predictor import load_predictor
from training.evaluation.schemas import check
from training.evaluation.sensitivity import FEATURES, Floats, features_of, sensitivity
from training.options import data_options, part_option, run_argument
from training.records.run import read_record
from training.records.split import choose_part

RESULTS, SAMPLES, ARRAYS = "model_analysis_results", "all_samples", "tmp_model_analysis"


@command(epilog="Example: python -m training analyse runs/shapes/ID-train --data runs/drawn")
@run_argument
@data_options
@part_option
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder to write.  [default: RUN/analysis]"
)
def analyse(run: Path, data: tuple[Path, ...], where: tuple[str, ...], part: str | None, out: Path | None) -> None:
    """Write the analysis of RUN (a run, or a bundle) on labelled photos."""
    recipe, infer, _ = load_predictor(run)
    photos, chosen = choose_part(read_data(data, where, recipe), part, recipe, read_record(run))
    logits, _ = measure(recipe, infer, photos)
    folder = out or run / "analysis"
    overall = write_analysis(folder, recipe, photos, logits, chosen, _base(data))
    click.echo(f"{folder}: {overall['right']} of {overall['photos']} correct, f1 {overall['f1']:.3f}")


def write_analysis(
    folder: Path, recipe: Recipe, photos: Sequence[Photo], logits: Tensor, part: str, base: Path
) -> dict[str, Any]:
    """Write the three files.

    Args:
        logits: shape (photos, classes).
        part: which photos these are: a part of a split, `all` or `held out`.
        base: the folder that the written paths are relative to.

    Returns:
        the overall figures.

    Raises:
        CannotWrite: the folder cannot be written.
        UserError: a photo cannot be read.
    """
    features = features_of(photos, recipe)
    results = _results(recipe, photos, logits, features, part)
    paths = [os.path.relpath(photo.path, base) for photo in photos]
    rows = zip(paths, photos, logits.softmax(1), strict=True)
    samples = {path: _sample(photo, scores, recipe) for path, photo, scores in rows}
    check(RESULTS, results)
    check(SAMPLES, samples)
    with writing(folder, "give another folder"):
        write_json(folder / f"{RESULTS}.json", results)
        write_json(folder / f"{SAMPLES}.json", samples)
        write_whole(folder / f"{ARRAYS}.npz", _arrays(recipe, photos, logits, features, paths))
    overall: dict[str, Any] = results["overall"]
    return overall


def _results(recipe: Recipe, photos: Sequence[Photo], logits: Tensor, features: Floats, part: str) -> dict[str, Any]:
    from sklearn.metrics import precision_recall_fscore_support

    labels, scores = recipe.labels, score(logits, photos, recipe.labels)
    truth, predicted = np.array([photo.label for photo in photos]), logits.argmax(1).numpy()
    correct = predicted == truth
    columns = precision_recall_fscore_support(truth, predicted, labels=range(len(labels)), zero_division=0)
    present = [index for index in range(len(labels)) if columns[3][index]]
    rounded = [[round(float(value), 5) for value in column] for column in columns[:3]]
    precision, recall, f1 = ([column[index] for index in present] for column in rounded)
    return {
        "task_type": "image_classification",
        "recipe": recipe.name,
        "part": part,
        "labels": list(labels),
        "overall": {
            "photos": len(photos),
            "right": int(correct.sum()),
            "accuracy": round(float(correct.mean()), 5),
            "f1": _mean(f1),
            "precision": _mean(precision),
            "recall": _mean(recall),
            "mean_accuracy_95": [round(value, 5) for value in scores.interval],
            "loss": round(scores.loss, 5),
        },
        "per_class": {
            label: {
                "photos": int(columns[3][index]),
                "precision": rounded[0][index],
                "recall": rounded[1][index],
                "f1": rounded[2][index],
                "recall_95": [
                    round(value, 5) for value in wilson(scores.confusion[index][index], sum(scores.confusion[index]))
                ],
            }
            for index, label in enumerate(labels)
        },
        "confusion_matrix": scores.confusion,
        "sensitivity": sensitivity(features, correct),
    }


def _mean(values: Sequence[float]) -> float:
    """The macro average of figures of classes."""
    return round(sum(values) / max(1, len(values)), 5)


def _sample(photo: Photo, probabilities: Tensor, recipe: Recipe) -> dict[str, Any]:
    return {
        "label": recipe.labels[photo.label],
        "predicted": recipe.labels[int(probabilities.argmax())],
        "probabilities": {label: round(float(p), 6) for label, p in zip(recipe.labels, probabilities, strict=True)},
    }


def _arrays(recipe: Recipe, photos: Sequence[Photo], logits: Tensor, features: Floats, paths: Sequence[str]) -> bytes:
    """An .npz of plain arrays: rows are photos, in the order of `paths`."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        paths=np.array(paths),
        labels=np.array(recipe.labels),
        label=np.array([photo.label for photo in photos], np.int64),
        predicted=logits.argmax(1).numpy(),
        logits=logits.numpy(),
        probabilities=logits.softmax(1).numpy(),
        features=features,
        feature_names=np.array(list(FEATURES)),
    )
    return buffer.getvalue()


def _base(data: Sequence[Path]) -> Path:
    """The folder that all of --data lies in, or is."""
    return Path(os.path.commonpath([(path if path.is_dir() else path.parent).absolute() for path in data]))
