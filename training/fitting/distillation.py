"""Learning from a teacher's probabilities, also on photos without labels.

    python -m training train classroom --data SPLIT --backbone resnet18 --teacher RUN --distill 0.7 --unlabelled PHOTOS

The loss is (1 - distill) x cross-entropy with the labels + distill x cross-entropy with the teacher's probabilities
for the same pixels (Hinton et al., 2015, at temperature 1). Photos without labels count in the second part only. The
teacher may have another backbone; its labels and input must be the recipe's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.console import note
from common.errors import CheckFailed, InvalidInput
from config.recipe import Recipe, read_recipe
from dataset.photos import Photo
from training.data.selection import fingerprint_unlabelled, read_unlabelled, refuse_leak
from training.models.classifier import Classifier
from training.records.run import Inputs, RunRecord
from training.records.weights import load_model


@dataclass(frozen=True)
class Teacher:
    """A trained model that a student learns from, its run, and photos without labels."""

    model: Classifier
    record: RunRecord
    unlabelled: Sequence[Photo]

    def added_to(self, inputs: Inputs) -> Inputs:
        """A training's inputs with the teacher's run and its photos without labels."""
        return inputs.model_copy(
            update={"teacher": self.record.id, "unlabelled": fingerprint_unlabelled(self.unlabelled)}
        )

    def refuse_leak(self, validation: Sequence[Photo], inputs: Inputs) -> None:
        """Refuse a teacher that was trained on photos that are held out now, as far as fingerprints show.

        Args:
            inputs: those of the student's training.

        Raises:
            CheckFailed: the teacher held out other photos of the same data, or a photo without label is held out.
        """
        refuse_leak(self.unlabelled, validation, "--unlabelled")
        if self.record.inputs.validation == inputs.validation:
            return
        if self.record.inputs.data == inputs.data:
            raise CheckFailed(
                f"--teacher {self.record.id} held out other photos of the same data, so it was trained on some that "
                "are held out now",
                "train both with the same seed, validation share and split",
            )
        note(
            f"note: --teacher {self.record.id} was trained on other data; it may have seen photos that are held out now"
        )


@dataclass(frozen=True)
class TeacherRecipe:
    """A teacher that is trained first, with its recipe on the same photos, and photos without labels."""

    recipe: Recipe
    unlabelled: Sequence[Photo]

    def added_to(self, inputs: Inputs) -> Inputs:
        """A training's inputs with the teacher's recipe and its photos without labels."""
        return inputs.model_copy(
            update={
                "taught_by": self.recipe.model_dump(mode="json"),
                "unlabelled": fingerprint_unlabelled(self.unlabelled),
            }
        )


def read_teacher(run: Path | None, unlabelled: Sequence[Path], recipe: Recipe) -> Teacher | None:
    """The teacher of --teacher RUN with the photos of --unlabelled.

    Raises:
        UserError: unlabelled photos or a share of the loss without a teacher, a teacher without a share, a teacher
            with other labels or input, or a folder without a photo.
    """
    loaded = load_model(run) if run else None
    _check(loaded[0] if loaded else None, f"--teacher {run or 'RUN'}", unlabelled, recipe)
    return Teacher(loaded[1], loaded[2], read_unlabelled(unlabelled)) if loaded else None


def read_teacher_recipe(name: str | None, unlabelled: Sequence[Path], recipe: Recipe) -> TeacherRecipe | None:
    """The teacher of --teacher RECIPE with the photos of --unlabelled.

    Raises:
        UserError: as `read_teacher`, or there is no such recipe.
    """
    teacher = read_recipe(name) if name else None
    _check(teacher, f"--teacher {name or 'RECIPE'}", unlabelled, recipe)
    return TeacherRecipe(teacher, read_unlabelled(unlabelled)) if teacher else None


def _check(teacher: Recipe | None, option: str, unlabelled: Sequence[Path], recipe: Recipe) -> None:
    if not teacher:
        if unlabelled or recipe.train.learns_from_teacher:
            cause = "--unlabelled" if unlabelled else "train.distill" if recipe.train.distill else "train.match"
            raise InvalidInput(f"{cause} needs a teacher", f"give {option}")
        return
    if not recipe.train.learns_from_teacher:
        raise InvalidInput(
            f"{option} has no share of the loss", "set train.distill in the recipe, or give --distill 0.7 to train"
        )
    for key in ("labels", "input"):
        theirs, ours = getattr(teacher, key), getattr(recipe, key)
        if theirs != ours:
            raise InvalidInput(
                f"{option} has {key} {_words(theirs)}, this recipe has {_words(ours)}", "give another teacher"
            )


def _words(value: object) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)
