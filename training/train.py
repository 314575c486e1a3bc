"""Train a model on labelled photos.

    python -m training train classroom --data PHOTOS --where open_licence=yes --extra runs/drawn
    python -m training train classroom --data SPLIT --backbone resnet18 --full --epochs 5
    python -m training train classroom --data PHOTOS --outside LOGOS --outside FLOWERS
    python -m training train classroom --data SPLIT --sweep
    python -m training train classroom --data SPLIT --backbone resnet18 --teacher RUN --distill 0.7 --unlabelled PHOTOS

trains on the `train` part of a split and validates on `val`; of photos without a split, a share is held out by source
(recipe: train.validation). Writes runs/classroom/ID-train: recipe.json, model.safetensors, run.json, curves.png,
TensorBoard logs, and checkpoint.pth: the last epoch's state as torch.save writes it, with the keys epoch,
model_state_dict and optimizer_state_dict. With a teacher, a share of the loss comes from the teacher's probabilities,
also for photos without labels (training/fitting/distillation.py). With photos of none of the classes (--outside, or the
label `no_class` in --data) the model also says whether a photo is in scope (training/fitting/scope.py). If it is
interrupted, the same command resumes after the last whole epoch and ends with the same weights.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from common.cli import command
from common.commands import next_step
from common.errors import InvalidInput
from config.recipe import Recipe, override, read_recipe
from training.data.outside import read_outside, trained_on
from training.data.selection import read_data, read_extra
from training.experiments.sweep import run_sweep
from training.fitting import parallel
from training.fitting.distillation import read_teacher
from training.fitting.trainer import train_run
from training.options import (
    RunFolder,
    data_options,
    data_words,
    extra_option,
    fresh_option,
    outside_option,
    runs_option,
    runs_words,
    teacher_options,
)

SECTION = ("freeze", "epochs", "max_steps", "learning_rate", "patience", "sampling", "seed", "distill")
"""Options that replace a value in the recipe's section `train`."""


@dataclass(frozen=True)
class Options:
    """The command line of `train`; None keeps the recipe's value."""

    recipe: str
    data: tuple[Path, ...]
    where: tuple[str, ...]
    extra: tuple[Path, ...]
    root: Path
    sweep: str | None
    init_from: Path | None
    teacher: Path | None
    unlabelled: tuple[Path, ...]
    outside: tuple[Path, ...]
    fresh: bool
    backbone: str | None
    weights: str | None
    freeze: bool | None
    epochs: int | None
    max_steps: int | None
    learning_rate: float | None
    patience: int | None
    sampling: str | None
    seed: int | None
    distill: float | None

    def resolved(self) -> Recipe:
        """The recipe with the values of the command line.

        Raises:
            InvalidInput: a value is not legal, or --epochs is given for a recipe that counts steps.
        """
        recipe = override(read_recipe(self.recipe), "train", **{name: getattr(self, name) for name in SECTION})
        recipe = override(recipe, "backbone", name=self.backbone, weights=self.weights)
        if self.epochs is not None and recipe.train.max_steps:
            raise InvalidInput(f"--epochs: recipe {recipe.name} counts steps", "give --max-steps")
        return recipe

    def refuse_sweep(self) -> None:
        """Raise InvalidInput if an option cannot be combined with --sweep."""
        given = {
            "--init-from": self.init_from,
            "--backbone": self.backbone,
            "--weights": self.weights,
            "--freeze": self.freeze,
            "--teacher": self.teacher,
            "--unlabelled": self.unlabelled or None,
            "--outside": self.outside or None,
        }
        for name, value in given.items():
            if value is not None:
                raise InvalidInput("--sweep trains every backbone in full and frozen", f"leave out {name}")


@command(epilog="Example: python -m training train shapes --data runs/drawn")
@click.argument("recipe", is_eager=True)
@data_options
@extra_option
@outside_option
@click.option("--freeze/--full", default=None, help="Train only the last layer, or all (default: the recipe's).")
@click.option("--backbone", help="Backbone, instead of the recipe's.")
@click.option("--weights", help="imagenet, none, or the path of a state dict, instead of the recipe's.")
@click.option("--epochs", type=click.IntRange(0), help="Epochs, instead of the recipe's.")
@click.option("--max-steps", type=click.IntRange(1), help="Training steps, instead of the recipe's steps or epochs.")
@click.option(
    "--learning-rate", type=click.FloatRange(0, min_open=True), help="Learning rate, instead of the recipe's."
)
@click.option("--patience", type=click.IntRange(1), help="Stop after this many epochs without a lower validation loss.")
@click.option("--sampling", type=click.Choice(["shuffle", "balanced"]), help="balanced: all classes equally often.")
@click.option("--seed", type=int, help="Random seed, instead of the recipe's.")
@click.option(
    "--init-from",
    type=RunFolder(),
    metavar="RUN",
    help="Fine-tune: start from another run's weights.",
)
@teacher_options
@click.option(
    "--sweep",
    is_flag=False,
    flag_value="all",
    metavar="[BACKBONE[:WEIGHTS],...]",
    help="Train every backbone of the list (default: all), in full and frozen, and write one table.",
)
@fresh_option
@runs_option
def train(**given: Any) -> None:
    """Train a model for RECIPE (a name in config/recipes, or a path)."""
    options = Options(**given)
    with parallel.joined() as first:
        _train(options, first)


def _train(options: Options, first: bool) -> None:
    """Args: first: whether this process prints; of several, the others only help to compute."""
    recipe = options.resolved()
    photos, added = read_data(options.data, options.where, recipe), read_extra(options.extra, recipe)
    if options.sweep:
        options.refuse_sweep()
        parallel.refuse_sweep()
        folder, record = run_sweep(recipe, options.sweep, photos, added, options.root, options.fresh)
        click.echo(f"{folder}: {record.summary}")
        return
    teacher = read_teacher(options.teacher, options.unlabelled, recipe)
    kinds = read_outside(options.outside, options.where, options.data, options.extra, recipe)
    kinds = trained_on(kinds, asked=bool(options.outside))
    folder, record = train_run(recipe, photos, added, options.root, options.fresh, options.init_from, teacher, kinds)
    if not first:
        return
    click.echo(f"{folder}: {record.summary}")
    words = data_words(options.data, options.where, options.extra, options.outside)
    next_step("training", "prune", folder, *words, *runs_words(options.root))
