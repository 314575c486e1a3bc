"""Grouped cross-validation of the whole way: train, prune, export, ask the graph that would be served.

    python -m training crossvalidate classroom --data PHOTOS --extra runs/drawn
    python -m training crossvalidate PUPIL.yaml --data PHOTOS --teacher classroom --unlabelled OTHERS

The unpruned float model is asked about the same photos, so that what pruning and int8 change is told in pairs:
photos lost and won, and how far the probabilities moved (`paired` in run.json).

Every photo is tested once, by a model that saw no photo of its source, neither in training nor in the
held-out share by which that model was tempered and gated; a teacher is trained anew in each fold, on that fold's
photos. The folds are pinned by the recipe (`folds`, `train.seed`). Each is tested twice: as it is, and after
re-encoding all photos as JPEG, so that the file type cannot be the cue. Finished folds are kept: the same command
goes on where it was interrupted.
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch

from common.cli import command
from common.console import err_console
from common.files import write_json
from config.recipe import Recipe, read_recipe
from dataset.photos import Photo, folds, hold_out
from handler.image import Pixels, open_photo, to_input
from training.compression.gate import Paired, compare
from training.data.loader import check_readable, naming
from training.evaluation.measure import as_jpeg, decoded
from training.evaluation.metrics import Scores, score
from training.evaluation.predictor import Infer, served
from training.export import export_model, tempered
from training.fitting.distillation import Course, read_course, unlabelled_option
from training.models.classifier import Classifier
from training.prune import prune_model
from training.records.options import (
    data_options,
    extra_option,
    fresh_option,
    read_data,
    read_extra,
    refuse_leak,
    runs_option,
)
from training.records.run import PROGRESS, digest, fingerprint, new_run
from training.train import train_model

JPEG_QUALITY = 75
WAYS = ("as they are", "all re-encoded as JPEG")


@command(epilog="Example: python -m training crossvalidate shapes --data runs/drawn --folds 2")
@click.argument("recipe")
@data_options
@extra_option
@click.option("--folds", "count", type=click.IntRange(2), help="Instead of the recipe's.")
@click.option(
    "--teacher", metavar="RECIPE", help="Train this one first in each fold, and learn from it (train.distill)."
)
@unlabelled_option
@fresh_option
@runs_option
def crossvalidate(
    recipe: str,
    data: tuple[Path, ...],
    where: tuple[str, ...],
    extra: tuple[Path, ...],
    count: int | None,
    teacher: str | None,
    unlabelled: tuple[Path, ...],
    fresh: bool,
    root: Path,
) -> None:
    """Cross-validate RECIPE's whole way, grouped by source."""
    resolved = read_recipe(recipe)
    resolved = resolved.model_copy(update={"folds": count or resolved.folds})
    course = read_course(teacher, unlabelled, resolved)
    photos, added = read_data(data, where, resolved), read_extra(extra, resolved)
    folder, facts = cross_validate(resolved, photos, added, root, fresh, course)
    click.echo(f"{folder}: {facts['summary']}")


def cross_validate(
    recipe: Recipe,
    photos: Sequence[Photo],
    added: Sequence[Photo],
    root: Path,
    fresh: bool = False,
    course: Course | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Test every photo once, by a model that saw none of its source, into a run of its own.

    Photos of a split's `test` part stay unseen; copies that `dataset balance` made are left out.

    Args:
        course: a teacher that is trained first in each fold.

    Returns:
        the run's folder and its run.json: `metrics` and `summary` by way.
    """
    photos = [replace(photo, part="") for photo in photos if photo.part != "test" and not photo.is_copy]
    unlabelled = course.unlabelled if course else []
    refuse_leak(unlabelled, photos, "--unlabelled")
    check_readable([*photos, *added, *unlabelled], recipe)
    parts = folds(photos, recipe.folds, recipe.train.seed)
    prints = {"data": fingerprint(photos, recipe.labels), "extra": fingerprint(added, recipe.labels)}
    if course:
        prints |= course.as_json()
    with new_run(
        "crossvalidate",
        recipe,
        root,
        fresh,
        **prints,
        split=digest([[str(photos[i].path) for i in part] for part in parts]),
    ) as (folder, facts):
        kept = folder / PROGRESS
        done: list[dict[str, Any]] = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else []
        for number, part in enumerate(parts[len(done) :], start=len(done) + 1):
            err_console.rule(f"fold {number} of {len(parts)}")
            tested = [photos[index] for index in part]
            rest = [photo for index, photo in enumerate(photos) if index not in set(part)]
            done.append({"photos": part, **run_fold(recipe, rest, added, tested, course)})
            write_json(kept, done)
        facts["folds"] = done
        facts["metrics"] = {way: _together(done, photos, recipe, way).as_json() for way in WAYS}
        facts["paired"] = {way: _pairs(done, photos, way).as_json() for way in WAYS}
        facts["summary"] = "; ".join(
            f"{way}: {_together(done, photos, recipe, way)}; against the unpruned {_pairs(done, photos, way)}"
            for way in WAYS
        )
    return folder.with_suffix(""), facts


def run_fold(
    recipe: Recipe,
    photos: Sequence[Photo],
    added: Sequence[Photo],
    tested: Sequence[Photo],
    course: Course | None = None,
) -> dict[str, Any]:
    """Train, prune and export on `photos`; first the teacher, if there is one.

    Returns:
        log-probabilities on `tested`, each way: `answers` of the graph that would be served, `unpruned` of the
        float model before pruning (tempered alike); and what the export says.
    """
    training, validation = hold_out(photos, recipe.train.validation, recipe.train.seed)
    facts: dict[str, Any] = {}
    seen = [*training, *added]
    teacher = train_model(course.recipe, seen, validation, {}) if course else None
    seen += course.unlabelled if course else []
    model = train_model(recipe, seen, validation, facts, teacher=teacher)
    unpruned = facts["metrics"]["mean_accuracy"]
    before = in_torch(tempered(model, validation, recipe))
    without = {way: [ask(before, recipe, photo, way) for photo in tested] for way in WAYS}
    model = prune_model(model, recipe, seen, validation, facts)
    with tempfile.TemporaryDirectory() as work:
        made = export_model(model, recipe, training, validation, Path(work), unpruned)
        run = served(Path(work) / "model.onnx", recipe)
        answers = {way: [ask(run, recipe, photo, way) for photo in tested] for way in WAYS}
    for way in WAYS:
        err_console.print(f"{way}: {score(torch.tensor(answers[way]), tested, recipe.labels)}")
    return {
        "answers": answers,
        "unpruned": without,
        "precision": made["precision"],
        "gate": made["gate"],
        "temperature": made["temperature"],
    }


def in_torch(model: Classifier) -> Infer:
    """A model as a function from one photo to its log-probabilities."""

    @torch.no_grad()
    def infer(pixels: Pixels) -> torch.Tensor:
        logits: torch.Tensor = model.eval()(torch.from_numpy(pixels)[None])[0]
        return logits.log_softmax(0)

    return infer


def ask(run: Infer, recipe: Recipe, photo: Photo, way: str) -> list[float]:
    """One photo's log-probabilities, from its own bytes or from a JPEG of it."""
    with naming(photo.path):
        data = photo.path.read_bytes()
        if way == WAYS[1]:
            upright = decoded(as_jpeg(open_photo(data, recipe.limits), JPEG_QUALITY), recipe.input)
        else:
            upright = open_photo(data, recipe.limits, recipe.input)
    return [round(float(value), 5) for value in run(to_input(upright, recipe.input))]


def _pairs(done: list[dict[str, Any]], photos: Sequence[Photo], way: str) -> Paired:
    """The unpruned float models against what would be served, over the photos of all folds."""
    tested = [photos[index] for fold in done for index in fold["photos"]]
    before, after = (torch.tensor([row for fold in done for row in fold[key][way]]) for key in ("unpruned", "answers"))
    return compare(before, after, tested)


def _together(done: list[dict[str, Any]], photos: Sequence[Photo], recipe: Recipe, way: str) -> Scores:
    tested = [photos[index] for fold in done for index in fold["photos"]]
    return score(torch.tensor([row for fold in done for row in fold["answers"][way]]), tested, recipe.labels)
