"""Prune a run: the smallest weights, over all convolutions together, become zero for good.

    python -m training prune runs/classroom/ID-train --data PHOTOS --where open_licence=yes --extra runs/drawn

Global L1 unstructured pruning as in the document, made permanent, then a short
fine-tune of the whole network in which the zeros stay zero, with the unpruned model as teacher.
Single zeros change no dense kernel: the model packs smaller, it does not run faster.
Writes runs/classroom/ID-prune with accuracy, sparsity, size and latency of parent and child.
"""

import copy
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import torch
from rich.table import Table
from torch import nn
from torch.nn.utils import prune as torch_prune
from torch.utils.flop_counter import FlopCounterMode

from config.recipe import Recipe, override
from dataset.photos import Photo
from training.backbones import Classifier
from training.loop import console, optimise, predict
from training.metrics import Scores, score
from training.options import (
    data_options,
    extra_option,
    fresh_option,
    read_extra,
    refuse_leak,
    run_argument,
    runs_option,
    split_of_run,
)
from training.recorder import Recorder
from training.runs import fingerprint, load_model, new_run, save_model
from training.timing import alternating

PRESETS = {
    "convolutions": r"(?!.*downsample).*",
    "document": r"(conv|bn)1|layer\d\.\d+\.conv\d|layer[1-3]\.\d+\.bn\d",
}
"""`prune.layers` -> the names of the layers: the document's leaves out fc, down-sampling and layer4's batch norms."""


@click.command(epilog="Example: python -m training prune runs/shapes/ID-train --data runs/drawn")
@run_argument
@data_options
@extra_option
@click.option("--amount", type=click.FloatRange(0, 1, max_open=True), help="Share of zeros, instead of the recipe's.")
@click.option("--layers", type=click.Choice(list(PRESETS)), help="document: the document's list for ResNets.")
@click.option("--epochs", type=click.IntRange(0), help="Of fine-tuning, instead of the recipe's; the document has 0.")
@fresh_option
@runs_option
def prune(
    run: Path,
    data: tuple[Path, ...],
    where: tuple[str, ...],
    extra: tuple[Path, ...],
    fresh: bool,
    root: Path,
    **changes: Any,
) -> None:
    """Prune RUN and fine-tune what is left, on the photos it was trained on."""
    recipe, parent, before = load_model(run)
    recipe = override(recipe, "prune", **changes)
    if before["step"] == "prune":
        raise click.ClickException(
            f"{run} is pruned already: raise prune.amount in the recipe and prune {before['parent']}"
        )
    training, validation = split_of_run(run, recipe, before, data, where)
    added = read_extra(extra, recipe)
    refuse_leak(added, validation)
    prints = {"data": before["data"], "validation": before["validation"], "extra": fingerprint(added, recipe.labels)}
    with new_run("prune", recipe, root, fresh, parent=before["id"], **prints) as (folder, facts):
        model = prune_model(parent, recipe, [*training, *added], validation, facts, Recorder(folder))
        save_model(folder, model)
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
    """A pruned and fine-tuned copy; writes before, after, sparsity by layer, epochs and the gate into `facts`."""
    model = copy.deepcopy(parent).requires_grad_(True)
    layers = list(prunable(model, recipe.prune.layers).values())
    torch_prune.global_unstructured(layers, pruning_method=torch_prune.L1Unstructured, amount=recipe.prune.amount)
    facts["epochs"] = optimise(model, training, validation, recipe, recipe.prune, parent, recorder)
    parent.cpu()
    for module, name in layers:
        torch_prune.remove(module, name)
    facts["sparsity_by_layer"] = show_sparsity(parent, model, recipe.prune.layers)
    before = score(predict(parent, validation, recipe), validation, recipe.labels)
    after = score(predict(model, validation, recipe), validation, recipe.labels)
    facts["before"], facts["after"] = describe(parent, before, recipe), describe(model, after, recipe)
    photo = _blank(recipe)
    times = alternating([lambda: parent(photo), lambda: model(photo)])
    for entry, time in zip((facts["before"], facts["after"]), times, strict=True):
        entry["milliseconds_torch"] = time
    facts["metrics"], facts["summary"] = after.as_json(), str(after)
    facts["gate"] = gate(after.mean_accuracy, before.mean_accuracy, recipe)
    console.print(f"one photo: {times[0]} -> {times[1]} ms: single zeros change no dense kernel, so no time is won")
    for name, entry in (("before", facts["before"]), ("after", facts["after"])):
        console.print(name, ", ".join(f"{key} {value}" for key, value in entry.items()))
    return model


def prunable(model: Classifier, preset: str = "convolutions") -> dict[str, tuple[nn.Module, str]]:
    """What is pruned: for each layer's name its module and the parameter's name.

    Raises:
        click.ClickException: the network has none of the preset's layers.
    """
    wanted = re.compile(PRESETS[preset])
    found: dict[str, tuple[nn.Module, str]] = {
        name: (module, "weight")
        for name, module in model.network.named_modules()
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d) and wanted.fullmatch(name)
    }
    if preset == "convolutions":
        found = {name: pair for name, pair in found.items() if isinstance(pair[0], nn.Conv2d)}
    if not found:
        raise click.ClickException(f"prune.layers {preset}: this backbone has none of them: use convolutions")
    return found


def sparsity(model: Classifier, preset: str = "convolutions") -> float:
    """The share of zeros among the weights that are pruned."""
    weights = [_weight(*pair) for pair in prunable(model, preset).values()]
    return sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)


def show_sparsity(parent: Classifier, model: Classifier, preset: str) -> dict[str, float]:
    """Print and return the share of zeros by layer; a global threshold takes more where weights are small."""
    before, after = prunable(parent, preset), prunable(model, preset)
    table = Table("layer", "weights", "zeros before", "zeros after")
    found = {}
    for name, pair in after.items():
        weight, old = _weight(*pair), _weight(*before[name])
        found[name] = round(float((weight == 0).float().mean()), 4)
        table.add_row(name, f"{weight.numel():,}", f"{float((old == 0).float().mean()):.1%}", f"{found[name]:.1%}")
    console.print(table)
    return found


def save_state_dicts(folder: Path, recipe: Recipe, parent: Classifier, model: Classifier) -> None:
    """The document's artefacts, before and after: state dicts that torchvision's (or timm's) own network loads."""
    name = f"{recipe.backbone.name.removeprefix('resnet')}_model_ft_params.pth"
    torch.save(parent.network.state_dict(), folder / name)
    torch.save(model.network.state_dict(), folder / f"pruned_{name}")


def _weight(module: nn.Module, name: str) -> torch.Tensor:
    weight: torch.Tensor = getattr(module, name)
    return weight.detach()


def describe(model: Classifier, found: Scores, recipe: Recipe) -> dict[str, float]:
    """What a step that changes a model records of parent and child, besides the times."""
    flat = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    return {
        "mean_accuracy": round(found.mean_accuracy, 5),
        "sparsity": round(sparsity(model, recipe.prune.layers), 4),
        "parameters": flat.numel(),
        "gigamacs": round(_macs(model, _blank(recipe)) / 1e9, 3),
        "megabytes_f16_zipped": round(len(zlib.compress(flat.half().numpy().tobytes())) / 1e6, 2),
    }


def _blank(recipe: Recipe) -> torch.Tensor:
    return torch.zeros(1, 3, recipe.input.height, recipe.input.width, dtype=torch.uint8)


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
