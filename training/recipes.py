"""List the recipes: what each tells apart, from what, with which network, and what weights can be had here.

    python -m training recipes
    python -m training recipes mine.yaml --json

A recipe is data: a file in config/recipes, or one anywhere that is given by its path.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import torch
from rich.console import Console
from rich.table import Table

from common.cli import command
from config.recipe import Backbone, Recipe, names, read_recipe
from training.models.registry import BACKBONES

SHOWN = 4
"""So many labels are shown in the table; --json has all."""


@dataclass(frozen=True)
class Line:
    """A recipe in short."""

    name: str
    task: str
    classes: tuple[str, ...]
    input: str
    backbone: str
    weights: str


@command(epilog="Example: python -m training recipes")
@click.argument("paths", nargs=-1, metavar="[RECIPE]...")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON for each, with all labels.")
def recipes(paths: tuple[str, ...], as_json: bool) -> None:
    """List the recipes of config/recipes, or those that are named."""
    lines = [describe(read_recipe(name)) for name in paths or names()]
    if as_json:
        for line in lines:
            click.echo(json.dumps(asdict(line), ensure_ascii=False))
        return
    table = Table(*(field.replace("_", " ") for field in Line.__dataclass_fields__))
    for line in lines:
        more = f" ... ({len(line.classes)})" if len(line.classes) > SHOWN else ""
        classes = ", ".join(line.classes[:SHOWN]) + more
        table.add_row(line.name, line.task, classes, line.input, line.backbone, line.weights)
    Console().print(table)


def describe(recipe: Recipe) -> Line:
    """A recipe's line."""
    size = recipe.input
    shorter = f", shorter side {size.shorter}" if size.shorter else ""
    return Line(
        recipe.name,
        recipe.task,
        recipe.labels,
        f"{size.height} x {size.width}, {size.resize}{shorter}",
        recipe.backbone.name,
        weights_here(recipe.backbone),
    )


def weights_here(backbone: Backbone) -> str:
    """How training would start here: `random`, a file, a package, or a download that may lie here already."""
    if backbone.weights == "none":
        return "random"
    if backbone.weights != "imagenet":
        return f"file {backbone.weights}" + ("" if Path(backbone.weights).is_file() else " (missing)")
    kind = BACKBONES[backbone.name].weights
    if kind == "package":
        return "ImageNet, from a package"
    if kind == "none":
        return "none exist: set backbone.weights to none"
    from torchvision import models

    file = Path(models.get_model_weights(backbone.name)["IMAGENET1K_V1"].url).name
    here = (Path(torch.hub.get_dir()) / "checkpoints" / file).is_file()
    return f"ImageNet, {'here' if here else 'to be downloaded'}: {file}"
