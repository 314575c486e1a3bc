"""Small runs and bundles of the sibling recipes: narrow networks, drawn photos, seconds of training."""

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner
from PIL import Image, ImageDraw

import training.__main__
from common.cli import CommandGroup
from config.recipe import FOLDER, read_recipe
from handler.spec import Input
from tests.helpers.commands import newest
from tests.helpers.pictures import draw_small_set
from tests.helpers.small import label_folders, narrow_networks, small_recipe

EXPORT = {"int8": "never", "opset": 17}
"""Torch's older exporter takes a tenth of the time; test_handler.py exports every recipe at its own opset."""

# cifar10 and mnist
PHOTOS_PER_LABEL = 16
EPOCHS = 12

# pets
PETS_DRAWN = {"room": "room", "call": "call", "disc": "discs"}

# flowers
FLOWERS_DRAWN = {"daisy": "discs", "dandelion": "stripes", "roses": "crosses", "sunflowers": "room", "tulips": "call"}
FLOWERS_SMALL: dict[str, Any] = {
    "input": {"height": 48, "width": 48, "resize": "crop"},
    "runtime": {"engine": "onnxruntime", "threads": 1},
    "backbone": {"name": "smallnet", "weights": "none"},
    "augment": {"scale": [0.7, 1.0]},
    "drawn": FLOWERS_DRAWN,
    "export": EXPORT,
    "gate": {"mean_accuracy": 0.3, "max_loss": 0.5},
}
FLOWERS_TRAIN = {"epochs": 12, "learning_rate": 0.01, "schedule": "cosine", "validation": 0.25}


def run(group: CommandGroup, *words: object) -> str:
    """Run a command in this process, which saves the seconds of importing torch; what it wrote to stdout and stderr."""
    done = CliRunner().invoke(group, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@narrow_networks()
def make(name: str, folder: Path) -> None:
    """Train and export a small run of a recipe: `folder/runs`, `folder/photos`, `folder/train.log`."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe, photos = _MAKERS[name](folder)
    log = run(training.__main__.main, "train", recipe, "--data", photos, "--runs", folder / "runs")
    (folder / "train.log").write_text(log, encoding="utf-8")
    run(training.__main__.main, "export", run_of(folder, name), "--data", photos)


def run_of(folder: Path, name: str) -> Path:
    """The run that `make` trained."""
    return newest(folder / "runs" / name, "train")


def bundle_of(folder: Path, name: str) -> Path:
    """The bundle that `make` exported."""
    return run_of(folder, name) / "bundle"


def write_recipe(folder: Path, name: str, content: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return path


def shipped_recipe(name: str) -> dict[str, Any]:
    """The file of a recipe in config/recipes."""
    content: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return content


def flowers_recipe(folder: Path, **changes: Any) -> Path:
    """The recipe flowers with a small input and a small network, otherwise unchanged."""
    content = shipped_recipe("flowers")
    return write_recipe(
        folder, "flowers", content | FLOWERS_SMALL | {"train": content["train"] | FLOWERS_TRAIN} | changes
    )


def pets_recipe(folder: Path) -> Path:
    """The recipe pets with three drawn labels, otherwise unchanged."""
    content = shipped_recipe("pets")
    content |= {"labels": list(PETS_DRAWN), "drawn": PETS_DRAWN, "gate": {"mean_accuracy": 0.5, "max_loss": 0.5}}
    content["backbone"] |= {"weights": "none"}
    content["goldens"] = {"count": 8, "tolerance": 0.05}
    steps = {"max_steps": 300, "save_every": 100}
    content["train"] |= steps | {"batch_size": 16, "copies": 2, "learning_rate": 0.01, "validation": 0.25}
    content["augment"] |= {"contrast": 0.2}  # the network is random: it learns faster from photos that change less
    content["export"] = EXPORT
    return write_recipe(folder, "pets", content)


def draw_bar(index: int, size: Input, seed: int) -> Image.Image:
    """A picture that a small net learns at once: a bar whose angle is its label's, on noise."""
    side, chance = size.height, random.Random(1000 * index + seed)
    photo = Image.effect_noise((side, side), 20 + chance.random() * 20)
    middle, angle = side / 2 + chance.random() * 2 - 1, math.pi * index / 10
    x, y = math.cos(angle) * side / 2, math.sin(angle) * side / 2
    ImageDraw.Draw(photo).line((middle - x, middle - y, middle + x, middle + y), 255, 4)
    return photo if size.channels == 1 else photo.convert("RGB")


def draw_bars(folder: Path, name: str, count: int = PHOTOS_PER_LABEL) -> Path:
    """Label folders, named as the published data set names them where the recipe uses another word."""
    recipe = read_recipe(name)
    others = {label: alias for alias, label in recipe.aliases.items()}
    for index, label in enumerate(recipe.labels):
        place = folder / others.get(label, label)
        place.mkdir(parents=True)
        for seed in range(count):
            draw_bar(index, recipe.input, seed).save(place / f"{seed:02d}.png")
    return folder


def _bars(name: str) -> Callable[[Path], tuple[Path, Path]]:
    def prepare(folder: Path) -> tuple[Path, Path]:
        content = shipped_recipe(name)
        small = {"epochs": EPOCHS, "batch_size": 8, "optimizer": "adamw", "learning_rate": 0.003, "report_every": 5}
        content["train"] |= small
        content["gate"] = {**content.get("gate", {}), "mean_accuracy": 0.5, "max_loss": 0.1}
        content["export"] = {**content.get("export", {}), **EXPORT}
        return write_recipe(folder, name, content), draw_bars(folder / "photos", name)

    return prepare


def _drawn(recipe: Path, count: int) -> tuple[Path, Path]:
    photos = recipe.parent / "photos"
    draw_small_set(photos, read_recipe(recipe), count)
    return recipe, photos


def _scenes(folder: Path) -> tuple[Path, Path]:
    recipe = small_recipe("scenes11", folder)
    return recipe, label_folders(folder / "photos", read_recipe(recipe).labels)


_MAKERS: dict[str, Callable[[Path], tuple[Path, Path]]] = {
    "cifar10": _bars("cifar10"),
    "mnist": _bars("mnist"),
    "pets": lambda folder: _drawn(pets_recipe(folder), 16),
    "flowers": lambda folder: _drawn(flowers_recipe(folder), 24),
    "scenes11": _scenes,
}
NAMES = tuple(_MAKERS)
