"""Even out the classes on disk, as the document does: more photos of the smaller ones, changed in colour.

    python -m dataset balance SPLIT --recipe classroom

SPLIT is a folder of `dataset split --out SPLIT`. Adds `saturation_NAME` (saturation in HSV times 5 to 10) and
`brightness_NAME` (0.2 brighter to 0.2 darker) beside photos of the `train` part, of the same source, until the classes
are even or both changes of every photo are made; the other parts are never touched. Writes SPLIT/balance.jpg, a
contact sheet of each photo beside its changes, for this machine only. Run again, it adds what is missing.

These copies are near duplicates: a model learns more from photos that change each time they are seen (recipe:
augment), from class weights (train.class_weights) or from drawing classes equally often (train.sampling).
"""

import hashlib
import random
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import click
import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track

from common.cli import command
from common.errors import UserError
from common.files import write_whole
from config.recipe import Recipe, read_recipe
from dataset.contact_sheet import contact_sheet
from dataset.photos import PARTS, TABLE, Photo, counts, read_photos, split_parts
from dataset.tables import read_rows, write_rows
from handler.errors import RequestError
from handler.image import open_photo

SATURATION = (5.0, 10.0)
BRIGHTNESS = (-0.2, 0.2)
"""The document's ranges (6.4, tf.image.random_saturation and random_brightness); drawn from uniformly."""
_SHOWN = 12
console = Console(stderr=True)


@command(epilog="Example: python -m dataset balance runs/split --recipe shapes")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--recipe", "name", default="classroom", show_default=True, help="Whose labels.")
@click.option("--every", is_flag=True, help="Both changes of every photo of the smallest class, as the document does.")
@click.option("--seed", default=0, show_default=True, help="Same seed, same changes.")
def balance(folder: Path, name: str, every: bool, seed: int) -> None:
    """Add changed copies of the smaller classes to the train part of FOLDER."""
    recipe = read_recipe(name)
    if PARTS[0] not in split_parts(folder, recipe.labels, recipe.aliases):
        raise UserError(f"{folder} is not split: make it with python -m dataset split PHOTOS --out {folder}")
    training = _training(folder, recipe)
    originals = [photo for photo in training if not photo.is_copy]
    todo = plan(originals, recipe, every, seed)
    try:
        made = [
            (photo, change, make(photo, change, recipe, seed))
            for photo, change in track(todo, "changing", console=console, transient=True)
        ]
        note(folder, made)
        show(folder, made)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}: make room and run again") from error
    after = _training(folder, recipe)
    click.echo(f"{folder}: {_told(originals, recipe)} became {_told(after, recipe)}; see {folder / 'balance.jpg'}")


def _training(folder: Path, recipe: Recipe) -> list[Photo]:
    photos = read_photos(folder, recipe.labels, aliases=recipe.aliases)
    return [photo for photo in photos if photo.part == PARTS[0]]


def plan(photos: Sequence[Photo], recipe: Recipe, every: bool, seed: int = 0) -> list[tuple[Photo, str]]:
    """Which photo gets which change: each class grows to the largest, by saturation first, then by brightness.

    Args:
        every: both changes of all photos of the smallest class, and nothing else.
    """
    groups = [[photo for photo in photos if photo.label == index] for index in range(len(recipe.labels))]
    largest, smallest = max(map(len, groups)), min(map(len, groups))
    chosen = []
    for group in groups:
        random.Random(seed).shuffle(group)  # not the first by name: those may all be of one source
        pairs = [(photo, change) for change in CHANGES for photo in group]
        if every:
            chosen += pairs if len(group) == smallest < largest else []
        else:
            chosen += pairs[: largest - len(group)]
    return chosen


def make(photo: Photo, change: str, recipe: Recipe, seed: int) -> Path:
    """Write one changed copy beside its photo, unless it is there.

    Returns:
        its path.

    Raises:
        UserError: the photo cannot be read.
    """
    plain = photo.path.suffix.lower() in (".jpg", ".jpeg")
    path = photo.path.with_name(f"{change}_{photo.path.name}{'' if plain else '.jpg'}")
    if path.exists():
        return path
    try:
        upright = open_photo(photo.path.read_bytes(), recipe.limits)
    except RequestError as error:
        raise UserError(f"{photo.path}: {error}: audit finds all such files") from error
    number = hashlib.sha256(f"{seed} {change} {photo.path.name}".encode()).digest()[:8]
    changed = CHANGES[change](upright, np.random.default_rng(int.from_bytes(number, "big")))
    buffer = BytesIO()
    changed.save(buffer, "JPEG", quality=95)
    write_whole(path, buffer.getvalue())
    return path


def saturate(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Saturation in HSV times `SATURATION`, at most full; hue and value stay.

    With V = max(R, G, B) a channel C becomes V - (V - C) S'/S, so no conversion to HSV is needed.
    """
    pixels = np.asarray(photo, np.float32)
    value = pixels.max(2, keepdims=True)
    chroma = value - pixels.min(2, keepdims=True)
    most = np.divide(value, chroma, out=np.ones_like(value), where=chroma > 0)  # S' = 1
    changed = value - (value - pixels) * np.minimum(rng.uniform(*SATURATION), most)
    return Image.fromarray(changed.round().clip(0, 255).astype(np.uint8))


def brighten(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    """`BRIGHTNESS` of the whole range added to every channel."""
    shift = rng.uniform(*BRIGHTNESS) * 255
    return Image.fromarray((np.asarray(photo, np.float32) + shift).round().clip(0, 255).astype(np.uint8))


CHANGES: dict[str, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    "saturation": saturate,
    "brightness": brighten,
}


def note(folder: Path, made: Sequence[tuple[Photo, str, Path]]) -> None:
    """Say in SOURCES.tsv where the copies come from: their photo (`made_from`) and its source."""
    table = folder / TABLE
    rows = {row["path"]: row for row in read_rows(table, ("path",))} if table.is_file() else {}
    for photo, _, path in made:
        old = rows.get(photo.path.relative_to(folder).as_posix(), {})
        name = path.relative_to(folder).as_posix()
        made_from = photo.path.relative_to(folder).as_posix()
        rows[name] = {**old, "path": name, "source": photo.source, "made_from": made_from}
    columns = dict.fromkeys(["path", "source", *(key for row in rows.values() for key in row if key)])
    write_rows(table, list(columns), rows.values())


def show(folder: Path, made: Sequence[tuple[Photo, str, Path]]) -> None:
    """Write the contact sheet: photos beside their changes."""
    entries: list[tuple[Path | Image.Image, str]] = []
    for photo, change, path in made[:: max(1, len(made) // _SHOWN)][:_SHOWN]:
        entries += [(photo.path, photo.path.name), (path, change)]
    if entries:
        buffer = BytesIO()
        contact_sheet(entries).save(buffer, "JPEG", quality=88)
        write_whole(folder / "balance.jpg", buffer.getvalue())


def _told(photos: Sequence[Photo], recipe: Recipe) -> str:
    return ", ".join(f"{label} {count}" for label, count in counts(photos, recipe.labels).items())
