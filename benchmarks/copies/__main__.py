"""How many re-encoded, rescaled, cropped and mirrored copies of frozen photos are held back when they are uploaded.

    python -m benchmarks.copies PHOTOS [--count 50]

Every photo has a copy of each kind, saved as JPEG of quality 50. The other photos of the folder show how often a photo
that is no copy is held back. Near duplicates in the folder, such as frames of one video, are counted among those.
"""

import random
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from rich.progress import track

from common.cli import command
from common.console import compact_table, console, err_console
from common.errors import InvalidInput
from common.statistics import wilson
from common.words import number_of
from dataset.listing import files_of
from feedback.photos.frozen import hashes_of
from feedback.photos.hashing import THRESHOLD, nearest, packed, phash

QUALITY = 50


def crop(photo: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    """A photo without these shares of its width or height."""
    width, height = photo.size
    return photo.crop(
        (round(left * width), round(top * height), round(width - right * width), round(height - bottom * height))
    )


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "re-encoded": lambda photo: photo,
    "rescaled": lambda photo: photo.resize((max(1, photo.width // 2), max(1, photo.height // 2))),
    "every side cropped": lambda photo: crop(photo, 0.05, 0.05, 0.05, 0.05),
    "one side cropped": lambda photo: crop(photo, 0.05, 0, 0, 0),
    "two sides cropped": lambda photo: crop(photo, 0.02, 0.04, 0.03, 0.01),
    "mirrored": ImageOps.mirror,
}


@command(epilog="Example: python -m benchmarks.copies PHOTOS --count 50")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--count", default=50, show_default=True, type=click.IntRange(1), help="Frozen photos.")
def main(folder: Path, count: int) -> None:
    """Copy photos of a folder in several ways, and count the copies that are held back."""
    paths = files_of(folder, links=True)
    if len(paths) <= count:
        raise InvalidInput(f"{folder} has {number_of(len(paths), 'photo')}", f"give a folder with more than {count}")
    random.Random(0).shuffle(paths)
    shown = track(paths[:count], "hashing", console=err_console, transient=True)
    frozen = packed([value for path in shown for value in hashes_of(path)])
    table = compact_table("copy", "held back", "share", "95 % interval")
    for kind in COPIES:
        found = sum(held_back(copied(path, kind), frozen) for path in paths[:count])
        table.add_row(kind, *_shares(found, count))
    others = paths[count:]
    table.add_row("another photo", *_shares(sum(held_back(copied(path), frozen) for path in others), len(others)))
    console.print(table)


def copied(path: Path, kind: str = "re-encoded") -> Image.Image:
    """A copy of a photo, as it is read again."""
    with Image.open(path) as photo:
        upright = ImageOps.exif_transpose(photo).convert("RGB")
    buffer = BytesIO()
    COPIES[kind](upright).save(buffer, "JPEG", quality=QUALITY)
    return Image.open(buffer)


def held_back(photo: Image.Image, frozen: npt.NDArray[np.uint64]) -> bool:
    """Whether the feedback loop takes a photo for a copy of a frozen one."""
    return nearest(phash(photo), frozen)[1] <= THRESHOLD


def _shares(found: int, of: int) -> tuple[str, str, str]:
    low, high = wilson(found, of)
    return f"{found} of {of}", f"{found / of:.1%}", f"{low:.1%} to {high:.1%}"


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.copies")
