"""Fetch a well-known data set with torchvision, as label folders that `--data` takes.

    python -m dataset fetch cifar10 --out runs/cifar10
    python -m dataset fetch mnist --out runs/mnist --files DOWNLOADS

torchvision downloads the files into --files and checks their digests; what lies there already is not downloaded again.
Writes OUT/train/LABEL/00000.png ... and OUT/val/..., whole or not at all. `val` is the data set's own test part: the
recipes of these sets keep the last epoch, so that nothing is chosen by it.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import track

from common.cli import command
from common.errors import UserError
from dataset.photos import PARTS

FILES = Path("var/downloads")
Writer = Callable[[Path], None]
"""Writes one photo to a path without extension."""


@dataclass(frozen=True)
class Source:
    """A data set of torchvision.

    `read`: where its files lie, the part -> label and writer of each photo. `files`: what is downloaded, below --files.
    """

    read: Callable[[Path, str], Iterator[tuple[str, Writer]]]
    files: tuple[str, ...]


@command(epilog="Example: python -m dataset fetch mnist --out runs/mnist")
@click.argument("name", type=click.Choice(["cifar10", "mnist", "pets"]))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The folder to make.")
@click.option(
    "--files", default=FILES, show_default=True, type=click.Path(path_type=Path), help="Where the downloaded files lie."
)
def fetch(name: str, out: Path, files: Path) -> None:
    """Fetch the data set NAME into a folder of label folders, split into train and val."""
    if out.exists():
        raise UserError(f"{out} exists: remove it, or give another --out")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        files.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as work:
            folder = Path(work) / "photos"
            counts = {part: _write(folder / part, name, files, part) for part in PARTS[:2]}
            folder.rename(out)
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror or error}: give another --out") from error
    told = ", ".join(f"{count} photos in {part}" for part, count in counts.items())
    click.echo(f"{out}: {told}; next: python -m training train {name} --data {out}")


def _write(folder: Path, name: str, files: Path, part: str) -> int:
    """Write one part; how many photos it has."""
    photos = list(_read(name, files, part))
    for index, (label, write) in enumerate(track(photos, part, console=Console(stderr=True), transient=True)):
        (folder / label).mkdir(parents=True, exist_ok=True)
        write(folder / label / f"{index:05d}")
    return len(photos)


def _read(name: str, files: Path, part: str) -> Iterator[tuple[str, Writer]]:
    source = SOURCES[name]
    try:
        yield from source.read(files, part)
    except (RuntimeError, OSError, EOFError) as error:  # urllib's errors are OSErrors, a digest's RuntimeErrors
        wanted = ", ".join(str(files / file) for file in source.files)
        raise UserError(
            f"{name} cannot be fetched here ({' '.join(str(error).split())[:120]}): put {wanted} in place yourself, "
            "then run this again"
        ) from error


def _cifar10(files: Path, part: str) -> Iterator[tuple[str, Writer]]:
    from torchvision.datasets import CIFAR10

    found = CIFAR10(files, train=part == PARTS[0], download=True)
    return ((found.classes[target], _png(photo)) for photo, target in _items(found))


def _mnist(files: Path, part: str) -> Iterator[tuple[str, Writer]]:
    from torchvision.datasets import MNIST

    return ((str(target), _png(photo)) for photo, target in _items(MNIST(files, train=part == PARTS[0], download=True)))


def _pets(files: Path, part: str) -> Iterator[tuple[str, Writer]]:
    """Photos as they are, by the lists that lie beside them (torchvision's own class converts each to RGB)."""
    from torchvision.datasets import OxfordIIITPet

    split = "trainval" if part == PARTS[0] else "test"
    found = OxfordIIITPet(files, split, download=True)
    place = files / "oxford-iiit-pet"
    rows = [line.split() for line in (place / "annotations" / f"{split}.txt").read_text(encoding="utf-8").splitlines()]
    return ((found.classes[int(row[1]) - 1], _copy(place / "images" / f"{row[0]}.jpg")) for row in rows)


def _items(found: Any) -> Iterator[Any]:
    return (found[index] for index in range(len(found)))


def _png(photo: Any) -> Writer:
    return lambda path: photo.save(path.with_suffix(".png"))


def _copy(source: Path) -> Writer:
    """A second name of a file where the disk allows it, else a copy."""

    def write(path: Path) -> None:
        target = path.with_suffix(source.suffix)
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)

    return write


SOURCES = {
    "cifar10": Source(_cifar10, ("cifar-10-python.tar.gz",)),
    "mnist": Source(
        _mnist,
        tuple(
            f"MNIST/raw/{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
        ),
    ),
    "pets": Source(_pets, ("oxford-iiit-pet/images.tar.gz", "oxford-iiit-pet/annotations.tar.gz")),
}
"""By the name of the recipe that trains on it."""
