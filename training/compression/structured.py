"""Structured pruning: remove whole channels in steps, and fine-tune after each step.

1. Torch-Pruning follows which channels of which layers depend on each other (residuals, batch norms, depthwise
   convolutions) and ranks each group by the norm of its weights (Fang et al., DepGraph, CVPR 2023).
2. Every convolution is reduced to the same share of its channels, rounded to a multiple of `prune.round_to`.
3. The model is fine-tuned for `prune.epochs` with the unpruned model as teacher; then the next step follows.

All steps are made. The result is the largest step within the budget (`gate.max_loss` and `prune.most_flips` on the
held-out photos), or the unpruned model if no step is. An interrupted run resumes after its last finished step, whose
weights are in `step-N/` until the run is complete.
"""

import copy
import itertools
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch_pruning
from torch import Tensor, nn

from common.console import compact_table, err_console
from common.errors import InvalidInput
from common.files import write_json
from common.words import number_of
from config.recipe import Recipe
from dataset.photos import Photo
from training.compression.cost import blank, cost, latencies
from training.compression.gate import budget_used, compare, gate
from training.evaluation.inference import predict
from training.evaluation.metrics import score
from training.fitting.checkpoints import Recorder
from training.fitting.loop import optimise
from training.models.classifier import Classifier
from training.records.folder import PROGRESS, STEP_WEIGHTS
from training.records.run import Epoch, Measured, Metrics, PrunedChannels
from training.records.weights import load_weights, save_model

Widths = dict[str, int]
"""A convolution's name -> its channels."""


@dataclass(frozen=True)
class Step:
    """One finished step of pruning, counted from 1."""

    number: int
    measured: Measured
    epochs: list[Epoch]
    model: Classifier

    def as_json(self) -> dict[str, Any]:
        """Everything but the model, for progress.json."""
        return {"step": self.number, **self.measured.as_json(), "epochs": self.epochs}


def prune_channels(
    parent: Classifier,
    recipe: Recipe,
    training: Sequence[Photo],
    validation: Sequence[Photo],
    recorder: Recorder | None = None,
) -> tuple[Classifier, PrunedChannels]:
    """The smallest model within the budget, or a copy of the parent.

    Args:
        recorder: keeps the finished steps; without one (in cross-validation) nothing is kept and no latency measured.

    Returns:
        the model, and every step's figures.

    Raises:
        InvalidInput: no channel would be removed.
    """
    before = predict(parent, validation, recipe)
    steps = _make_steps(parent, recipe, training, validation, before, recorder)
    table = [describe(parent, before, before, widths(parent), validation, recipe), *(step.measured for step in steps)]
    if recorder:
        models = [parent, *(step.model for step in steps)]
        table = [row.model_copy(update=spent) for row, spent in zip(table, latencies(models, recipe), strict=True)]
    show(table)
    chosen = max(index for index, row in enumerate(table) if row.within_bound)
    model = [copy.deepcopy(parent), *(step.model for step in steps)][chosen]
    scores, unpruned = (
        score(logits, validation, recipe.labels) for logits in (predict(model, validation, recipe), before)
    )
    epochs = [
        {**entry, "epoch": number}
        for number, entry in enumerate(itertools.chain(*(step.epochs for step in steps)), start=1)
    ]
    if recorder:
        recorder.finish(epochs)
    result = PrunedChannels(
        method="channel",
        before=table[0],
        after=table[chosen],
        chosen_step=chosen,
        steps=table[1:],
        epochs=epochs,
        summary=f"{scores}; {_choice(table, chosen, recipe)}",
        metrics=Metrics.model_validate(scores.as_json()),
        gate=gate(scores.mean_accuracy, unpruned.mean_accuracy, recipe),
    )
    return model, result


def _make_steps(
    parent: Classifier,
    recipe: Recipe,
    training: Sequence[Photo],
    validation: Sequence[Photo],
    before: Tensor,
    recorder: Recorder | None,
) -> list[Step]:
    """Prune and fine-tune step by step; finished steps of an interrupted run are read back."""
    plan = ladder(widths(parent), recipe, feeding(parent, recipe) if recipe.prune.match else ())
    steps = _finished(recorder, recipe)
    for number, kept in enumerate(plan[len(steps) :], start=len(steps) + 1):
        err_console.rule(f"step {number} of {len(plan)}")
        model = remove(steps[-1].model if steps else parent, kept, recipe)
        inner = recorder.inside(f"step-{number}") if recorder else None
        epochs = optimise(model, training, validation, recipe, recipe.prune, parent, inner)
        parent.cpu()
        measured = describe(model, before, predict(model, validation, recipe), widths(parent), validation, recipe)
        steps.append(Step(number, measured, [{**entry, "step": number} for entry in epochs], model))
        if recorder:
            save_model(recorder.folder / f"step-{number}", model, STEP_WEIGHTS)
            write_json(recorder.folder / PROGRESS, [step.as_json() for step in steps])
    return steps


def _finished(recorder: Recorder | None, recipe: Recipe) -> list[Step]:
    """The steps that an interrupted run finished."""
    if recorder is None:
        return []
    path = recorder.folder / PROGRESS
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    write_json(path, rows)  # from here on, an interrupted run keeps its folder
    return [
        Step(
            row["step"],
            Measured.model_validate(row),
            row["epochs"],
            load_weights(recorder.folder / f"step-{row['step']}" / STEP_WEIGHTS, recipe),
        )
        for row in rows
    ]


def widths(model: Classifier) -> Widths:
    """The channels of every convolution of the network."""
    return {name: layer.out_channels for name, layer in model.network.named_modules() if isinstance(layer, nn.Conv2d)}


def feeding(model: Classifier, recipe: Recipe) -> set[str]:
    """The convolutions that feed the last layer: they keep their channels if features are matched."""
    network, photo = model.network, model.pixels(blank(recipe))
    head = network.get_submodule(model.head)
    graph = torch_pruning.DependencyGraph().build_dependency(network, photo)

    def feeds(layer: nn.Module) -> bool:
        group = graph.get_pruning_group(layer, graph.get_pruner_of_module(layer).prune_out_channels, [0])
        return any(dependency.target.module is head for dependency, _ in group)

    return {name for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d) and feeds(layer)}


def ladder(full: Widths, recipe: Recipe, kept: Collection[str] = ()) -> list[Widths]:
    """The widths after each step, without steps that rounding makes equal to the one before.

    Args:
        kept: convolutions that stay as they are.

    Raises:
        InvalidInput: no step removes a channel.
    """
    settings = recipe.prune
    shares = [settings.amount * number / settings.steps for number in range(1, settings.steps + 1)]
    stages = [
        full,
        *(
            {name: width if name in kept else _rounded(width, share, settings.round_to) for name, width in full.items()}
            for share in shares
        ),
    ]
    steps = [after for before, after in itertools.pairwise(stages) if after != before]
    if not steps:
        raise InvalidInput(
            f"prune.amount {settings.amount} removes no channel in multiples of {settings.round_to}",
            "raise --amount, or lower prune.round_to in the recipe",
        )
    return steps


def _rounded(width: int, share: float, multiple: int) -> int:
    return min(width, max(1, round(width * (1 - share) / multiple)) * multiple)


def remove(model: Classifier, kept: Widths, recipe: Recipe) -> Classifier:
    """A copy of a model without its least important channels; the last layer keeps its outputs.

    Args:
        kept: the channels that each convolution keeps; equal for layers that depend on each other.
    """
    model = copy.deepcopy(model).cpu().requires_grad_(True).eval()
    network, photo = model.network, model.pixels(blank(recipe))
    shares: dict[nn.Module, float] = {
        layer: 1 - (kept[name] + 0.5) / layer.out_channels  # + 0.5 because the pruner rounds down
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d) and kept[name] < layer.out_channels
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
) -> Measured:
    """Channels removed, accuracy, flips, cost, and whether the budget holds.

    Args:
        before, after: logits of the unpruned model and of this one, shape (photos, classes).
        full: the unpruned model's widths.
    """
    flips = compare(before, after, photos)
    return Measured.model_validate(
        {
            "channels_removed": round(1 - sum(widths(model).values()) / sum(full.values()), 4),
            "mean_accuracy": round(score(after, photos, recipe.labels).mean_accuracy, 5),
            **flips.as_json(),
            **cost(model, recipe),
            "within_bound": budget_used(before, after, photos, recipe) <= 1,
        }
    )


def show(rows: Sequence[Measured]) -> None:
    """Print a table with one row per step; step 0 is the unpruned model."""
    engines = [name for name in ("openvino", "onnxruntime") if getattr(rows[0], f"milliseconds_{name}") is not None]
    times = ["torch", *engines] if rows[0].milliseconds_torch is not None else []
    table = compact_table(
        "step",
        "channels\nremoved",
        "balanced\naccuracy",
        "regressions\nand fixes",
        "MB",
        "GMACs",
        *(f"ms\n{'torch' if name == 'torch' else 'served'}" for name in times),
        "within\nbudget",
    )
    for number, row in enumerate(rows):
        table.add_row(
            str(number),
            f"{row.channels_removed:.0%}",
            f"{row.mean_accuracy:.1%}",
            f"{row.regressions} and {row.fixes}",
            str(row.megabytes_f16),
            str(row.gigamacs),
            *(str(getattr(row, f"milliseconds_{name}")) for name in times),
            "yes" if row.within_bound else "no",
        )
    err_console.print(table)


def _choice(table: Sequence[Measured], chosen: int, recipe: Recipe) -> str:
    """A sentence that says which step was chosen and why."""
    if not chosen:
        return (
            f"no step loses at most {recipe.gate.max_loss:g} and {number_of(recipe.prune.most_flips, 'photo')} net: "
            "the unpruned model is kept; raise prune.epochs or prune.steps"
        )
    row = table[chosen]
    return (
        f"step {chosen} of {len(table) - 1}, {row.channels_removed:.0%} of the channels removed, "
        f"{number_of(row.regressions or 0, 'regression')} and "
        f"{number_of(row.fixes or 0, 'fix', 'fixes')}, mean |dp| {row.mean_change:.4f}"
    )
