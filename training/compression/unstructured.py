"""Global L1 unstructured pruning: the smallest weights, over all layers together, are set to zero permanently.

This is the classroom document's method, followed by a short fine-tune of the whole network with the unpruned model as
teacher, in which the zeros stay zero. A dense kernel computes them as before, so the model compresses better but is
not faster.
"""

import copy
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.table import Table
from torch import nn
from torch.nn.utils import prune as torch_prune

from common.console import err_console, note
from common.errors import InvalidInput
from config.recipe import Recipe
from dataset.photos import Photo
from training.compression.cost import alternating, blank, cost, zipped_megabytes
from training.compression.gate import compare, gate
from training.evaluation.inference import predict
from training.evaluation.metrics import Scores, score
from training.fitting.checkpoints import Recorder
from training.fitting.loop import optimise
from training.models.classifier import Classifier
from training.records.run import Measured, Metrics, PrunedWeights

PRESETS = {
    "convolutions": r"(?!.*downsample).*",
    "document": r"(conv|bn)1|layer\d\.\d+\.conv\d|layer[1-3]\.\d+\.bn\d",
}
"""The layers' names by `prune.layers`. The classroom document leaves out fc, down-sampling and layer4's batch norms."""


def prune_unstructured(
    parent: Classifier,
    recipe: Recipe,
    training: Sequence[Photo],
    validation: Sequence[Photo],
    recorder: Recorder | None = None,
) -> tuple[Classifier, PrunedWeights]:
    """A pruned and fine-tuned copy of a model, and its figures before and after."""
    model = copy.deepcopy(parent).requires_grad_(True)
    layers = list(prunable(model, recipe.prune.layers).values())
    torch_prune.global_unstructured(layers, pruning_method=torch_prune.L1Unstructured, amount=recipe.prune.amount)
    epochs = optimise(model, training, validation, recipe, recipe.prune, parent, recorder)
    parent.cpu()
    for module, name in layers:
        torch_prune.remove(module, name)
    sparsities = show_sparsity(parent, model, recipe.prune.layers)
    logits = [predict(network, validation, recipe) for network in (parent, model)]
    unpruned, scores = (score(values, validation, recipe.labels) for values in logits)
    before, after = _measured(parent, unpruned, model, scores, recipe)
    result = PrunedWeights(
        method="unstructured",
        epochs=epochs,
        sparsity_by_layer=sparsities,
        before=before,
        after=after,
        paired=compare(logits[0], logits[1], validation),
        metrics=Metrics.model_validate(scores.as_json()),
        summary=str(scores),
        gate=gate(scores.mean_accuracy, unpruned.mean_accuracy, recipe),
    )
    return model, result


def _measured(
    parent: Classifier, unpruned: Scores, model: Classifier, scores: Scores, recipe: Recipe
) -> tuple[Measured, Measured]:
    """Parent and child, printed and returned."""
    photo = blank(recipe)
    times = alternating([lambda: parent(photo), lambda: model(photo)])
    before, after = (
        Measured.model_validate({**describe(network, figures, recipe), "milliseconds_torch": time})
        for network, figures, time in ((parent, unpruned, times[0]), (model, scores, times[1]))
    )
    note(f"one photo: {times[0]} -> {times[1]} ms: single zeros change no dense kernel, so it is not faster")
    for name, row in (("before", before), ("after", after)):
        note(f"{name}: " + ", ".join(f"{key} {value}" for key, value in row.as_json().items()))
    return before, after


def prunable(model: Classifier, preset: str = "convolutions") -> dict[str, tuple[nn.Module, str]]:
    """The parameters to prune, by layer: the module and the name of the parameter.

    Raises:
        InvalidInput: the network has none of the preset's layers.
    """
    pattern = re.compile(PRESETS[preset])
    layers: dict[str, tuple[nn.Module, str]] = {
        name: (module, "weight")
        for name, module in model.network.named_modules()
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d) and pattern.fullmatch(name)
    }
    if preset == "convolutions":
        layers = {name: pair for name, pair in layers.items() if isinstance(pair[0], nn.Conv2d)}
    if not layers:
        raise InvalidInput(f"prune.layers {preset}: this backbone has none of these layers", "use convolutions")
    return layers


def sparsity(model: Classifier, preset: str = "convolutions") -> float:
    """The share of zeros among the weights that pruning may change."""
    weights = [_weight(*pair) for pair in prunable(model, preset).values()]
    return sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)


def show_sparsity(parent: Classifier, model: Classifier, preset: str) -> dict[str, float]:
    """Print and return the share of zeros by layer; a global threshold removes more where weights are small."""
    before, after = prunable(parent, preset), prunable(model, preset)
    table = Table("layer", "weights", "zeros before", "zeros after")
    sparsities = {}
    for name, pair in after.items():
        weight, old = _weight(*pair), _weight(*before[name])
        sparsities[name] = round(float((weight == 0).float().mean()), 4)
        table.add_row(name, f"{weight.numel():,}", f"{float((old == 0).float().mean()):.1%}", f"{sparsities[name]:.1%}")
    err_console.print(table)
    return sparsities


def save_state_dicts(folder: Path, recipe: Recipe, parent: Classifier, model: Classifier) -> None:
    """Save the parent and the pruned model as state dicts that torchvision's (or timm's) network loads."""
    name = f"{recipe.backbone.name.removeprefix('resnet')}_model_ft_params.pth"
    torch.save(parent.network.state_dict(), folder / name)
    torch.save(model.network.state_dict(), folder / f"pruned_{name}")


def _weight(module: nn.Module, name: str) -> torch.Tensor:
    weight: torch.Tensor = getattr(module, name)
    return weight.detach()


def describe(model: Classifier, scores: Scores, recipe: Recipe) -> dict[str, float]:
    """The recorded figures of a model, except its latency."""
    return {
        "mean_accuracy": round(scores.mean_accuracy, 5),
        "sparsity": round(sparsity(model, recipe.prune.layers), 4),
        **cost(model, recipe),
        "megabytes_f16_zipped": zipped_megabytes(model),
    }
