"""Turn a data set as it is published into the lists that training reads.

    python -m dataset convert pets FOLDER --out OUT

FOLDER has the Oxford-IIIT Pet data set: `images/` and `annotations/` with `trainval.txt` and `test.txt`, whose lines
are `NAME CLASS SPECIES BREED`, CLASS counted from 1; or `oxford-iiit-pet/` with both, as
torchvision.datasets.OxfordIIITPet leaves them. Writes

    OUT/labels.txt                       one class a line; class 0 is the first
    OUT/trainval.txt, OUT/test.txt       `CLASS PATH`, CLASS counted from 0, PATH relative to OUT
    OUT/trainval/Abyssinian/...jpg       the photos, copied as they are

Photos that cannot be read are named and left out. `--data OUT` reads the result: `test` is a split's test part, the
rest is trained on, but for what the recipe holds out.
"""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import click
from PIL import Image
from rich.progress import track

from common.cli import command
from common.errors import UserError
from dataset.lists import LABELS, LISTS, write_lines


@dataclass(frozen=True)
class Line:
    """A photo of a published list: its name without suffix, its class counted from 0."""

    name: str
    index: int

    @property
    def label(self) -> str:
        """`american_bulldog` of american_bulldog_12."""
        return self.name.rpartition("_")[0]


@command(epilog="Example: python -m dataset convert pets runs/oxford --out runs/pets")
@click.argument("kind", type=click.Choice(["pets"]))
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A new folder.")
def convert(kind: str, folder: Path, out: Path) -> None:
    """Turn the data set KIND in FOLDER into labels.txt, trainval.txt and test.txt with their photos."""
    if out.exists():
        raise UserError(f"{out} exists: remove it, or give another --out")
    place = oxford(folder)
    lists = {part: read_list(place / "annotations" / f"{part}.txt") for part in LISTS}
    labels = names_of_classes([line for lines in lists.values() for line in lines])
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as work:
            made = Path(work) / "made"
            made.mkdir()
            write_lines(made / LABELS, labels)
            kept = {part: _copy(place, made, part, lines) for part, lines in lists.items()}
            made.chmod(0o755)
            made.rename(out)
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror or error}: give another --out") from error
    told = ", ".join(f"{count} of {len(lists[part])} photos in {part}" for part, count in kept.items())
    click.echo(f"{out}: {len(labels)} classes, {told}")


def oxford(folder: Path) -> Path:
    """Where `images` and `annotations` lie: here, or in `oxford-iiit-pet` below.

    Raises:
        UserError: in neither.
    """
    for place in (folder, folder / "oxford-iiit-pet"):
        if all((place / name).is_dir() for name in ("images", "annotations")):
            return place
    raise UserError(f"{folder} has no images/ and annotations/: unpack images.tar.gz and annotations.tar.gz there")


def read_list(path: Path) -> list[Line]:
    """The photos of a published list.

    Raises:
        UserError: it cannot be read, or a line is none of `NAME CLASS SPECIES BREED`, naming it.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}: unpack annotations.tar.gz again") from error
    return [_line(path, number, text) for number, text in enumerate(lines, 1) if text and not text.startswith("#")]


def names_of_classes(lines: list[Line]) -> list[str]:
    """The name of each class, in order of their indices.

    Raises:
        UserError: a class has two names, a name two classes, or a number is missing.
    """
    found: dict[int, str] = {}
    numbers: dict[str, int] = {}
    for line in lines:
        if numbers.setdefault(line.label, line.index) != line.index:
            twice = f"{numbers[line.label] + 1} and {line.index + 1}"
            raise UserError(f"{line.label} is class {twice}: correct the lists")
        if found.setdefault(line.index, line.label) != line.label:
            raise UserError(f"class {line.index + 1} is {found[line.index]} and {line.label}: correct the lists")
    absent = sorted(set(range(max(found, default=0) + 1)) - set(found))
    if absent:
        raise UserError(f"no photo of class {absent[0] + 1} in the lists: correct them")
    return [found[index] for index in sorted(found)]


def _line(path: Path, number: int, text: str) -> Line:
    words = text.split()
    label = words[0].rpartition("_")[0] if words else ""
    plain = label and Path(words[0]).name == words[0]
    if len(words) != 4 or not words[1].isdecimal() or int(words[1]) < 1 or not plain:
        raise UserError(f"{path}:{number}: {text[:60]!r} is not NAME CLASS SPECIES BREED: correct the list")
    return Line(words[0], int(words[1]) - 1)


def _copy(place: Path, made: Path, part: str, lines: list[Line]) -> int:
    """Copy the photos of a part and write its list; how many there are."""
    rows = []
    for line in track(lines, part, transient=True):
        source = place / "images" / f"{line.name}.jpg"
        path = Path(part) / line.label / source.name
        if not _readable(source):
            click.echo(f"note: {source} cannot be read: left out", err=True)
            continue
        (made / path.parent).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, made / path)
        rows.append(f"{line.index} {path.as_posix()}")
    write_lines(made / f"{part}.txt", rows)
    return len(rows)


def _readable(path: Path) -> bool:
    try:
        with Image.open(path) as photo:
            photo.load()
    except Exception:  # Pillow raises nearly everything on a damaged file
        return False
    return True
