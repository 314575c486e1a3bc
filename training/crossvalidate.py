"""Cross-validate a recipe from training to the served graph, grouped by source.

    python -m training crossvalidate classroom --data PHOTOS --extra runs/drawn
    python -m training crossvalidate STUDENT.yaml --data PHOTOS --teacher classroom --unlabelled OTHERS

Each fold trains, prunes and exports, and tests the graph that would be served. Every photo is tested once, by a model
that saw no photo of its source, neither in training nor in the held-out share for calibration and gate; a teacher is
trained again in each fold, on that fold's photos. The recipe determines the folds (`folds`, `train.seed`). Photos are
tested as they are, and re-encoded as JPEG, so that the file type cannot give the class away. The unpruned float model
predicts the same photos, which shows what pruning and int8 change: regressions, fixes, and how far probabilities moved
(`paired` in run.json). Finished folds are kept: if it is interrupted, the same command resumes.
"""

from pathlib import Path

import click

from common.cli import command
from config.recipe import read_recipe
from training.data.selection import read_data, read_extra
from training.experiments.crossvalidation import cross_validate
from training.fitting.distillation import read_teacher_recipe
from training.options import data_options, extra_option, fresh_option, runs_option, unlabelled_option


@command(epilog="Example: python -m training crossvalidate shapes --data runs/drawn --folds 2")
@click.argument("recipe")
@data_options
@extra_option
@click.option("--folds", "count", type=click.IntRange(2), help="Number of folds, instead of the recipe's.")
@click.option(
    "--teacher", metavar="RECIPE", help="Train this recipe first in each fold, and learn from it (train.distill)."
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
    """Cross-validate RECIPE: train, prune and export in each fold, grouped by source."""
    resolved = read_recipe(recipe)
    resolved = resolved.model_copy(update={"folds": count or resolved.folds})
    teaching = read_teacher_recipe(teacher, unlabelled, resolved)
    photos, added = read_data(data, where, resolved), read_extra(extra, resolved)
    folder, record = cross_validate(resolved, photos, added, root, fresh, teaching)
    click.echo(f"{folder}: {record.summary}")
