"""Split labelled photos into training, validation and, on request, test.

    python -m dataset split PHOTOS --recipe classroom                       # runs/classroom/split.tsv
    python -m dataset split PHOTOS --recipe classroom --out SPLIT           # SPLIT/train/online/...

30 % to train on and 70 % to validate on, as the document has it: with few photos a small validation part
would prove little. Photos of one source, and near duplicates, never stand on both sides; so the shares are the
nearest that whole sources allow, and are printed. Copies that `dataset balance` made are left out. A table (not a
folder) that is split again keeps its `test` photos: what was never trained on stays so.
"""

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from common.cli import command
from common.errors import UserError
from config.recipe import Recipe, read_recipe
from dataset.auditing.duplicates import similar_groups
from dataset.photos import PARTS, TABLE, Photo, read_photos
from dataset.splitting.search import FEW, assign
from dataset.tables import Row, read_rows, write_rows

console = Console(stderr=True)


@command(epilog="Example: python -m dataset split runs/drawn --recipe shapes --train 0.7 --out runs/split")
@click.argument("place", type=click.Path(exists=True, path_type=Path))
@click.option("--recipe", "name", default="classroom", show_default=True, help="Whose labels.")
@click.option("--out", type=click.Path(path_type=Path), help="A .tsv, or a folder.  [default: runs/RECIPE/split.tsv]")
@click.option("--train", default=0.3, show_default=True, type=click.FloatRange(0, 1), help="Share to train on.")
@click.option("--test", default=0.0, show_default=True, type=click.FloatRange(0, 1), help="Share kept for the end.")
@click.option("--seed", default=0, show_default=True, help="Same seed, same photos, same split.")
@click.option("--few-sources", is_flag=True, help=f"Allow a part with fewer than {FEW} sources of a class.")
@click.option("--near/--no-near", default=True, show_default=True, help="Keep near duplicates together.")
def split(
    place: Path,
    name: str,
    out: Path | None,
    train: float,
    test: float,
    seed: int,
    few_sources: bool,
    near: bool,
) -> None:
    """Split the photos of PLACE (label folders, or a table) into train, val and test."""
    if train <= 0 or train + test >= 1:
        raise UserError(f"--train {train} --test {test} leave nothing for a part: both and val need photos")
    recipe = read_recipe(name)
    out = out or Path("runs") / recipe.name / "split.tsv"
    if out.suffix != ".tsv" and out.exists():
        raise UserError(f"{out} exists: remove it, or give another --out")
    photos = [photo for photo in read_photos(place, recipe.labels, aliases=recipe.aliases) if not photo.is_copy]
    groups, frozen = group(photos, recipe, near), frozen_test(out, photos)
    test = max(test, len(frozen) / len(photos))
    if train + test >= 1:
        raise UserError(f"{out} keeps {test:.0%} for the test: give a --train below {1 - test:.2f}")
    shares = (train, 1 - train - test, test)
    photos = joined(photos, groups)
    parts = divide(photos, groups, shares, recipe, seed, frozen)
    if not few_sources:
        refuse_few(parts, groups, recipe)
    (write_table if out.suffix == ".tsv" else write_folders)(out, parts, recipe)
    show(parts, recipe, shares)
    click.echo(f"{out}: next: python -m training train {name} --data {out}")


def group(photos: Sequence[Photo], recipe: Recipe, near: bool) -> list[int]:
    """The group of each photo: photos that share a source or look alike, directly or through others."""
    sources = {source: index for index, source in enumerate(dict.fromkeys(photo.source for photo in photos))}
    alike = similar_groups([photo.path for photo in photos], recipe.limits, "comparing") if near else range(len(photos))
    parent = list(range(len(sources)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first: dict[int, int] = {}
    for photo, look in zip(photos, alike, strict=True):
        source = sources[photo.source]
        parent[root(source)] = root(first.setdefault(look, source))
    return [root(sources[photo.source]) for photo in photos]


def divide(
    photos: Sequence[Photo],
    groups: Sequence[int],
    shares: Sequence[float],
    recipe: Recipe,
    seed: int,
    frozen: frozenset[Path] = frozenset(),
) -> list[Photo]:
    """The photos with their parts.

    Args:
        groups: photos of one group stay together.
        shares: of `PARTS`.
        frozen: photos (resolved paths) whose groups go to the test part.
    """
    place = {name: index for index, name in enumerate(dict.fromkeys(groups))}
    counts = np.zeros((len(place), len(recipe.labels)), np.int64)
    fixed: list[int | None] = [None] * len(place)
    for photo, name in zip(photos, groups, strict=True):
        counts[place[name], photo.label] += 1
        if photo.path.resolve() in frozen:
            fixed[place[name]] = PARTS.index("test")
    chosen = assign(counts, shares, seed, fixed)
    return [replace(photo, part=PARTS[chosen[place[name]]]) for photo, name in zip(photos, groups, strict=True)]


def joined(photos: Sequence[Photo], groups: Sequence[int]) -> list[Photo]:
    """The photos with a column `group` where near duplicates join sources: later steps keep them together too."""
    sources: dict[int, dict[str, None]] = {}
    for photo, name in zip(photos, groups, strict=True):
        sources.setdefault(name, {})[photo.source] = None
    return [
        replace(photo, row={**photo.row, "group": next(iter(sources[name]))}) if len(sources[name]) > 1 else photo
        for photo, name in zip(photos, groups, strict=True)
    ]


def frozen_test(table: Path, photos: Sequence[Photo]) -> frozenset[Path]:
    """The test photos of a split that is there already.

    Raises:
        UserError: some of them are not among the photos: the table is of others.
    """
    if table.suffix != ".tsv" or not table.exists():
        return frozenset()
    rows = read_rows(table, ("path", "split"))
    frozen = {(table.parent / row["path"]).resolve() for row in rows if row["split"] == "test"}
    lost = frozen - {photo.path.resolve() for photo in photos}
    if lost:
        raise UserError(
            f"{table} keeps {len(lost)} photos for the test that are not here ({min(lost).name} ...): "
            "give another --out, or remove the table if they are no longer needed"
        )
    return frozenset(frozen)


def refuse_few(photos: Sequence[Photo], groups: Sequence[int], recipe: Recipe) -> None:
    """Refuse a part that has too few sources of a class.

    Raises:
        UserError: naming part and class.
    """
    held = {(photo.part, photo.label, name) for photo, name in zip(photos, groups, strict=True)}
    found = Counter((part, label) for part, label, _ in held)
    for part in PARTS:
        for index, label in enumerate(recipe.labels):
            if any(photo.part == part for photo in photos) and found[part, index] < FEW:
                raise UserError(
                    f"{part} would have {found[part, index]} sources of {label}, at least {FEW} are wanted: "
                    "add photos from other sources, or give --few-sources"
                )


def write_table(out: Path, photos: Sequence[Photo], recipe: Recipe) -> None:
    """Write path, label, source and split of each photo; paths are relative to the table."""
    columns = list(dict.fromkeys(["path", "label", "source", "split", *(key for p in photos for key in p.row)]))
    base = out.resolve().parent
    write_rows(out, columns, [_row(photo, os.path.relpath(photo.path.resolve(), base), recipe) for photo in photos])


def write_folders(out: Path, photos: Sequence[Photo], recipe: Recipe) -> None:
    """Copy the photos to OUT/PART/LABEL/, with a SOURCES.tsv; OUT appears when it is complete.

    Raises:
        UserError: it cannot be written.
    """
    rows: list[Row] = []
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as work:
            folder = Path(work) / "split"
            for part in dict.fromkeys(photo.part for photo in photos):
                for label in recipe.labels:
                    (folder / part / label).mkdir(parents=True)
            for photo in track(photos, "copying", console=console, transient=True):
                name = _free(folder, Path(photo.part) / recipe.labels[photo.label] / photo.path.name)
                shutil.copy2(photo.path, folder / name)
                rows.append(_row(photo, name.as_posix(), recipe))
            columns = dict.fromkeys(["path", "source", *(key for row in rows for key in row)])
            write_rows(folder / TABLE, [name for name in columns if name not in ("label", "split")], rows)
            folder.rename(out)
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror}: give another --out") from error


def show(photos: Sequence[Photo], recipe: Recipe, shares: Sequence[float]) -> None:
    """Print photos, sources and reached shares by part and class."""
    table = Table("part", "wanted", *(f"{label}" for label in recipe.labels), "photos", "sources")
    for part, share in zip(PARTS, shares, strict=True):
        inside = [photo for photo in photos if photo.part == part]
        if not inside:
            continue
        cells = []
        for index, _ in enumerate(recipe.labels):
            count, whole = (sum(photo.label == index for photo in some) for some in (inside, photos))
            cells.append(f"{count} ({count / whole:.0%})")
        together = f"{len(inside)} ({len(inside) / len(photos):.0%})"
        table.add_row(part, f"{share:.0%}", *cells, together, str(len({photo.source for photo in inside})))
    console.print(table)


def _row(photo: Photo, path: str, recipe: Recipe) -> Row:
    facts = {"label": recipe.labels[photo.label], "source": photo.source, "split": photo.part}
    return {**photo.row, "path": path, **facts}


def _free(folder: Path, name: Path) -> Path:
    """The name, or with a number where another source has a photo of the same name."""
    number, free = 1, name
    while (folder / free).exists():
        number += 1
        free = name.with_name(f"{name.stem}-{number}{name.suffix}")
    return free
