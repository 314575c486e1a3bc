"""Train a model on labelled photos.

    python -m training train classroom --data PHOTOS --where open_licence=yes --extra runs/drawn

holds out a share of the sources (recipe: train.validation), trains on the rest and
writes runs/classroom/ID-train: recipe.json, model.safetensors, run.json.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import torch

from config.recipe import Recipe, read_recipe, validated
from dataset.photos import Photo, hold_out
from training.backbones import Classifier, build
from training.loop import console, optimise, predict
from training.metrics import score
from training.options import data_options, extra_option, read_data, runs_option
from training.runs import fingerprint, new_run, save_model


@click.command(epilog="Example: python -m training train classroom --data runs/drawn --epochs 2")
@click.argument("recipe")
@data_options
@extra_option
@click.option("--freeze/--full", default=None, help="Train the last layer alone, or all (default: the recipe's).")
@click.option("--backbone", help="Instead of the recipe's.")
@click.option("--weights", help="imagenet, none, or the path of a state dict, instead of the recipe's.")
@click.option("--epochs", type=click.IntRange(0), help="Instead of the recipe's.")
@click.option("--seed", type=int, help="Instead of the recipe's.")
@runs_option
def train(
    recipe: str, data: tuple[Path, ...], where: tuple[str, ...], extra: tuple[Path, ...], root: Path, **changes: Any
) -> None:
    """Train a model for RECIPE (a name in config/recipes, or a path)."""
    resolved = override(read_recipe(recipe), **changes)
    photos = read_data(data, where, resolved)
    training, validation = hold_out(photos, resolved.train.validation, resolved.train.seed)
    added = read_data(extra, (), resolved)
    with new_run("train", resolved, root, data=fingerprint(photos, resolved.labels)) as (folder, facts):
        facts["validation"] = fingerprint(validation, resolved.labels)
        facts["extra"] = fingerprint(added, resolved.labels)
        model = train_model(resolved, [*training, *added], validation, facts)
        save_model(folder, model)
    click.echo(f"{folder.with_suffix('')}: {facts['summary']}")


def train_model(
    recipe: Recipe, training: Sequence[Photo], validation: Sequence[Photo], facts: dict[str, Any]
) -> Classifier:
    """Build and train a model; writes epochs, parameters and validation scores into `facts`."""
    torch.manual_seed(recipe.train.seed)
    model = build(recipe.backbone, len(recipe.labels))
    if recipe.train.freeze:
        model.freeze()
    facts["parameters"] = sum(p.numel() for p in model.parameters())
    facts["trained_parameters"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
    console.print(
        f"{recipe.backbone.name}: {facts['trained_parameters']:,} of {facts['parameters']:,} parameters, "
        f"{len(training)} photos to train on, {len(validation)} held out"
    )
    facts["epochs"] = optimise(model, training, validation, recipe, recipe.train)
    found = score(predict(model, validation, recipe), validation, recipe.labels)
    facts["metrics"], facts["summary"] = found.as_json(), str(found)
    return model


def override(
    recipe: Recipe,
    freeze: bool | None = None,
    backbone: str | None = None,
    weights: str | None = None,
    epochs: int | None = None,
    seed: int | None = None,
) -> Recipe:
    """A recipe with the command line's changes, validated again.

    Raises:
        click.ClickException: a change is not legal.
    """
    content = recipe.model_dump()
    for section, key, value in (
        ("train", "freeze", freeze),
        ("backbone", "name", backbone),
        ("backbone", "weights", weights),
        ("train", "epochs", epochs),
        ("train", "seed", seed),
    ):
        if value is not None:
            content[section][key] = value
    return validated(content, "command line")
