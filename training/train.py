"""Train a model on labelled photos.

    python -m training train classroom --data PHOTOS --where open_licence=yes --extra runs/drawn
    python -m training train classroom --data SPLIT --backbone resnet18 --full --epochs 5
    python -m training train classroom --data SPLIT --sweep
    python -m training train classroom --data SPLIT --backbone resnet18 --teacher RUN --distill 0.7 --unlabelled PHOTOS

trains on the `train` part of a split and validates on `val`; photos that are not split are held out by
source (recipe: train.validation). Writes runs/classroom/ID-train: recipe.json, model.safetensors, run.json,
curves.png, TensorBoard's logs, and checkpoint.pth: the last epoch's state as torch.save leaves it, with the keys epoch,
model_state_dict and optimizer_state_dict. With a teacher, a share of the loss asks for the teacher's probabilities, of
photos without a label too (training/fitting/distillation.py). Interrupted, the same command goes on after the last
whole epoch and ends with the weights that it would have had.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import torch

from common.cli import command
from common.console import err_console
from common.errors import UserError
from config.recipe import Recipe, override, read_recipe
from dataset.photos import Photo
from training.evaluation.inference import predict
from training.evaluation.metrics import score
from training.fitting.checkpoints import Recorder
from training.fitting.distillation import Lesson, read_lesson, teacher_options
from training.fitting.loop import optimise
from training.models.classifier import Classifier
from training.models.registry import build
from training.records.options import (
    data_options,
    divide,
    extra_option,
    fresh_option,
    read_data,
    read_extra,
    refuse_leak,
    runs_option,
)
from training.records.run import fingerprint, load_model, new_run, save_model


@command(epilog="Example: python -m training train shapes --data runs/drawn")
@click.argument("recipe")
@data_options
@extra_option
@click.option("--freeze/--full", default=None, help="Train the last layer alone, or all (default: the recipe's).")
@click.option("--backbone", help="Instead of the recipe's.")
@click.option("--weights", help="imagenet, none, or the path of a state dict, instead of the recipe's.")
@click.option("--epochs", type=click.IntRange(0), help="Instead of the recipe's.")
@click.option("--max-steps", type=click.IntRange(1), help="Instead of the recipe's, which counts steps or epochs.")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), help="Instead of the recipe's.")
@click.option("--patience", type=click.IntRange(1), help="Stop after so many epochs without a lower validation loss.")
@click.option("--sampling", type=click.Choice(["shuffle", "balanced"]), help="balanced: classes equally often.")
@click.option("--seed", type=int, help="Instead of the recipe's.")
@click.option(
    "--init-from",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="RUN",
    help="Fine-tune: start from another run's weights.",
)
@teacher_options
@click.option(
    "--sweep",
    is_flag=False,
    flag_value="all",
    metavar="[BACKBONE[:WEIGHTS],...]",
    help="Train each backbone (all, if none is named), full and frozen, into one table.",
)
@fresh_option
@runs_option
def train(
    recipe: str,
    data: tuple[Path, ...],
    where: tuple[str, ...],
    extra: tuple[Path, ...],
    root: Path,
    sweep: str | None,
    init_from: Path | None,
    teacher: Path | None,
    unlabelled: tuple[Path, ...],
    fresh: bool,
    backbone: str | None,
    weights: str | None,
    **changes: Any,
) -> None:
    """Train a model for RECIPE (a name in config/recipes, or a path)."""
    resolved = override(override(read_recipe(recipe), "train", **changes), "backbone", name=backbone, weights=weights)
    if changes["epochs"] is not None and resolved.train.max_steps:
        raise UserError(f"--epochs: recipe {resolved.name} counts steps: give --max-steps")
    photos, added = read_data(data, where, resolved), read_extra(extra, resolved)
    if sweep:
        given = {"--init-from": init_from, "--backbone": backbone, "--weights": weights, "--freeze": changes["freeze"]}
        given |= {"--teacher": teacher, "--unlabelled": unlabelled or None}
        clash = [name for name, value in given.items() if value is not None]
        if clash:
            raise UserError(f"--sweep trains every backbone in full and frozen: leave out {clash[0]}")
        from training.fitting.sweep import run_sweep

        run_sweep(resolved, sweep, photos, added, root, fresh)
        return
    lesson = read_lesson(teacher, unlabelled, resolved)
    folder, facts = train_run(resolved, photos, added, root, fresh, init_from, lesson)
    click.echo(f"{folder}: {facts['summary']}")


def train_run(
    recipe: Recipe,
    photos: Sequence[Photo],
    added: Sequence[Photo],
    root: Path,
    fresh: bool = False,
    init_from: Path | None = None,
    lesson: Lesson | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Train one model into a run of its own.

    Args:
        init_from: a run to start from.
        lesson: a teacher to learn from besides.

    Returns:
        the run's folder and its run.json.
    """
    training, validation = divide(photos, recipe)
    refuse_leak(added, validation)
    before = load_model(init_from) if init_from else None
    if before and before[2]["validation"] != fingerprint(validation, recipe.labels):
        err_console.print(
            f"note: {init_from} held out other photos: it may have been trained on some that are held out now"
        )
    prints = {
        "data": fingerprint(photos, recipe.labels),
        "validation": fingerprint(validation, recipe.labels),
        "extra": fingerprint(added, recipe.labels),
    }
    if lesson:
        lesson.refuse_leak(validation, prints)
        prints |= lesson.as_json()
    unlabelled, teacher = (lesson.unlabelled, lesson.model) if lesson else ([], None)
    with new_run("train", recipe, root, fresh, parent=before[2]["id"] if before else None, **prints) as (folder, facts):
        start = _fitting(before[1], before[0], recipe) if before else None
        seen = [*training, *added, *unlabelled]
        model = train_model(recipe, seen, validation, facts, Recorder(folder, portable=True), start, teacher)
        save_model(folder, model)
    return folder.with_suffix(""), facts


def train_model(
    recipe: Recipe,
    training: Sequence[Photo],
    validation: Sequence[Photo],
    facts: dict[str, Any],
    recorder: Recorder | None = None,
    start: Classifier | None = None,
    teacher: Classifier | None = None,
) -> Classifier:
    """Build (or take) and train a model; writes epochs, parameters and validation scores into `facts`."""
    torch.manual_seed(recipe.train.seed)
    model = start or build(recipe.backbone, len(recipe.labels), recipe.input)
    if recipe.train.freeze:
        model.freeze()
    facts["parameters"] = sum(p.numel() for p in model.parameters())
    facts["trained_parameters"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
    err_console.print(
        f"{recipe.backbone.name}: {facts['trained_parameters']:,} of {facts['parameters']:,} parameters, "
        f"{len(training)} photos to train on, {len(validation)} held out"
    )
    facts["epochs"] = optimise(model, training, validation, recipe, recipe.train, teacher, recorder)
    found = score(predict(model, validation, recipe), validation, recipe.labels)
    facts["metrics"], facts["summary"] = found.as_json(), str(found)
    return model


def _fitting(model: Classifier, before: Recipe, recipe: Recipe) -> Classifier:
    if (before.backbone.name, before.labels) != (recipe.backbone.name, recipe.labels):
        raise UserError(
            f"--init-from is a {before.backbone.name} for {', '.join(before.labels)}: this recipe wants a "
            f"{recipe.backbone.name} for {', '.join(recipe.labels)}: give --backbone, or another run"
        )
    model.pool = recipe.backbone.pool
    return model.requires_grad_(True)
