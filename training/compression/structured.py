"""Structured pruning: whole channels are taken out, in steps, and what is left is fine-tuned after each.

1. Torch-Pruning follows which channels of which layers belong together (residuals, batch norms, depthwise
   convolutions) and ranks each group by its weights' norm (Fang et al., DepGraph, CVPR 2023).
2. Every convolution is brought to the same share of its channels, to a multiple of `prune.round_to`.
3. The rest is fine-tuned for `prune.epochs` with the unpruned model as teacher; then the next step.

All steps are made. The result is the largest one within the bound of `gate.max_loss` and `prune.most_flips` on the
held-out photos; where none is, the unpruned model, which its own gate then judges. A step that is done is not done
again after an interruption: its weights lie in `step-N/` until the run is complete.
"""

import copy
import itertools
import json
from collections.abc import Collection, Sequence
from typing import Any

import torch_pruning
from rich.table import Table
from torch import Tensor, nn

from common.console import err_console
from common.errors import UserError
from common.files import write_json
from config.recipe import Recipe
from dataset.photos import Photo
from training.compression.cost import blank, cost, times
from training.compression.gate import compare, gate, strain
from training.evaluation.inference import predict
from training.evaluation.metrics import score
from training.fitting.checkpoints import Recorder
from training.fitting.loop import optimise
from training.models.classifier import Classifier
from training.records.run import PROGRESS, STEP_WEIGHTS, load_weights, save_model

Widths = dict[str, int]
"""A convolution's name -> its channels."""
OWN = ("step", "epochs")


def prune_channels(
    parent: Classifier,
    recipe: Recipe,
    training: Sequence[Photo],
    validation: Sequence[Photo],
    facts: dict[str, Any],
    recorder: Recorder | None = None,
) -> Classifier:
    """The smallest model within the bound, or a copy of the parent; writes steps, before, after and gate into `facts`.

    Args:
        recorder: keeps what was reached, and makes that the models' times are measured; without one (in
            cross-validation) nothing is kept and no time is taken.

    Raises:
        UserError: no channel would be removed.
    """
    wanted = ladder(widths(parent), recipe, feeding(parent, recipe) if recipe.prune.match else ())
    asked = predict(parent, validation, recipe)
    rows, models = _done(recorder, recipe)
    for number, step in enumerate(wanted[len(rows) :], start=len(rows) + 1):
        err_console.rule(f"step {number} of {len(wanted)}")
        model = remove(models[-1] if models else parent, step, recipe)
        within = recorder.inside(f"step-{number}") if recorder else None
        epochs = optimise(model, training, validation, recipe, recipe.prune, parent, within)
        parent.cpu()
        row = describe(model, asked, predict(model, validation, recipe), widths(parent), validation, recipe)
        models.append(model)
        rows.append({"step": number, **row, "epochs": [{**entry, "step": number} for entry in epochs]})
        _keep(recorder, rows, model)
    first = describe(parent, asked, asked, widths(parent), validation, recipe)
    table = [first, *rows]
    if recorder:
        table = [row | spent for row, spent in zip(table, times([parent, *models], recipe), strict=True)]
    show(table)
    chosen = max(index for index, row in enumerate(table) if row["within_bound"])
    model = [copy.deepcopy(parent), *models][chosen]
    found, own = (score(logits, validation, recipe.labels) for logits in (predict(model, validation, recipe), asked))
    _tell(facts, table, chosen, recipe)
    facts["metrics"], facts["summary"] = found.as_json(), f"{found}; {facts['summary']}"
    facts["gate"] = gate(found.mean_accuracy, own.mean_accuracy, recipe)
    if recorder:
        recorder.finish(facts["epochs"])
    return model


def widths(model: Classifier) -> Widths:
    """The channels of every convolution of the network."""
    return {name: each.out_channels for name, each in model.network.named_modules() if isinstance(each, nn.Conv2d)}


def feeding(model: Classifier, recipe: Recipe) -> set[str]:
    """The convolutions whose channels the last layer is given: where its features are matched, they stay."""
    network, photo = model.network, model.pixels(blank(recipe))
    head = network.get_submodule(model.head)
    graph = torch_pruning.DependencyGraph().build_dependency(network, photo)

    def feeds(layer: nn.Module) -> bool:
        group = graph.get_pruning_group(layer, graph.get_pruner_of_module(layer).prune_out_channels, [0])
        return any(dependency.target.module is head for dependency, _ in group)

    return {name for name, each in network.named_modules() if isinstance(each, nn.Conv2d) and feeds(each)}


def ladder(full: Widths, recipe: Recipe, kept: Collection[str] = ()) -> list[Widths]:
    """The widths after each step; steps that rounding makes equal to the one before are left out.

    Args:
        kept: convolutions that stay as they are.

    Raises:
        UserError: none is left.
    """
    settings = recipe.prune
    shares = [settings.amount * number / settings.steps for number in range(1, settings.steps + 1)]
    every = [
        full,
        *(
            {name: width if name in kept else _rounded(width, share, settings.round_to) for name, width in full.items()}
            for share in shares
        ),
    ]
    steps = [after for before, after in itertools.pairwise(every) if after != before]
    if not steps:
        raise UserError(
            f"prune.amount {settings.amount} removes no channel in multiples of {settings.round_to}: raise --amount, "
            "or lower prune.round_to in the recipe"
        )
    return steps


def _rounded(width: int, share: float, multiple: int) -> int:
    return min(width, max(1, round(width * (1 - share) / multiple)) * multiple)


def remove(model: Classifier, wanted: Widths, recipe: Recipe) -> Classifier:
    """A copy with the least important channels taken out; the last layer keeps its outputs.

    Args:
        wanted: the channels that each convolution keeps; layers that are tied want the same.
    """
    model = copy.deepcopy(model).cpu().requires_grad_(True).eval()
    network, photo = model.network, model.pixels(blank(recipe))
    shares: dict[nn.Module, float] = {
        each: 1 - (wanted[name] + 0.5) / each.out_channels  # the half: the pruner rounds what it keeps down
        for name, each in network.named_modules()
        if isinstance(each, nn.Conv2d) and wanted[name] < each.out_channels
    }
    torch_pruning.pruner.BasePruner(
        network,
        photo,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=0.0,
        pruning_ratio_dict=shares,
        ignored_layers=[network.get_submodule(model.head)],
    ).step()
    network.zero_grad(set_to_none=True)
    return model


def describe(
    model: Classifier, before: Tensor, after: Tensor, full: Widths, photos: Sequence[Photo], recipe: Recipe
) -> dict[str, Any]:
    """One row of the table: channels removed, accuracy, flips against the unpruned model, cost, whether in bound.

    Args:
        before, after: logits of the unpruned model and of this one, shape (photos, classes).
        full: the unpruned model's widths.
    """
    accuracy = score(after, photos, recipe.labels).mean_accuracy
    return {
        "channels_removed": round(1 - sum(widths(model).values()) / sum(full.values()), 4),
        "mean_accuracy": round(accuracy, 5),
        **{name: value for name, value in compare(before, after, photos).as_json().items() if name != "photos"},
        **cost(model, recipe),
        "within_bound": strain(before, after, photos, recipe) <= 1,
    }


def show(table: Sequence[dict[str, Any]]) -> None:
    """Print the unpruned model and each step, one column each."""
    shown = Table("", "unpruned", *(f"step {row['step']}" for row in table[1:]))
    for name in table[0]:
        shown.add_row(name.replace("_", " "), *(str(row[name]) for row in table))
    err_console.print(shown)


def _tell(facts: dict[str, Any], table: Sequence[dict[str, Any]], chosen: int, recipe: Recipe) -> None:
    """Write the steps and what was chosen into `facts`."""
    plain = [{name: value for name, value in row.items() if name not in OWN} for row in table]
    facts["before"], facts["after"], facts["chosen_step"] = plain[0], plain[chosen], chosen
    facts["steps"] = plain[1:]
    facts["epochs"] = [
        {**entry, "epoch": number}
        for number, entry in enumerate(itertools.chain(*(row["epochs"] for row in table[1:])), 1)
    ]
    if chosen:
        row = table[chosen]
        facts["summary"] = (
            f"step {chosen} of {len(table) - 1}, {row['channels_removed']:.0%} of the channels removed, "
            f"{row['lost']} photos lost and {row['won']} won, mean |dp| {row['mean_change']:.4f}"
        )
    else:
        facts["summary"] = (
            f"no step loses at most {recipe.gate.max_loss:g} and {recipe.prune.most_flips} photos net: the unpruned "
            "model is kept; raise prune.epochs or prune.steps"
        )


def _keep(recorder: Recorder | None, rows: list[dict[str, Any]], model: Classifier) -> None:
    if recorder:
        save_model(recorder.folder / f"step-{len(rows)}", model, STEP_WEIGHTS)
        write_json(recorder.folder / PROGRESS, rows)


def _done(recorder: Recorder | None, recipe: Recipe) -> tuple[list[dict[str, Any]], list[Classifier]]:
    """The rows and models of the steps that an interrupted run has done."""
    if recorder is None:
        return [], []
    kept = recorder.folder / PROGRESS
    rows: list[dict[str, Any]] = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else []
    write_json(kept, rows)  # from here on the folder is worth keeping
    models = [load_weights(recorder.folder / f"step-{row['step']}" / STEP_WEIGHTS, recipe) for row in rows]
    return rows, models
