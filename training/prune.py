"""Prune a run: remove what it does not need, and fine-tune the rest.

    python -m training prune runs/classroom/ID-train --data PHOTOS --where open_licence=yes --extra runs/drawn
    python -m training prune runs/classroom/ID-train --data PHOTOS --method channel --amount 0.7 --steps 5

`prune.method` of the recipe: `unstructured` sets single weights to zero, as the classroom document does
(compression/unstructured.py): it compresses better but is not faster. `channel` removes whole channels
(compression/structured.py): smaller and faster. Writes runs/classroom/ID-prune with accuracy, size and latency of
parent and child. If it is interrupted, the same command resumes.
"""

from pathlib import Path
from typing import Any

import click

from common.cli import command
from common.commands import next_step
from common.errors import InvalidInput
from config.recipe import override
from training.compression.pruning import METHODS, prune_model
from training.compression.unstructured import PRESETS, save_state_dicts
from training.data.outside import read_outside, trained_on
from training.data.selection import (
    fingerprint,
    fingerprint_unlabelled,
    read_extra,
    read_unlabelled,
    refuse_both,
    refuse_leak,
)
from training.fitting.checkpoints import Recorder
from training.fitting.scope import fit_scope, require_enough
from training.options import (
    RunFolder,
    data_options,
    data_words,
    extra_option,
    fresh_option,
    outside_option,
    runs_option,
    unlabelled_option,
)
from training.records.folder import make_run
from training.records.run import Inputs, PrunedChannels, PrunedWeights
from training.records.split import outside_of_run, split_of_run
from training.records.weights import load_model, save_model


@command(epilog="Example: python -m training prune runs/shapes/ID-train --data runs/drawn")
@click.argument("run", type=RunFolder(("train",)))
@data_options
@extra_option
@outside_option
@click.option(
    "--method",
    type=click.Choice(list(METHODS)),
    help="Pruning method, instead of the recipe's; only channel makes it faster.",
)
@click.option(
    "--amount", type=click.FloatRange(0, 1, max_open=True), help="Share of zeros or channels, instead of the recipe's."
)
@click.option("--layers", type=click.Choice(list(PRESETS)), help="document: the classroom document's list for ResNets.")
@click.option("--steps", type=click.IntRange(1, 20), help="Steps of channel pruning, each with a fine-tune.")
@click.option(
    "--epochs",
    type=click.IntRange(0),
    help="Epochs of each fine-tune, instead of the recipe's; the classroom document has 0.",
)
@unlabelled_option
@fresh_option
@runs_option
def prune(
    run: Path,
    data: tuple[Path, ...],
    where: tuple[str, ...],
    extra: tuple[Path, ...],
    outside: tuple[Path, ...],
    unlabelled: tuple[Path, ...],
    fresh: bool,
    root: Path,
    **changes: Any,
) -> None:
    """Prune RUN and fine-tune it on the photos it was trained on."""
    recipe, parent, record = load_model(run)
    recipe = override(recipe, "prune", **changes)
    if record.step == "prune":
        raise InvalidInput(
            f"{run} is already pruned", f"raise prune.amount in the recipe and prune {record.inputs.parent}"
        )
    training, validation = split_of_run(run, recipe, record, data, where)
    added, others = read_extra(extra, recipe), read_unlabelled(unlabelled)
    refuse_leak(added, validation)
    refuse_leak(others, validation, "--unlabelled")
    usable = trained_on(read_outside(outside, where, data, extra, recipe), asked=bool(outside))
    kinds = outside_of_run(run, record, usable)
    refuse_both(kinds, [*training, *validation, *added])
    if kinds:
        require_enough([*training, *validation], kinds)
    parent.scope = None  # the pruned model has other features, so it gets a scope of its own
    if others and not recipe.prune.learns_from_teacher:
        raise InvalidInput("--unlabelled: nothing is learned from the unpruned model", "set prune.distill")
    inputs = Inputs(
        parent=record.id,
        data=record.inputs.data,
        validation=record.inputs.validation,
        extra=fingerprint(added, recipe.labels),
        **({"outside": fingerprint_unlabelled(kinds)} if kinds else {}),
        **({"unlabelled": fingerprint_unlabelled(others)} if others else {}),
    )

    def work(folder: Path) -> PrunedWeights | PrunedChannels:
        model, result = prune_model(parent, recipe, [*training, *added, *others], validation, Recorder(folder))
        if kinds:
            scope = fit_scope(model, [*training, *validation], added, kinds, recipe)
            result = result.model_copy(update={"scope": scope, "summary": f"{result.summary}; {scope}"})
        save_model(folder, model)
        if recipe.prune.method == "unstructured":
            save_state_dicts(folder, recipe, parent, model)
        return result

    child, pruned = make_run("prune", recipe, root, inputs, work, fresh)
    click.echo(f"{child}: {pruned.summary}")
    next_step("training", "evaluate", child, *data_words(data, where))
