"""Convert a published data set into the lists that training reads.

    python -m dataset convert pets FOLDER --out OUT

FOLDER holds the Oxford-IIIT Pet data set: `images/`, and `annotations/` with `trainval.txt` and `test.txt`, whose lines
are `NAME CLASS SPECIES BREED` with CLASS counted from 1. Both may also be in `oxford-iiit-pet/`, as
torchvision.datasets.OxfordIIITPet stores them. Writes

    OUT/labels.txt                       one class per line; class 0 is the first
    OUT/trainval.txt, OUT/test.txt       `CLASS PATH`, CLASS counted from 0, PATH relative to OUT
    OUT/trainval/Abyssinian/...jpg       copies of the photos

Photos that cannot be read are reported and left out. `--data OUT` reads the result: test.txt is the test part of the
split, and the rest is trained on, except for what the recipe holds out.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import click
from PIL import Image
from rich.progress import track

from common.cli import command
from common.commands import next_step
from common.console import err_console
from common.errors import InvalidInput, NotFound
from common.files import new_folder, require_absent
from common.words import number_of
from dataset.tables import LABELS, LISTS, write_lines


@dataclass(frozen=True)
class Line:
    """A photo of a published list: its name without suffix, and its class counted from 0."""

    name: str
    index: int

    @property
    def label(self) -> str:
        """The class name: american_bulldog for american_bulldog_12."""
        return self.name.rpartition("_")[0]


@command(epilog="Example: python -m dataset convert pets runs/oxford --out runs/pets")
@click.argument("kind", type=click.Choice(["pets"]))
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to create.")
def convert(kind: str, folder: Path, out: Path) -> None:
    """Convert the data set KIND in FOLDER into labels.txt, trainval.txt and test.txt with their photos."""
    require_absent(out)
    place = oxford(folder)
    lists = {part: read_list(place / "annotations" / f"{part}.txt") for part in LISTS}
    labels = names_of_classes([line for lines in lists.values() for line in lines])
    with new_folder(out) as work:
        write_lines(work / LABELS, labels)
        copied = {part: _copy(place, work, part, lines) for part, lines in lists.items()}
        _require_every_class(copied["trainval"], labels)
    summary = ", ".join(f"{len(rows)} of {len(lists[part])} photos in {part}" for part, rows in copied.items())
    click.echo(f"{out}: {number_of(len(labels), 'class', 'classes')}, {summary}")
    next_step("training", "train", kind, "--data", out)


def oxford(folder: Path) -> Path:
    """The folder with `images` and `annotations`: this one, or `oxford-iiit-pet` in it.

    Raises:
        NotFound: neither has both.
    """
    for place in (folder, folder / "oxford-iiit-pet"):
        if all((place / name).is_dir() for name in ("images", "annotations")):
            return place
    raise NotFound(f"{folder} has no images/ and annotations/", "unpack images.tar.gz and annotations.tar.gz there")


def read_list(path: Path) -> list[Line]:
    """Read a published list.

    Raises:
        InvalidInput: it cannot be read, or a line is not `NAME CLASS SPECIES BREED`.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}", "unpack annotations.tar.gz again") from error
    return [_line(path, number, text) for number, text in enumerate(lines, 1) if text and not text.startswith("#")]


def names_of_classes(lines: list[Line]) -> list[str]:
    """The name of each class, in order of the class numbers.

    Raises:
        InvalidInput: a class has two names, a name two classes, or a number is missing.
    """
    names: dict[int, str] = {}
    numbers: dict[str, int] = {}
    for line in lines:
        if numbers.setdefault(line.label, line.index) != line.index:
            both = f"{numbers[line.label] + 1} and {line.index + 1}"
            raise InvalidInput(f"{line.label} is class {both}", "correct the lists")
        if names.setdefault(line.index, line.label) != line.label:
            raise InvalidInput(f"class {line.index + 1} is {names[line.index]} and {line.label}", "correct the lists")
    missing = sorted(set(range(max(names, default=0) + 1)) - set(names))
    if missing:
        raise InvalidInput(f"the lists have no photo of class {missing[0] + 1}", "correct them")
    return [names[index] for index in sorted(names)]


def _line(path: Path, number: int, text: str) -> Line:
    words = text.split()
    label = words[0].rpartition("_")[0] if words else ""
    plain = label and Path(words[0]).name == words[0]
    if len(words) != 4 or not words[1].isdecimal() or int(words[1]) < 1 or not plain:
        raise InvalidInput(f"{path}:{number}: {text[:60]!r} is not NAME CLASS SPECIES BREED", "correct the list")
    return Line(words[0], int(words[1]) - 1)


def _require_every_class(copied: list[Line], labels: list[str]) -> None:
    if empty := sorted({*labels} - {line.label for line in copied}):
        problem = f"no photo of {', '.join(empty)} in trainval can be read, so no model could be trained"
        raise InvalidInput(problem, "unpack images.tar.gz again")


def _copy(place: Path, work: Path, part: str, lines: list[Line]) -> list[Line]:
    """Copy the photos of a part that can be read, and write its list. Returns: their lines."""
    rows, copied = [], []
    for line in track(lines, part, console=err_console, transient=True):
        source = place / "images" / f"{line.name}.jpg"
        path = Path(part) / line.label / source.name
        if not _readable(source):
            click.echo(f"note: {source} cannot be read and is left out", err=True)
            continue
        (work / path.parent).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, work / path)
        rows.append(f"{line.index} {path.as_posix()}")
        copied.append(line)
    write_lines(work / f"{part}.txt", rows)
    return copied


def _readable(path: Path) -> bool:
    try:
        with Image.open(path) as photo:
            photo.load()
    except Exception:  # Pillow raises nearly every built-in exception on damaged files
        return False
    return True
