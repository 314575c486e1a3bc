"""`train --teacher RUN`: a model learns from another one's probabilities, of photos without a label too.

    python -m training train classroom --data SPLIT --backbone resnet18 --teacher RUN --distill 0.7 --unlabelled PHOTOS

The loss is (1 - distill) x cross-entropy against the labels + distill x cross-entropy against the teacher's
probabilities of the very pixels that the model sees (Hinton et al., 2015, at temperature 1). Photos without a
label are in the second part alone. The teacher may be of another backbone; labels and input are the recipe's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from common.console import err_console
from common.errors import UserError
from config.recipe import Recipe, read_recipe
from dataset.files import files_of
from dataset.photos import UNLABELLED, Photo
from training.models.classifier import Classifier
from training.records.options import refuse_leak
from training.records.run import fingerprint, load_model

Command = Callable[..., Any]


unlabelled_option = click.option(
    "--unlabelled",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Photos of which the teacher's probabilities are learnt, whatever their folders are called.",
)


def teacher_options(command: Command) -> Command:
    """--teacher, --distill, --unlabelled (again and again)."""
    for option in (
        unlabelled_option,
        click.option("--distill", type=click.FloatRange(0, 1), help="Share of the loss that comes from the teacher."),
        click.option(
            "--teacher",
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            metavar="RUN",
            help="Learn from this run's model besides.",
        ),
    ):
        command = option(command)
    return command


@dataclass(frozen=True)
class Lesson:
    """A teacher, its run.json, and photos without a label to learn from it."""

    model: Classifier
    facts: Mapping[str, Any]
    unlabelled: Sequence[Photo]

    def as_json(self) -> dict[str, Any]:
        """For run.json: the teacher's run, and what was learnt from it alone."""
        return {"teacher": self.facts["id"], "unlabelled": print_of(self.unlabelled)}

    def refuse_leak(self, validation: Sequence[Photo], prints: Mapping[str, Any]) -> None:
        """Refuse a teacher that may have been trained on what is held out now, as far as fingerprints tell.

        Args:
            prints: this training's fingerprints, `data` and `validation` among them.

        Raises:
            UserError: the teacher had these photos and held out others of them; or a photo of
                `unlabelled` is held out.
        """
        refuse_leak(self.unlabelled, validation, "--unlabelled")
        if self.facts["validation"] == prints["validation"]:
            return
        if self.facts["data"] == prints["data"]:
            raise UserError(
                f"--teacher {self.facts['id']} held out other photos of the same data: it was trained on some that are "
                "held out now: train both with the same seed, validation share and split"
            )
        err_console.print(
            f"note: --teacher {self.facts['id']} had other photos: whether it was trained on some that are held out "
            "now is not known"
        )


@dataclass(frozen=True)
class Course:
    """A teacher that is trained first, by its recipe on the same photos, and photos without a label."""

    recipe: Recipe
    unlabelled: Sequence[Photo]

    def as_json(self) -> dict[str, Any]:
        """For run.json: the teacher's recipe, and what is learnt from it alone."""
        return {"taught_by": self.recipe.model_dump(mode="json"), "unlabelled": print_of(self.unlabelled)}


def read_lesson(teacher: Path | None, unlabelled: Sequence[Path], recipe: Recipe) -> Lesson | None:
    """The teacher that the command line names, and its photos without a label.

    Raises:
        UserError: photos or a share of the loss without a teacher, a teacher without a share, a teacher
            of other labels or input, or a folder without a photo.
    """
    before, model, facts = load_model(teacher) if teacher else (None, None, {})
    _refuse_teacher(before, f"--teacher {teacher or 'RUN'}", unlabelled, recipe)
    return Lesson(model, facts, read_unlabelled(unlabelled)) if model else None


def read_course(teacher: str | None, unlabelled: Sequence[Path], recipe: Recipe) -> Course | None:
    """The recipe of a teacher that is still to be trained, and its photos without a label.

    Raises:
        UserError: as `read_lesson`, or no such recipe.
    """
    theirs = read_recipe(teacher) if teacher else None
    _refuse_teacher(theirs, f"--teacher {teacher or 'RECIPE'}", unlabelled, recipe)
    return Course(theirs, read_unlabelled(unlabelled)) if theirs else None


def read_unlabelled(folders: Sequence[Path]) -> list[Photo]:
    """The photos of folders, whatever the folders in them are called.

    Raises:
        UserError: a folder without a photo.
    """
    photos = []
    for folder in folders:
        found = [Photo(path, UNLABELLED, str(path)) for path in files_of(folder, links=True)]
        if not found:
            raise UserError(f"--unlabelled {folder} has no photo: give another folder")
        photos += found
    return photos


def print_of(unlabelled: Sequence[Photo]) -> dict[str, Any]:
    """For run.json: how many, and a digest of their bytes."""
    return {**fingerprint(unlabelled, ()), "photos": len(unlabelled)}


def _refuse_teacher(teacher: Recipe | None, option: str, unlabelled: Sequence[Path], recipe: Recipe) -> None:
    if not teacher:
        if unlabelled or recipe.train.learns_from_teacher:
            wanting = "--unlabelled" if unlabelled else "train.distill" if recipe.train.distill else "train.match"
            raise UserError(f"{wanting} wants a teacher: give {option}")
        return
    if not recipe.train.learns_from_teacher:
        raise UserError(
            f"{option} has no share of the loss: set train.distill in the recipe, or give --distill 0.7 to train"
        )
    for key in ("labels", "input"):
        theirs, ours = getattr(teacher, key), getattr(recipe, key)
        if theirs != ours:
            raise UserError(f"{option} has {key} {_words(theirs)}, this recipe {_words(ours)}: give another")


def _words(value: object) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)
