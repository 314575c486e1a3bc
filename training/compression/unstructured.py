"""Global L1 unstructured pruning: the smallest weights, over all layers together, become zero for good.

The document's method, made permanent, then a short fine-tune of the whole network in which the zeros stay zero,
with the unpruned model as teacher. Single zeros change no dense kernel: the model packs smaller, it does not
run faster.
"""

import copy
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import nn
from torch.nn.utils import prune as torch_prune

from common.console import err_console
from common.errors import UserError
from config.recipe import Recipe
from dataset.photos import Photo
from training.compression.cost import blank, cost, zipped_megabytes
from training.compression.gate import compare, gate
from training.compression.timing import alternating
from training.evaluation.inference import predict
from training.evaluation.metrics import Scores, score
from training.fitting.checkpoints import Recorder
from training.fitting.loop import optimise
from training.models.classifier import Classifier

PRESETS = {
    "convolutions": r"(?!.*downsample).*",
    "document": r"(conv|bn)1|layer\d\.\d+\.conv\d|layer[1-3]\.\d+\.bn\d",
}
"""`prune.layers` -> the names of the layers: the document's leaves out fc, down-sampling and layer4's batch norms."""


def prune_unstructured(
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
    answers = [predict(each, validation, recipe) for each in (parent, model)]
    before, after = (score(logits, validation, recipe.labels) for logits in answers)
    facts["before"], facts["after"] = describe(parent, before, recipe), describe(model, after, recipe)
    photo = blank(recipe)
    times = alternating([lambda: parent(photo), lambda: model(photo)])
    for entry, time in zip((facts["before"], facts["after"]), times, strict=True):
        entry["milliseconds_torch"] = time
    facts["paired"] = compare(answers[0], answers[1], validation).as_json()
    facts["metrics"], facts["summary"] = after.as_json(), str(after)
    facts["gate"] = gate(after.mean_accuracy, before.mean_accuracy, recipe)
    err_console.print(f"one photo: {times[0]} -> {times[1]} ms: single zeros change no dense kernel, so no time is won")
    for name, entry in (("before", facts["before"]), ("after", facts["after"])):
        err_console.print(name, ", ".join(f"{key} {value}" for key, value in entry.items()))
    return model


def prunable(model: Classifier, preset: str = "convolutions") -> dict[str, tuple[nn.Module, str]]:
    """What is pruned: for each layer's name its module and the parameter's name.

    Raises:
        UserError: the network has none of the preset's layers.
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
        raise UserError(f"prune.layers {preset}: this backbone has none of them: use convolutions")
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
    err_console.print(table)
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
    """What is recorded of parent and child, besides the times."""
    return {
        "mean_accuracy": round(found.mean_accuracy, 5),
        "sparsity": round(sparsity(model, recipe.prune.layers), 4),
        **cost(model, recipe),
        "megabytes_f16_zipped": zipped_megabytes(model),
    }
