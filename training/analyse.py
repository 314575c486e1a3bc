"""Analyse a run's or a bundle's answers, as files that other systems read.

    python -m training analyse runs/flowers/ID-train --data PHOTOS --part val --out analysis-val

writes into the folder, each file whole:

    model_analysis_results.json   overall, by class, confusion matrix, accuracy by brightness, sharpness, size ...
    all_samples.json              path -> label, answer, probabilities; paths are relative to --data
    tmp_model_analysis.npz        the same as arrays, and logits and features; loads with allow_pickle=False

The first two are checked against training/evaluation/schemas/ before they are written.
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
from common.errors import UserError
from common.files import write_json, write_whole
from config.recipe import Recipe
from dataset.photos import Photo
from training.evaluation.measure import measure
from training.evaluation.metrics import score, wilson
from training.evaluation.schemas import check
from training.evaluation.sensitivity import FEATURES, Floats, features_of, sensitivity
from training.predict import inference
from training.records.options import choose_part, data_options, part_option, read_data, run_argument
from training.records.run import read_run

RESULTS, SAMPLES, ARRAYS = "model_analysis_results", "all_samples", "tmp_model_analysis"


@command(epilog="Example: python -m training analyse runs/shapes/ID-train --data runs/drawn")
@run_argument
@data_options
@part_option
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="[default: RUN/analysis]")
def analyse(run: Path, data: tuple[Path, ...], where: tuple[str, ...], part: str | None, out: Path | None) -> None:
    """Write the analysis of RUN (a run, or a bundle) on labelled photos."""
    recipe, infer, _ = inference(run)
    photos, chosen = choose_part(read_data(data, where, recipe), part, recipe, read_run(run)[1])
    logits, _ = measure(recipe, infer, photos)
    folder = out or run / "analysis"
    found = write_analysis(folder, recipe, photos, logits, chosen, _base(data))
    click.echo(f"{folder}: {found['right']} of {found['photos']} right, f1 {found['f1']:.3f}")


def write_analysis(
    folder: Path, recipe: Recipe, photos: Sequence[Photo], logits: Tensor, part: str, base: Path
) -> dict[str, Any]:
    """Write the three files.

    Args:
        logits: shape (photos, classes).
        part: which photos these are: a part of a split, `all` or `held out`.
        base: what the paths are told relative to.

    Returns:
        the overall figures.

    Raises:
        UserError: the folder cannot be written, or a photo cannot be read.
    """
    features = features_of(photos, recipe)
    results = _results(recipe, photos, logits, features, part)
    paths = [os.path.relpath(photo.path, base) for photo in photos]
    rows = zip(paths, photos, logits.softmax(1), strict=True)
    samples = {path: _sample(photo, scores, recipe) for path, photo, scores in rows}
    check(RESULTS, results)
    check(SAMPLES, samples)
    try:
        write_json(folder / f"{RESULTS}.json", results)
        write_json(folder / f"{SAMPLES}.json", samples)
        write_whole(folder / f"{ARRAYS}.npz", _arrays(recipe, photos, logits, features, paths))
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}: give another folder") from error
    overall: dict[str, Any] = results["overall"]
    return overall


def _results(recipe: Recipe, photos: Sequence[Photo], logits: Tensor, features: Floats, part: str) -> dict[str, Any]:
    from sklearn.metrics import precision_recall_fscore_support

    labels, found = recipe.labels, score(logits, photos, recipe.labels)
    truth, answered = np.array([photo.label for photo in photos]), logits.argmax(1).numpy()
    right = answered == truth
    columns = precision_recall_fscore_support(truth, answered, labels=range(len(labels)), zero_division=0)
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
            "right": int(right.sum()),
            "accuracy": round(float(right.mean()), 5),
            "f1": _mean(f1),
            "precision": _mean(precision),
            "recall": _mean(recall),
            "mean_accuracy_95": [round(value, 5) for value in found.interval],
            "loss": round(found.loss, 5),
        },
        "per_class": {
            label: {
                "photos": int(columns[3][index]),
                "precision": rounded[0][index],
                "recall": rounded[1][index],
                "f1": rounded[2][index],
                "recall_95": [
                    round(value, 5) for value in wilson(found.confusion[index][index], sum(found.confusion[index]))
                ],
            }
            for index, label in enumerate(labels)
        },
        "confusion_matrix": found.confusion,
        "sensitivity": sensitivity(features, right),
    }


def _mean(values: Sequence[float]) -> float:
    """Over the classes that have photos (macro)."""
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
