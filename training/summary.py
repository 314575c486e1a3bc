"""What a model is made of: layers, shapes, parameters, the share that is trained, and an estimate of memory.

    python -m training summary classroom --backbone resnet18 --freeze
    python -m training summary runs/classroom/ID-prune --json summary.json

The layers and the estimate are torchinfo's. Of a run's weights the shapes alone are read, and nothing is
computed: shapes are followed through the network on PyTorch's `meta` device, so that a large batch costs no memory.

Memory is in MiB (2^20 bytes), which is what the document's table calls MB. Its forward/backward is larger
(torchsummary counts the output of every module twice, torchinfo of those with parameters).
"""

import math
from pathlib import Path
from typing import Any

import click
import torch
import torchinfo

from common.cli import command
from common.errors import UserError
from common.files import write_json
from config.recipe import Recipe, names, read_recipe, validated
from training.models.registry import build
from training.models.reshape import Shapes, reshape
from training.records.run import read_run, saved_shapes

COLUMNS = ("input_size", "output_size", "num_params", "trainable")
MIB = 2**20
FLOAT = torch.float32.itemsize


@command(epilog="Example: python -m training summary shapes")
@click.argument("model", metavar="RECIPE_OR_RUN")
@click.option("--backbone", help="Instead of the recipe's.")
@click.option(
    "--freeze/--full", default=None, help="Count the last layer alone as trained, or all.  [default: as it was trained]"
)
@click.option("--height", type=int, help="Instead of the recipe's, in pixels.")
@click.option("--width", type=int, help="Instead of the recipe's, in pixels.")
@click.option("--batch", type=int, default=1, show_default=True, help="Photos in one batch.")
@click.option("--depth", type=int, default=3, show_default=True, help="How deep nested layers are shown.")
@click.option("--json", "out", type=click.Path(path_type=Path), metavar="FILE", help="Also write it as JSON.")
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
        raise UserError("--batch and --depth start at 1")
    read, frozen, shapes = _read(model)
    recipe = _changed(read, frozen, backbone, freeze, height, width)
    found = inspect(recipe, batch, depth, shapes if recipe.backbone.name == read.backbone.name else {})
    click.echo(str(found).partition("Total params")[0], nl=False)
    facts = describe(recipe, found)
    click.echo(_text(facts))
    if out:
        _write(out, facts)


def inspect(recipe: Recipe, batch: int, depth: int, shapes: Shapes) -> torchinfo.ModelStatistics:
    """torchinfo's statistics of a recipe's classifier, frozen if the recipe freezes it.

    Args:
        shapes: of a run's tensors, where its channels may have been pruned.

    Raises:
        UserError: the network does not take photos of this size.
    """
    shape = (batch, *recipe.input.shape)
    with torch.device("meta"):
        model = build(recipe.backbone, len(recipe.labels), recipe.input)
        reshape(model, shapes)
        photos = torch.empty(shape, dtype=torch.uint8)
    if recipe.train.freeze:
        model.freeze()
    try:
        return torchinfo.summary(
            model, input_data=photos, device="meta", depth=depth, col_names=COLUMNS, col_width=18, verbose=0
        )
    except RuntimeError as error:
        raise UserError(
            f"{recipe.backbone.name} takes no photos of {shape[2]} x {shape[3]}: give a larger --height and --width"
        ) from error


def describe(recipe: Recipe, found: torchinfo.ModelStatistics) -> dict[str, Any]:
    """The statistics as plain data; sizes in MiB, rounded to 0.01.

    `total` is input as float32, forward/backward and parameters: the document's sum.
    """
    values = math.prod(found.input_size)  # one byte each as uint8; torchinfo counts Python's own bytes with them
    parts = {
        "input": values * FLOAT,
        "forward_backward": found.total_output_bytes,
        "parameters": found.total_param_bytes,
    }
    sizes = {"input_uint8": values, **parts, "total": sum(parts.values())}
    return {
        "recipe": recipe.name,
        "backbone": recipe.backbone.name,
        "input": list(found.input_size),
        "parameters": {
            "total": found.total_params,
            "trainable": found.trainable_params,
            "frozen": found.total_params - found.trainable_params,
            "trainable_share": round(found.trainable_params / found.total_params, 6),
        },
        "multiply_accumulates": found.total_mult_adds,
        "mebibytes": {name: round(size / MIB, 2) for name, size in sizes.items()},
        "layers": [_layer(layer) for layer in found.summary_list],
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


def _text(facts: dict[str, Any]) -> str:
    counts, sizes = facts["parameters"], facts["mebibytes"]
    rows = (
        ("input", sizes["input"], f"as float32; {sizes['input_uint8']:.2f} as the uint8 that is served"),
        ("forward/backward", sizes["forward_backward"], "outputs of layers with parameters, and their gradients"),
        ("parameters", sizes["parameters"], "as float32"),
        ("total", sizes["total"], "estimated"),
    )
    return "\n".join(
        [
            f"{counts['total']:,} parameters: {counts['trainable']:,} trainable ({counts['trainable_share']:.2%}), "
            f"{counts['frozen']:,} frozen; {facts['multiply_accumulates'] / 1e9:.3f} G multiply-accumulates",
            f"memory in MiB (2^20 bytes), batch of {facts['input'][0]}:",
            *(f"  {name:16} {size:10,.2f}  {note}" for name, size, note in rows),
        ]
    )


def _read(name: str) -> tuple[Recipe, bool, Shapes]:
    """A recipe; whether its last layer alone is trained (pruning fine-tunes all of a frozen run); a run's shapes."""
    if name in names() or Path(name).suffix in (".yaml", ".yml"):
        recipe = read_recipe(name)
        return recipe, recipe.train.freeze, {}
    if Path(name).is_dir():
        recipe, facts = read_run(Path(name))
        return recipe, recipe.train.freeze and facts.get("step") != "prune", saved_shapes(Path(name))
    if "/" in name:
        raise UserError(f"{name} is not there: give a recipe's name or .yaml file, or a folder of runs/RECIPE/")
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


def _write(path: Path, facts: dict[str, Any]) -> None:
    try:
        write_json(path, facts)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}: give another --json FILE") from error
