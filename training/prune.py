"""Prune a run: take out what it can do without, and fine-tune what is left.

    python -m training prune runs/classroom/ID-train --data PHOTOS --where open_licence=yes --extra runs/drawn
    python -m training prune runs/classroom/ID-train --data PHOTOS --method channel --amount 0.7 --steps 5

`prune.method` of the recipe: `unstructured` sets single weights to zero, as the document does (unstructured.py):
smaller to pack, no faster. `channel` takes out whole channels (channels.py): smaller and faster. Writes
runs/classroom/ID-prune with accuracy, size and latency of parent and child. Interrupted, the same command goes on.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from common.cli import command
from common.errors import UserError
from config.recipe import Recipe, override
from dataset.photos import Photo
from training.compression.structured import prune_channels
from training.compression.unstructured import PRESETS, prune_unstructured, save_state_dicts
from training.fitting.checkpoints import Recorder
from training.fitting.distillation import print_of, read_unlabelled, unlabelled_option
from training.models.classifier import Classifier
from training.records.options import (
    data_options,
    extra_option,
    fresh_option,
    read_extra,
    refuse_leak,
    run_argument,
    runs_option,
    split_of_run,
)
from training.records.run import fingerprint, load_model, new_run, save_model

METHODS = {"unstructured": prune_unstructured, "channel": prune_channels}


@command(epilog="Example: python -m training prune runs/shapes/ID-train --data runs/drawn")
@run_argument
@data_options
@extra_option
@click.option(
    "--method", type=click.Choice(list(METHODS)), help="Instead of the recipe's; channel is what gets faster."
)
@click.option(
    "--amount", type=click.FloatRange(0, 1, max_open=True), help="Share of zeros or channels, instead of the recipe's."
)
@click.option("--layers", type=click.Choice(list(PRESETS)), help="document: the document's list for ResNets.")
@click.option("--steps", type=click.IntRange(1, 20), help="Of channels, up to the amount, each with a fine-tune.")
@click.option(
    "--epochs", type=click.IntRange(0), help="Of each fine-tune, instead of the recipe's; the document has 0."
)
@unlabelled_option
@fresh_option
@runs_option
def prune(
    run: Path,
    data: tuple[Path, ...],
    where: tuple[str, ...],
    extra: tuple[Path, ...],
    unlabelled: tuple[Path, ...],
    fresh: bool,
    root: Path,
    **changes: Any,
) -> None:
    """Prune RUN and fine-tune what is left, on the photos it was trained on."""
    recipe, parent, before = load_model(run)
    recipe = override(recipe, "prune", **changes)
    if before["step"] == "prune":
        raise UserError(f"{run} is pruned already: raise prune.amount in the recipe and prune {before['parent']}")
    training, validation = split_of_run(run, recipe, before, data, where)
    added, others = read_extra(extra, recipe), read_unlabelled(unlabelled)
    refuse_leak(added, validation)
    refuse_leak(others, validation, "--unlabelled")
    if others and not recipe.prune.learns_from_teacher:
        raise UserError("--unlabelled: nothing is learnt from the unpruned model: set prune.distill")
    prints = {"data": before["data"], "validation": before["validation"], "extra": fingerprint(added, recipe.labels)}
    if others:
        prints["unlabelled"] = print_of(others)
    with new_run("prune", recipe, root, fresh, parent=before["id"], **prints) as (folder, facts):
        model = prune_model(parent, recipe, [*training, *added, *others], validation, facts, Recorder(folder))
        save_model(folder, model)
        if recipe.prune.method == "unstructured":
            save_state_dicts(folder, recipe, parent, model)
    click.echo(f"{folder.with_suffix('')}: {facts['summary']}")


def prune_model(
    parent: Classifier,
    recipe: Recipe,
    training: Sequence[Photo],
    validation: Sequence[Photo],
    facts: dict[str, Any],
    recorder: Recorder | None = None,
) -> Classifier:
    """A pruned and fine-tuned copy by the recipe's method; writes before, after, epochs and the gate into `facts`."""
    facts["method"] = recipe.prune.method
    return METHODS[recipe.prune.method](parent, recipe, training, validation, facts, recorder)
