"""Download a well-known data set with torchvision, into label folders that `--data` accepts.

    python -m dataset fetch cifar10 --out runs/cifar10
    python -m dataset fetch mnist --out runs/mnist --files DOWNLOADS

torchvision downloads the files into --files and checks their digests; files that are already there are not downloaded
again. Writes OUT/train/LABEL/00000.png ... and OUT/val/..., completely or not at all. `val` is the test part of the
data set. It does not influence the model, because the recipes of these data sets keep the last epoch.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.progress import track

from common.cli import command
from common.commands import next_step
from common.console import err_console
from common.errors import NotFound
from common.files import new_folder, writing
from common.words import number_of
from dataset.photos import PARTS

FILES = Path("var/downloads")
Writer = Callable[[Path], None]
"""Writes one photo to a path; appends the suffix."""


@dataclass(frozen=True)
class Source:
    """A data set of torchvision.

    `read`: (folder of the downloads, part) -> label and writer of each photo. `files`: the downloads, below --files.
    `extracted`: what torchvision extracts from them, a pattern below --files. It never looks at a download again while
    that exists, even if it is damaged.
    """

    read: Callable[[Path, str], Iterator[tuple[str, Writer]]]
    files: tuple[str, ...]
    extracted: str


@command(epilog="Example: python -m dataset fetch mnist --out runs/mnist")
@click.argument("name", type=click.Choice(["cifar10", "mnist", "pets"]))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to create.")
@click.option(
    "--files", default=FILES, show_default=True, type=click.Path(path_type=Path), help="Folder for the downloads."
)
def fetch(name: str, out: Path, files: Path) -> None:
    """Download the data set NAME into label folders, split into train and val."""
    with new_folder(out) as folder:
        with writing(files, "give another --files"):
            files.mkdir(parents=True, exist_ok=True)
        counts = {part: _write(folder / part, name, files, part) for part in PARTS[:2]}
    summary = ", ".join(f"{number_of(count, 'photo')} in {part}" for part, count in counts.items())
    click.echo(f"{out}: {summary}")
    next_step("training", "train", name, "--data", out)


def _write(folder: Path, name: str, files: Path, part: str) -> int:
    """Write one part. Returns: the number of photos."""
    photos = list(_read(name, files, part))
    for index, (label, write) in enumerate(track(photos, part, console=err_console, transient=True)):
        (folder / label).mkdir(parents=True, exist_ok=True)
        write(folder / label / f"{index:05d}")
    return len(photos)


def _read(name: str, files: Path, part: str) -> Iterator[tuple[str, Writer]]:
    source = SOURCES[name]
    try:
        yield from source.read(files, part)
    except (RuntimeError, OSError, EOFError) as error:  # urllib's errors are OSErrors, a digest's RuntimeErrors
        paths = ", ".join(str(files / file) for file in source.files)
        fix, reason = f"download {paths} yourself, then run this again", " ".join(str(error).split())[:120]
        if any(files.glob(source.extracted)):
            fix = f"delete {files}/{source.extracted} and run this again; if that cannot download the files, {fix}"
        raise NotFound(f"{name} cannot be read ({reason})", fix) from error


def _cifar10(files: Path, part: str) -> Iterator[tuple[str, Writer]]:
    from torchvision.datasets import CIFAR10

    data = CIFAR10(files, train=part == PARTS[0], download=True)
    return ((data.classes[target], _png(photo)) for photo, target in _items(data))


def _mnist(files: Path, part: str) -> Iterator[tuple[str, Writer]]:
    from torchvision.datasets import MNIST

    return ((str(target), _png(photo)) for photo, target in _items(MNIST(files, train=part == PARTS[0], download=True)))


def _pets(files: Path, part: str) -> Iterator[tuple[str, Writer]]:
    """The original files, by the lists next to them (torchvision's class would convert each photo to RGB)."""
    from torchvision.datasets import OxfordIIITPet

    split = "trainval" if part == PARTS[0] else "test"
    data = OxfordIIITPet(files, split, download=True)
    place = files / "oxford-iiit-pet"
    rows = [line.split() for line in (place / "annotations" / f"{split}.txt").read_text(encoding="utf-8").splitlines()]
    return ((data.classes[int(row[1]) - 1], _copy(place / "images" / f"{row[0]}.jpg")) for row in rows)


def _items(data: Any) -> Iterator[Any]:
    return (data[index] for index in range(len(data)))


def _png(photo: Any) -> Writer:
    return lambda path: photo.save(path.with_suffix(".png"))


def _copy(source: Path) -> Writer:
    """Hard-link the file if the disk allows it, otherwise copy it."""

    def write(path: Path) -> None:
        target = path.with_suffix(source.suffix)
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)

    return write


SOURCES = {
    "cifar10": Source(_cifar10, ("cifar-10-python.tar.gz",), "cifar-10-batches-py"),
    "mnist": Source(
        _mnist,
        tuple(
            f"MNIST/raw/{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
        ),
        "MNIST/raw/*-ubyte",
    ),
    "pets": Source(
        _pets, ("oxford-iiit-pet/images.tar.gz", "oxford-iiit-pet/annotations.tar.gz"), "oxford-iiit-pet/*/"
    ),
}
"""Name of the recipe -> the data set that it is for."""
