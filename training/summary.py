"""Summarise a model: layers, shapes, parameters, the trainable share, and an estimate of its memory.

    python -m training summary classroom --backbone resnet18 --freeze
    python -m training summary runs/classroom/ID-prune --json summary.json

The layers and the estimate come from torchinfo. Only the shapes of a run's weights are read, and PyTorch's `meta`
device follows shapes through the network without computing, so that a large batch needs no memory.

Memory is in MiB (2^20 bytes); the classroom document's table calls it MB. Its figure for forward/backward is larger:
torchsummary counts the output of every module twice, torchinfo only of modules with parameters.
"""

import math
from pathlib import Path
from typing import Any

import click
import torch
import torchinfo
from rich import box
from rich.table import Table

from common.cli import command
from common.console import console
from common.errors import InvalidInput, NotFound
from common.files import write_json, writing
from config.recipe import Recipe, names, read_recipe, validated
from training.models.registry import build
from training.models.reshape import Shapes, reshape
from training.records.index import is_latest, latest_run
from training.records.run import read_recipe_of, read_record
from training.records.weights import saved_shapes

MIB = 2**20
FLOAT = torch.float32.itemsize


@command(epilog="Example: python -m training summary shapes")
@click.argument("model", metavar="RECIPE_OR_RUN")
@click.option("--backbone", help="Backbone, instead of the recipe's.")
@click.option(
    "--freeze/--full",
    default=None,
    help="Count only the last layer as trained, or all.  [default: as it was trained]",
)
@click.option("--height", type=int, help="Height of the input in pixels, instead of the recipe's.")
@click.option("--width", type=int, help="Width of the input in pixels, instead of the recipe's.")
@click.option("--batch", type=int, default=1, show_default=True, help="Photos in one batch.")
@click.option("--depth", type=int, default=3, show_default=True, help="Levels of nested layers to show.")
@click.option("--json", "out", type=click.Path(path_type=Path), metavar="FILE", help="Also write the summary as JSON.")
def summary(
    model: str,
    backbone: str | None,
    freeze: bool | None,
    height: int | None,
    width: int | None,
    batch: int,
    depth: int,
    out: Path | None,
) -> None:
    """Show layers, shapes, parameters and memory of RECIPE_OR_RUN: a recipe's name or file, or a run's folder."""
    if min(batch, depth) < 1:
        raise InvalidInput("--batch and --depth must be 1 or more")
    read, frozen, shapes = _read(model)
    recipe = _changed(read, frozen, backbone, freeze, height, width)
    statistics = inspect(recipe, batch, depth, shapes if recipe.backbone.name == read.backbone.name else {})
    content = describe(recipe, statistics)
    console.print(layer_table(statistics, depth))
    click.echo(_text(content))
    if out:
        with writing(out, "give another --json FILE"):
            write_json(out, content)


def layer_table(statistics: torchinfo.ModelStatistics, depth: int) -> Table:
    """One row per layer, indented by its depth; readable in a terminal of 80 columns."""
    table = Table("layer", "output", "parameters", "trained", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    for layer in statistics.summary_list:
        if layer.depth > depth:
            continue
        trained = {0: "no", layer.num_params: "yes"}.get(layer.trainable_params, "partly") if layer.num_params else "-"
        name = f"{'  ' * layer.depth}{layer.class_name} ({layer.var_name})"
        size = "x".join(map(str, layer.output_size))
        table.add_row(name, size, f"{layer.num_params:,}" if layer.num_params else "-", trained)
    return table


def inspect(recipe: Recipe, batch: int, depth: int, shapes: Shapes) -> torchinfo.ModelStatistics:
    """torchinfo's statistics of a recipe's classifier, frozen if the recipe freezes it.

    Args:
        shapes: of a run's tensors, whose channels may have been pruned.

    Raises:
        InvalidInput: the network does not accept photos of this size.
    """
    shape = (batch, *recipe.input.shape)
    with torch.device("meta"):
        model = build(recipe.backbone, len(recipe.labels), recipe.input)
        reshape(model, shapes)
        photos = torch.empty(shape, dtype=torch.uint8)
    if recipe.train.freeze:
        model.freeze()
    try:
        return torchinfo.summary(model, input_data=photos, device="meta", depth=depth, verbose=0)
    except RuntimeError as error:
        problem = f"{recipe.backbone.name} does not accept photos of {shape[2]} x {shape[3]}"
        raise InvalidInput(problem, "give a larger --height and --width") from error


def describe(recipe: Recipe, statistics: torchinfo.ModelStatistics) -> dict[str, Any]:
    """The statistics as plain data; sizes in MiB, rounded to 0.01.

    `total` is the classroom document's sum: input as float32, forward/backward and parameters.
    """
    values = math.prod(statistics.input_size)  # one byte each as uint8; torchinfo adds the bytes of Python objects
    parts = {
        "input": values * FLOAT,
        "forward_backward": statistics.total_output_bytes,
        "parameters": statistics.total_param_bytes,
    }
    sizes = {"input_uint8": values, **parts, "total": sum(parts.values())}
    return {
        "recipe": recipe.name,
        "backbone": recipe.backbone.name,
        "input": list(statistics.input_size),
        "parameters": {
            "total": statistics.total_params,
            "trainable": statistics.trainable_params,
            "frozen": statistics.total_params - statistics.trainable_params,
            "trainable_share": round(statistics.trainable_params / statistics.total_params, 6),
        },
        "multiply_accumulates": statistics.total_mult_adds,
        "mebibytes": {name: round(size / MIB, 2) for name, size in sizes.items()},
        "layers": [_layer(layer) for layer in statistics.summary_list],
    }


def _layer(layer: Any) -> dict[str, Any]:
    return {
        "name": layer.var_name,
        "type": layer.class_name,
        "depth": layer.depth,
        "input": layer.input_size,
        "output": layer.output_size,
        "parameters": layer.num_params,
        "trainable": layer.trainable_params,
    }


def _text(content: dict[str, Any]) -> str:
    counts, sizes = content["parameters"], content["mebibytes"]
    rows = (
        ("input", sizes["input"], f"as float32; {sizes['input_uint8']:.2f} as uint8, which is served"),
        ("forward/backward", sizes["forward_backward"], "layer outputs and their gradients"),
        ("parameters", sizes["parameters"], "as float32"),
        ("total", sizes["total"], "estimated"),
    )
    return "\n".join(
        [
            f"{counts['total']:,} parameters: {counts['trainable']:,} trainable ({counts['trainable_share']:.2%}), "
            f"{counts['frozen']:,} frozen",
            f"{content['multiply_accumulates'] / 1e9:.3f} G multiply-accumulates",
            f"memory in MiB (2^20 bytes), batch of {content['input'][0]}:",
            *(f"  {name:16} {size:10,.2f}  {note}" for name, size, note in rows),
        ]
    )


def _read(name: str) -> tuple[Recipe, bool, Shapes]:
    """The recipe; whether only the last layer is trained (pruning fine-tunes all layers); a run's shapes."""
    if name in names() or Path(name).suffix in (".yaml", ".yml"):
        recipe = read_recipe(name)
        return recipe, recipe.train.freeze, {}
    if is_latest(name):
        name = str(latest_run(name))
    if Path(name).is_dir():
        recipe, record = read_recipe_of(Path(name)), read_record(Path(name))
        return recipe, recipe.train.freeze and record.step != "prune", saved_shapes(Path(name))
    if "/" in name:
        raise NotFound(f"{name} does not exist", "give a recipe's name or .yaml file, or a folder of runs/RECIPE/")
    return read_recipe(name), False, {}


def _changed(
    recipe: Recipe, frozen: bool, backbone: str | None, freeze: bool | None, height: int | None, width: int | None
) -> Recipe:
    """The recipe with the command line's changes and without weights, validated again."""
    content = recipe.model_dump()
    content["backbone"] |= {"name": backbone or recipe.backbone.name, "weights": "none"}
    content["train"]["freeze"] = frozen if freeze is None else freeze
    content["input"] |= {key: value for key, value in (("height", height), ("width", width)) if value is not None}
    return validated(content, "command line")
