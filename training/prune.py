"""Prune a run: the smallest weights, over all convolutions together, become zero for good.

    python -m training prune runs/classroom/ID-train --data PHOTOS --where open_licence=yes --extra runs/drawn

Global L1 unstructured pruning as in the document, made permanent, then a short
fine-tune of the whole network in which the zeros stay zero, with the unpruned model as teacher.
Single zeros change no dense kernel: the model packs smaller, it does not run faster.
Writes runs/classroom/ID-prune with accuracy, sparsity, size and latency of parent and child.
"""

import copy
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import torch
from torch import nn
from torch.nn.utils import prune as torch_prune
from torch.utils.flop_counter import FlopCounterMode

from config.recipe import Recipe
from dataset.photos import Photo
from training.backbones import Classifier
from training.loop import console, optimise, predict
from training.metrics import Scores, score
from training.options import data_options, extra_option, read_data, run_argument, runs_option, split_of_run
from training.runs import load_model, new_run, save_model
from training.timing import milliseconds


@click.command(epilog="Example: python -m training prune runs/classroom/20260101-000000-train --data runs/drawn")
@run_argument
@data_options
@extra_option
@runs_option
def prune(run: Path, data: tuple[Path, ...], where: tuple[str, ...], extra: tuple[Path, ...], root: Path) -> None:
    """Prune RUN and fine-tune what is left, on the photos it was trained on."""
    recipe, parent, before = load_model(run)
    if before["step"] == "prune":
        raise click.ClickException(
            f"{run} is pruned already: raise prune.amount in the recipe and prune {before['parent']}"
        )
    training, validation = split_of_run(run, recipe, before, data, where)
    added = read_data(extra, (), recipe)
    with new_run("prune", recipe, root, parent=before["id"], data=before["data"]) as (folder, facts):
        facts["validation"] = before["validation"]
        model = prune_model(parent, recipe, [*training, *added], validation, facts)
        save_model(folder, model)
    click.echo(f"{folder.with_suffix('')}: {facts['summary']}")


def prune_model(
    parent: Classifier, recipe: Recipe, training: Sequence[Photo], validation: Sequence[Photo], facts: dict[str, Any]
) -> Classifier:
    """A pruned and fine-tuned copy; writes before, after, epochs and the gate into `facts`."""
    model = copy.deepcopy(parent).requires_grad_(True)
    layers = prunable(model)
    torch_prune.global_unstructured(layers, pruning_method=torch_prune.L1Unstructured, amount=recipe.prune.amount)
    facts["epochs"] = optimise(model, training, validation, recipe, recipe.prune, teacher=parent)
    for module, name in layers:
        torch_prune.remove(module, name)
    before = score(predict(parent, validation, recipe), validation, recipe.labels)
    after = score(predict(model, validation, recipe), validation, recipe.labels)
    facts["before"], facts["after"] = describe(parent, before, recipe), describe(model, after, recipe)
    facts["metrics"], facts["summary"] = after.as_json(), str(after)
    facts["gate"] = gate(after.mean_accuracy, before.mean_accuracy, recipe)
    for name, entry in (("before", facts["before"]), ("after", facts["after"])):
        console.print(name, ", ".join(f"{key} {value}" for key, value in entry.items()))
    return model


def prunable(model: Classifier) -> list[tuple[nn.Module, str]]:
    """What is pruned: every convolution except the down-sampling ones of ResNets, which the document leaves out."""
    return [
        (module, "weight")
        for name, module in model.network.named_modules()
        if isinstance(module, nn.Conv2d) and "downsample" not in name
    ]


def sparsity(model: Classifier) -> float:
    """The share of zeros among the weights that are pruned."""
    weights: list[torch.Tensor] = [getattr(module, name) for module, name in prunable(model)]
    zeros, all_weights = sum(int((weight == 0).sum()) for weight in weights), sum(weight.numel() for weight in weights)
    return zeros / all_weights


def describe(model: Classifier, found: Scores, recipe: Recipe) -> dict[str, float]:
    """What a step that changes a model records of parent and child."""
    flat = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    photo = torch.zeros(1, 3, recipe.input.height, recipe.input.width, dtype=torch.uint8)
    return {
        "mean_accuracy": round(found.mean_accuracy, 5),
        "sparsity": round(sparsity(model), 4),
        "parameters": flat.numel(),
        "gigamacs": round(_macs(model, photo) / 1e9, 3),
        "megabytes_f16_zipped": round(len(zlib.compress(flat.half().numpy().tobytes())) / 1e6, 2),
        "milliseconds_torch": milliseconds(lambda: model(photo)),
    }


@torch.no_grad()
def _macs(model: Classifier, photo: torch.Tensor) -> float:
    """Multiply-accumulates of one photo, zeros counted like any weight: a dense kernel multiplies them too."""
    with FlopCounterMode(display=False) as counter:
        model(photo)
    return float(counter.get_total_flops()) / 2


def gate(found: float, parent: float, recipe: Recipe) -> dict[str, Any]:
    """Whether a child may be packed: accurate enough, and not much worse than its unpruned parent.

    Args:
        found, parent: means of the classes' accuracies on the same held-out photos.
    """
    lost = parent - found
    passed = found >= recipe.gate.mean_accuracy and lost <= recipe.gate.max_loss + 1e-9
    return {
        "passed": passed,
        "mean_accuracy": round(found, 5),
        "least_mean_accuracy": recipe.gate.mean_accuracy,
        "lost": round(lost, 5),
        "most_lost": recipe.gate.max_loss,
    }
