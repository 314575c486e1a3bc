"""Balance the classes on disk, as the classroom document does: add copies of the smaller ones with other colours.

    python -m dataset balance SPLIT --recipe classroom

SPLIT is a folder that `dataset split --out SPLIT` wrote. Next to photos of its `train` part the command adds
`saturation_NAME` (HSV saturation times 5 to 10) and `brightness_NAME` (0.2 brighter to 0.2 darker), with the same
source, until the classes have equal sizes or both changes of every photo exist. It never changes the other parts. It
also writes SPLIT/balance.jpg, a contact sheet of photos and their copies, for use on this machine only. Run again, it
adds only what is missing, also after an interruption.

The copies are near duplicates. A model learns more from random augmentation (`augment` in the recipe), class weights
(`train.class_weights`) or balanced sampling (`train.sampling`).
"""

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import click
import numpy as np
from PIL import Image
from rich.progress import track

from common.cli import command
from common.commands import next_step, pasteable
from common.console import err_console
from common.errors import InvalidInput
from common.files import legal_name, write_whole, writing
from config.recipe import Recipe, read_recipe
from dataset.contact_sheet import contact_sheet
from dataset.photos import PARTS, TABLE, Photo, counts, read_photos, split_parts
from dataset.splitting.records import record
from dataset.tables import Row
from handler.errors import RequestError
from handler.image import open_photo

SATURATION = (5.0, 10.0)
BRIGHTNESS = (-0.2, 0.2)
"""Ranges of the uniform distributions (classroom document, 6.4: tf.image.random_saturation, random_brightness)."""
_SHOWN = 12


@dataclass(frozen=True)
class Copy:
    """A modified copy of a photo: the photo, the name of the change, the file of the copy."""

    photo: Photo
    change: str
    path: Path


@command(epilog="Example: python -m dataset balance runs/split --recipe shapes")
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--recipe", "name", default="classroom", show_default=True, help="Recipe with the labels.")
@click.option(
    "--every",
    is_flag=True,
    help="Make both copies of every photo of the smallest class, as the classroom document does.",
)
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same changes.")
def balance(folder: Path, name: str, every: bool, seed: int) -> None:
    """Add modified copies of the smaller classes to the training part of FOLDER."""
    recipe = read_recipe(name)
    if folder.is_file():
        words = pasteable("dataset", "split", folder, "--recipe", name, "--out", folder.with_suffix(""))
        raise InvalidInput(f"{folder} is a table, and copies of photos need a folder", f"create it with {words}")
    if PARTS[0] not in split_parts(folder, recipe.labels, recipe.aliases):
        raise InvalidInput(f"{folder} is not split", f"create it with python -m dataset split PHOTOS --out {folder}")
    training = _training(folder, recipe)
    originals = [photo for photo in training if not photo.is_copy]
    todo = plan(originals, recipe, every, seed)
    copies = [Copy(photo, change, _path(photo, change)) for photo, change in todo]
    _require_free(copies, originals)
    with writing(folder, "free some disk space and run again"):
        record(folder, [_row(folder, copy) for copy in copies])  # first: a copy without its row would be a photo
        for copy in track(copies, "changing", console=err_console, transient=True):
            make(copy, recipe, seed)
        draw_sheet(folder, copies)
    after = _training(folder, recipe)
    click.echo(f"{folder}: {_counts(originals, recipe)} -> {_counts(after, recipe)}; see {folder / 'balance.jpg'}")
    next_step("training", "train", name, "--data", folder)


def _training(folder: Path, recipe: Recipe) -> list[Photo]:
    photos = read_photos(folder, recipe.labels, aliases=recipe.aliases)
    return [photo for photo in photos if photo.part == PARTS[0]]


def plan(photos: Sequence[Photo], recipe: Recipe, every: bool, seed: int = 0) -> list[tuple[Photo, str]]:
    """Choose the changes that bring each class to the size of the largest: saturation first, then brightness.

    Args:
        every: instead, both changes of all photos of the smallest class.

    Returns:
        (photo, name of the change), in the order of the labels.
    """
    groups = [[photo for photo in photos if photo.label == index] for index in range(len(recipe.labels))]
    largest, smallest = max(map(len, groups)), min(map(len, groups))
    chosen = []
    for group in groups:
        random.Random(seed).shuffle(group)  # the first by name may all have the same source
        pairs = [(photo, change) for change in CHANGES for photo in group]
        if every:
            chosen += pairs if len(group) == smallest < largest else []
        else:
            chosen += pairs[: largest - len(group)]
    return chosen


def _path(photo: Photo, change: str) -> Path:
    is_jpeg = photo.path.suffix.lower() in (".jpg", ".jpeg")
    return photo.path.with_name(legal_name(f"{change}_{photo.path.name}{'' if is_jpeg else '.jpg'}"))


def _require_free(copies: Sequence[Copy], originals: Sequence[Photo]) -> None:
    """A photo that has the name of a copy must not become one."""
    taken = {photo.path for photo in originals} & {copy.path for copy in copies}
    if taken:
        raise InvalidInput(
            f"{min(taken)} has the name of a copy, but {TABLE} does not call it one",
            "rename it, or delete it if dataset balance made it",
        )


def _row(folder: Path, copy: Copy) -> Row:
    """The row of a copy in SOURCES.tsv: that of its photo, with the photo itself as `made_from`."""
    name, original = (path.relative_to(folder).as_posix() for path in (copy.path, copy.photo.path))
    columns = {key: value for key, value in copy.photo.row.items() if key not in ("label", "split")}
    return {**columns, "path": name, "source": copy.photo.source, "made_from": original}


def make(copy: Copy, recipe: Recipe, seed: int) -> None:
    """Write a modified copy next to its photo, unless it exists.

    Raises:
        InvalidInput: the photo cannot be read.
        OSError: the copy cannot be written.
    """
    photo, change = copy.photo, copy.change
    if copy.path.exists():
        return
    try:
        upright = open_photo(photo.path.read_bytes(), recipe.limits)
    except RequestError as error:
        raise InvalidInput(f"{photo.path}: {error}", "find all such files with python -m dataset audit") from error
    digest = hashlib.sha256(f"{seed} {change} {photo.path.name}".encode()).digest()[:8]
    changed = CHANGES[change](upright, np.random.default_rng(int.from_bytes(digest, "big")))
    buffer = BytesIO()
    changed.save(buffer, "JPEG", quality=95)
    write_whole(copy.path, buffer.getvalue())


def saturate(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Multiply the HSV saturation by a factor from `SATURATION`, up to full saturation; hue and value are unchanged.

    With V = max(R, G, B) a channel C becomes V - (V - C) S'/S, so no conversion to HSV is needed.
    """
    pixels = np.asarray(photo, np.float32)
    value = pixels.max(2, keepdims=True)
    chroma = value - pixels.min(2, keepdims=True)
    most = np.divide(value, chroma, out=np.ones_like(value), where=chroma > 0)  # S' = 1
    changed = value - (value - pixels) * np.minimum(rng.uniform(*SATURATION), most)
    return Image.fromarray(changed.round().clip(0, 255).astype(np.uint8))


def brighten(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Add a share of the full range from `BRIGHTNESS` to every channel."""
    shift = rng.uniform(*BRIGHTNESS) * 255
    return Image.fromarray((np.asarray(photo, np.float32) + shift).round().clip(0, 255).astype(np.uint8))


CHANGES: dict[str, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    "saturation": saturate,
    "brightness": brighten,
}


def draw_sheet(folder: Path, copies: Sequence[Copy]) -> None:
    """Write the contact sheet: photos next to their copies."""
    entries: list[tuple[Path | Image.Image, str]] = []
    for copy in copies[:: max(1, len(copies) // _SHOWN)][:_SHOWN]:
        entries += [(copy.photo.path, copy.photo.path.name), (copy.path, copy.change)]
    if entries:
        buffer = BytesIO()
        contact_sheet(entries).save(buffer, "JPEG", quality=88)
        write_whole(folder / "balance.jpg", buffer.getvalue())


def _counts(photos: Sequence[Photo], recipe: Recipe) -> str:
    return ", ".join(f"{label} {count}" for label, count in counts(photos, recipe.labels).items())
