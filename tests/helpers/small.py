"""Small variants of the recipes, with drawn photos and runs of a few training steps, for tests of every recipe."""

import math
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest import mock

import click
import numpy as np
import torch
import yaml
from PIL import Image, ImageDraw
from torch import nn
from torchvision.models.vgg import VGG, make_layers

from common.files import write_json, write_whole
from config.recipe import FOLDER, Recipe, read_recipe
from handler.spec import Input
from tests.helpers.commands import newest
from training.bundles.goldens import draw_goldens
from training.bundles.labels import LABELS, write_labels
from training.bundles.onnx_export import store_as_fp16, to_onnx
from training.models.networks import SCENES_SIZE, ScenesNet
from training.models.registry import BACKBONES, Architecture, Size, build

SIDE = 128
QUICK = {"epochs": 1, "batch_size": 8, "validation": 0.5}


def small_recipe(name: str, folder: Path, **changes: dict[str, Any]) -> Path:
    """A recipe of config/recipes with changed sections, whose gate accepts every accuracy."""
    content = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    for section, values in {"gate": {"mean_accuracy": 0.0, "max_loss": 1.0}, "train": QUICK, **changes}.items():
        content[section] = {**content.get(section, {}), **values}
    path = folder / f"{name}.yaml"
    write_whole(path, yaml.safe_dump(content, allow_unicode=True).encode())
    return path


def label_folders(folder: Path, labels: tuple[str, ...], count: int = 4) -> Path:
    """Photos in a folder for each label: as many bars as the label's index, on another ground in each photo."""
    for index, label in enumerate(labels):
        for number in range(count):
            image = Image.new("RGB", (160 + 16 * number, 120), (40 * number % 256, 90, 255 - 20 * index))
            pen = ImageDraw.Draw(image)
            for bar in range(index + 1):
                pen.rectangle((8 + 12 * bar, 10 + 9 * number, 13 + 12 * bar, 110), fill=(250, 240, 20 * index))
            buffer = BytesIO()
            image.save(buffer, "JPEG", quality=90)
            write_whole(folder / label / f"{number}.jpg", buffer.getvalue())
    return folder


def invoke(command: click.Command, *words: object) -> None:
    """Run a command in this process, which saves the seconds that importing torch takes."""
    command.main([str(word) for word in words], standalone_mode=False)


def trained_bundle(recipe: Path, photos: Path, folder: Path) -> Path:
    """Train and export, in this process."""
    from training.export import export
    from training.train import train

    invoke(train, recipe, "--data", photos, "--runs", folder / "runs")
    run = newest(folder / "runs" / read_recipe(recipe).name, "train")
    invoke(export, run, "--data", photos)
    return run / "bundle"


def narrow_scenes_net(classes: int | None, pretrained: bool, size: Size | None) -> nn.Module:
    """ScenesNet with a 32nd of its channels."""
    return ScenesNet(classes or 11, size or SCENES_SIZE, (2, 4, 8, 16), (16, 8))


def narrow_vgg16(classes: int | None, pretrained: bool, size: Size | None) -> nn.Module:
    """torchvision's VGG with a 16th of VGG-16's channels, and with initial weights that pass the signal on."""
    widths: list[int | str] = [4, "M", 8, "M", 16, 16, "M", 32, 32, "M", 32, 32, "M"]
    with torch.device("meta"):
        network: nn.Module = VGG(make_layers([4]), num_classes=1, init_weights=False)
    features = make_layers(widths)
    network.features = features  # and new linear layers: torchvision fixes their size
    hidden = [nn.Linear(32 * 7 * 7, 256), nn.ReLU(), nn.Identity(), nn.Linear(256, 256), nn.ReLU(), nn.Identity()]
    network.classifier = nn.Sequential(*hidden, nn.Linear(256, classes or 1000))
    for layer in (*features, *hidden):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            layer.bias = nn.Parameter(torch.zeros(layer.weight.shape[0]))
    return network


NARROW: dict[str, Architecture] = {
    "scenes_net": replace(BACKBONES["scenes_net"], build=narrow_scenes_net),
    "vgg16": replace(BACKBONES["vgg16"], build=narrow_vgg16),
}


@contextmanager
def narrow_networks() -> Iterator[None]:
    """Build the two large networks narrow inside the `with` block: the same layers, a fraction of the time."""
    with mock.patch.dict(BACKBONES, NARROW):
        yield


def random_bundle(recipe: Recipe, folder: Path) -> Path:
    """A bundle of a recipe with random weights, narrow and its photos small: what the handler reads."""
    backbone = recipe.backbone.model_copy(update={"weights": "none"})
    recipe = recipe.model_copy(update={"backbone": backbone, "drawn": {}, "input": _reduced(recipe.input)})
    with narrow_networks(), torch.random.fork_rng():
        torch.manual_seed(1)  # the same weights in every run of the tests
        model = build(recipe.backbone, len(recipe.labels), recipe.input).eval()
    write_whole(folder / "model.onnx", store_as_fp16(to_onnx(model, recipe)).SerializeToString())
    draw_goldens(folder, recipe)
    write_labels(folder / LABELS, recipe.labels)
    write_json(folder / "recipe.json", recipe.model_dump(mode="json"))
    facts = {"id": "random", "metrics": {"mean_accuracy": 0.0}, "gate": {"passed": True}, "precision": "f32"}
    write_json(folder / "run.json", facts)
    return folder


def _reduced(size: Input) -> Input:
    """An input in the same proportions, its larger side at most SIDE."""
    part = min(1.0, SIDE / max(size.height, size.width))
    sides = {key: math.ceil(value * part) for key in ("height", "width", "shorter") if (value := getattr(size, key))}
    return size.model_copy(update=sides)


def unpacked(mar: Path, folder: Path) -> Path:
    """An archive as TorchServe unpacks it."""
    shutil.unpack_archive(mar, folder, "zip")
    return folder


def write_mnist(folder: Path, count: int) -> np.ndarray:
    """The four files of MNIST as they lie unpacked; train and test parts alike."""
    folder.mkdir(parents=True)
    photos = np.random.default_rng(0).integers(0, 256, (count, 28, 28), np.uint8)
    labels = bytes(index % 10 for index in range(count))
    for part in ("train", "t10k"):
        head = struct.pack(">IIII", 0x803, count, 28, 28)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(head + photos.tobytes())
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, count) + labels)
    return photos
