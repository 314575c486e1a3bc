"""Check that a pretrained backbone was loaded and scaled correctly, before training on it.

    python -m training sanity --backbone efficientnet_lite0 cat.jpg car.jpg

builds the backbone with its ImageNet weights and its pretrained last layer, and prints the five likeliest of ImageNet's
1000 names for each photo. If the weights were loaded wrongly or the pixels scaled wrongly, the names do not match the
photos. `--recipe` uses the recipe's scaling and resize rule instead of a crop of 224 x 224.
"""

from pathlib import Path

import click
import torch
from rich.markup import escape
from rich.table import Column, Table

from common.cli import command
from common.console import console
from common.errors import InvalidInput
from config.recipe import Backbone, read_recipe
from handler.image import preprocess
from handler.spec import Input, Limits
from training.data.loader import naming
from training.models.classifier import Classifier
from training.models.registry import BACKBONES, pretrained

SIZE = Input(height=224, width=224, resize="crop")


@command(epilog="Example: python -m training sanity --backbone efficientnet_lite0 runs/drawn/disc/0000.jpg")
@click.argument("photos", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--backbone", help="Backbone, instead of the recipe's.")
@click.option(
    "--weights", type=click.Path(exists=True, dir_okay=False), help="A state dict instead of the published weights."
)
@click.option("--recipe", "name", help="Use this recipe's backbone, scaling and input.")
@click.option("--top", default=5, show_default=True, type=click.IntRange(1, 1000), help="Names per photo.")
def sanity(photos: tuple[Path, ...], backbone: str | None, weights: str | None, name: str | None, top: int) -> None:
    """Print the likeliest ImageNet names of PHOTOS according to a pretrained backbone."""
    recipe = read_recipe(name) if name else None
    if not (recipe or backbone):
        raise InvalidInput("no backbone is named", "give --backbone NAME, or --recipe NAME")
    chosen = _chosen(recipe.backbone if recipe else Backbone(), backbone, weights)
    size, limits = (recipe.input, recipe.limits) if recipe else (SIZE, Limits())
    model = pretrained(chosen, size).eval()
    names = imagenet_names()
    for photo in photos:
        show(photo, *likeliest(model, photo, size, limits, top), names)


def likeliest(model: Classifier, photo: Path, size: Input, limits: Limits, top: int) -> tuple[list[int], list[float]]:
    """Classes and probabilities (0 to 1), best first.

    Raises:
        UserError: the photo cannot be read.
    """
    with naming(photo):
        pixels = torch.from_numpy(preprocess(photo.read_bytes(), size, limits))
    with torch.no_grad():
        scores, classes = model(pixels[None])[0].softmax(0).topk(top)
    return classes.tolist(), scores.tolist()


def imagenet_names() -> list[str]:
    """The 1000 names in the order of the networks' outputs (torchvision keeps them with its weights)."""
    from torchvision.models import ResNet18_Weights

    return list(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


def show(photo: Path, classes: list[int], scores: list[float], names: list[str]) -> None:
    """Print one photo's table."""
    name = Column("ImageNet name", overflow="fold")
    table = Table(name, "probability", title=escape(click.format_filename(photo)), title_justify="left")
    for index, probability in zip(classes, scores, strict=True):
        table.add_row(names[index], f"{probability:.4f}")
    console.print(table)


def _chosen(base: Backbone, name: str | None, weights: str | None) -> Backbone:
    changes = {key: value for key, value in (("name", name), ("weights", weights or "imagenet")) if value}
    try:
        return Backbone.model_validate(base.model_dump() | changes)
    except ValueError as error:
        raise InvalidInput(f"--backbone {name}: unknown backbone", f"legal are {', '.join(BACKBONES)}") from error
