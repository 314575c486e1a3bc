"""Grouped cross-validation: every photo is tested once, by a model that saw no photo of its source."""

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from common.console import err_console, note
from common.files import write_json
from config.recipe import Recipe
from dataset.photos import Photo
from dataset.splitting.folds import folds, hold_out
from handler.image import Pixels, open_photo, to_input
from training.compression.export import calibrated, export_model
from training.compression.gate import compare
from training.compression.pruning import prune_model
from training.data.loader import check_readable, naming
from training.data.selection import fingerprint, refuse_leak
from training.evaluation.measure import as_jpeg, decoded
from training.evaluation.metrics import Scores, score
from training.evaluation.predictor import served
from training.fitting.distillation import TeacherRecipe
from training.fitting.trainer import train_model
from training.models.classifier import Classifier
from training.records.folder import PROGRESS, digest, make_run
from training.records.run import GRAPH, CrossValidated, Flips, Fold, Inputs, Metrics, RunRecord

JPEG_QUALITY = 75
ORIGINAL, REENCODED = CONDITIONS = ("as they are", "all re-encoded as JPEG")
"""How photos are tested: keys of run.json. Re-encoded, so that the file type cannot give the class away."""


def cross_validate(
    recipe: Recipe,
    photos: Sequence[Photo],
    added: Sequence[Photo],
    root: Path,
    fresh: bool = False,
    teacher: TeacherRecipe | None = None,
) -> tuple[Path, RunRecord]:
    """Run every fold of the recipe into one run. Finished folds are kept if it is interrupted.

    Photos of a split's `test` part are not used; copies that `dataset balance` made are left out.

    Args:
        added: photos that every fold trains on besides.
        teacher: a model that is trained first in each fold.

    Returns:
        the run's folder and record.

    Raises:
        UserError: a photo cannot be read, or an unlabelled photo would be tested.
    """
    photos = [replace(photo, part="") for photo in photos if photo.part != "test" and not photo.is_copy]
    unlabelled = teacher.unlabelled if teacher else []
    refuse_leak(unlabelled, photos, "--unlabelled")
    check_readable([*photos, *added, *unlabelled], recipe)
    parts = folds(photos, recipe.folds, recipe.train.seed)
    inputs = Inputs(
        data=fingerprint(photos, recipe.labels),
        extra=fingerprint(added, recipe.labels),
        split=digest([[str(photos[index].path) for index in part] for part in parts]),
    )
    inputs = teacher.added_to(inputs) if teacher else inputs

    def work(folder: Path) -> CrossValidated:
        kept = folder / PROGRESS
        done = [Fold.model_validate(fold) for fold in json.loads(kept.read_text())] if kept.exists() else []
        for number, part in enumerate(parts[len(done) :], start=len(done) + 1):
            err_console.rule(f"fold {number} of {len(parts)}")
            tested = [photos[index] for index in part]
            rest = [photo for index, photo in enumerate(photos) if index not in set(part)]
            fold = run_fold(recipe, rest, added, tested, teacher)
            done.append(fold.model_copy(update={"photos": part}))
            write_json(kept, [fold.as_json() for fold in done])
        return _summarise(done, photos, recipe)

    return make_run("crossvalidate", recipe, root, inputs, work, fresh)


def run_fold(
    recipe: Recipe,
    photos: Sequence[Photo],
    added: Sequence[Photo],
    tested: Sequence[Photo],
    teacher: TeacherRecipe | None = None,
) -> Fold:
    """Train, prune and export on `photos`; first train the teacher, if there is one.

    Returns:
        the fold, with log-probabilities for `tested` and without their indices.
    """
    training, validation = hold_out(photos, recipe.train.validation, recipe.train.seed)
    seen = [*training, *added]
    teaching = train_model(teacher.recipe, seen, validation)[0] if teacher else None
    seen += teacher.unlabelled if teacher else []
    model, trained = train_model(recipe, seen, validation, teacher=teaching)
    unpruned = predict_all(in_torch(calibrated(model, validation, recipe)), recipe, tested)
    model, _ = prune_model(model, recipe, seen, validation)
    with tempfile.TemporaryDirectory() as work:
        exported = export_model(model, recipe, training, validation, Path(work), trained.metrics.mean_accuracy)
        answers = predict_all(served(Path(work) / GRAPH, recipe), recipe, tested)
    for condition, rows in answers.items():
        note(f"{condition}: {score(torch.tensor(rows), tested, recipe.labels)}")
    return Fold(
        photos=[],
        answers=answers,
        unpruned=unpruned,
        precision=exported.precision,
        gate=exported.gate,
        temperature=exported.temperature,
    )


def in_torch(model: Classifier) -> Callable[[Pixels], torch.Tensor]:
    """A model as a function from one photo to its log-probabilities."""

    @torch.no_grad()
    def infer(pixels: Pixels) -> torch.Tensor:
        logits: torch.Tensor = model.eval()(torch.from_numpy(pixels)[None])[0]
        return logits.log_softmax(0)

    return infer


def predict_all(
    infer: Callable[[Pixels], torch.Tensor], recipe: Recipe, photos: Sequence[Photo]
) -> dict[str, list[list[float]]]:
    """Log-probabilities of shape (photos, classes), by condition."""
    return {condition: [_predict(infer, recipe, photo, condition) for photo in photos] for condition in CONDITIONS}


def _predict(infer: Callable[[Pixels], torch.Tensor], recipe: Recipe, photo: Photo, condition: str) -> list[float]:
    with naming(photo.path):
        data = photo.path.read_bytes()
        if condition == REENCODED:
            upright = decoded(as_jpeg(open_photo(data, recipe.limits), JPEG_QUALITY), recipe.input)
        else:
            upright = open_photo(data, recipe.limits, recipe.input)
    return [round(float(value), 5) for value in infer(to_input(upright, recipe.input))]


def _summarise(done: list[Fold], photos: Sequence[Photo], recipe: Recipe) -> CrossValidated:
    tested = [photos[index] for fold in done for index in fold.photos]
    scores = {name: _scores(done, tested, recipe, name) for name in CONDITIONS}
    flips = {name: _flips(done, tested, name) for name in CONDITIONS}
    return CrossValidated(
        folds=done,
        metrics={name: Metrics.model_validate(entry.as_json()) for name, entry in scores.items()},
        paired=flips,
        summary="; ".join(
            f"{name}: {scores[name]}; compared with the unpruned model {flips[name]}" for name in CONDITIONS
        ),
    )


def _scores(done: list[Fold], tested: Sequence[Photo], recipe: Recipe, condition: str) -> Scores:
    return score(_rows(done, "answers", condition), tested, recipe.labels)


def _flips(done: list[Fold], tested: Sequence[Photo], condition: str) -> Flips:
    """The served graphs compared with the unpruned float models, over the photos of all folds."""
    return compare(_rows(done, "unpruned", condition), _rows(done, "answers", condition), tested)


def _rows(done: list[Fold], kind: Literal["answers", "unpruned"], condition: str) -> torch.Tensor:
    return torch.tensor([row for fold in done for row in getattr(fold, kind)[condition]])
