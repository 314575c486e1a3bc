"""List the recipes: task, classes, input, backbone, and where the initial weights come from.

    python -m training recipes
    python -m training recipes mine.yaml --json

A recipe is a file in config/recipes, or any other file that is given by its path.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import torch
from rich.markup import escape
from rich.table import Column, Table

from common.cli import command
from common.console import console
from config.recipe import Backbone, Recipe, names, read_recipe
from training.models.registry import BACKBONES

SHOWN = 4
"""Labels that the table shows; --json has all."""


@dataclass(frozen=True)
class Summary:
    """A recipe in short."""

    name: str
    task: str
    classes: tuple[str, ...]
    input: str
    backbone: str
    weights: str


@command(epilog="Example: python -m training recipes")
@click.argument("paths", nargs=-1, metavar="[RECIPE]...")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON per recipe, with all labels.")
def recipes(paths: tuple[str, ...], as_json: bool) -> None:
    """List the recipes of config/recipes, or those that are named."""
    summaries = [describe(read_recipe(name)) for name in paths or names()]
    if as_json:
        for summary in summaries:
            click.echo(json.dumps(asdict(summary), ensure_ascii=False))
    else:
        console.print(table_of(summaries))


def table_of(summaries: Sequence[Summary]) -> Table:
    """One row per recipe; two columns, so that nothing is cut in a terminal of 80 columns."""
    table = Table("recipe", Column("", overflow="fold"), show_lines=True)
    for summary in summaries:
        more = f" ... ({len(summary.classes)})" if len(summary.classes) > SHOWN else ""
        lines = (
            summary.task,
            f"classes: {', '.join(summary.classes[:SHOWN])}{more}",
            f"input: {summary.input}",
            f"backbone: {summary.backbone}",
            f"weights: {summary.weights}",
        )
        table.add_row(summary.name, escape("\n".join(lines)))
    return table


def describe(recipe: Recipe) -> Summary:
    """The summary of a recipe."""
    size = recipe.input
    shorter = f", shorter side {size.shorter}" if size.shorter else ""
    return Summary(
        recipe.name,
        recipe.task,
        recipe.labels,
        f"{size.height} x {size.width}, {size.resize}{shorter}",
        recipe.backbone.name,
        weights_source(recipe.backbone),
    )


def weights_source(backbone: Backbone) -> str:
    """Where the initial weights come from: `random`, a file, a package, or a download."""
    if backbone.weights == "none":
        return "random"
    if backbone.weights != "imagenet":
        return f"file {backbone.weights}" + ("" if Path(backbone.weights).is_file() else " (missing)")
    kind = BACKBONES[backbone.name].weights
    if kind == "package":
        return "ImageNet, from a package"
    if kind == "none":
        return "this backbone has no ImageNet weights: set backbone.weights to none"
    from torchvision import models

    file = Path(models.get_model_weights(backbone.name)["IMAGENET1K_V1"].url).name
    downloaded = (Path(torch.hub.get_dir()) / "checkpoints" / file).is_file()
    return f"ImageNet, {'downloaded' if downloaded else 'to be downloaded'}: {file}"
