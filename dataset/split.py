"""Split labelled photos into a training, a validation and an optional test part.

    python -m dataset split PHOTOS --recipe classroom                       # runs/classroom/split.tsv
    python -m dataset split PHOTOS --recipe classroom --out SPLIT           # SPLIT/train/online/...

By default 30 % of the photos are for training and 70 % for validation, as in the classroom document: with few photos, a
small validation part would prove little. Photos of one source, and near duplicates, are always in the same part. So the
shares are only as close to the requested ones as whole sources allow; they are printed. Where photos name no source,
`--source-from` finds it in their folders or names. Copies that `dataset balance` made are left out. Photos of none of
the classes (label `no_class`) are split like a class. If the output is an existing table, its `test` photos stay in the
test part, so that no model is ever trained on them.
"""

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from rich.progress import track
from rich.table import Column, Table
from rich.text import Text

from common.cli import command
from common.commands import next_step
from common.console import err_console, note
from common.errors import CheckFailed, InvalidInput, NotFound
from common.files import legal_name, new_folder, require_absent
from common.words import number_of
from config.recipe import NO_CLASS, Recipe, read_recipe
from dataset.auditing.duplicates import connected_groups, similar_groups
from dataset.contact_sheet import printable
from dataset.photos import PARTS, TABLE, Photo, read_photos
from dataset.splitting.labels import different_labels
from dataset.splitting.search import FEW, assign
from dataset.splitting.sources import RULES, assign_sources, missing_sources
from dataset.tables import Row, read_rows, refused_by, write_rows


@command(epilog="Example: python -m dataset split runs/drawn --recipe shapes --train 0.7 --out runs/split")
@click.argument("place", type=click.Path(exists=True, path_type=Path))
@click.option("--recipe", "name", default="classroom", show_default=True, help="Recipe with the labels.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="A .tsv table, or a folder to create.  [default: runs/RECIPE/split.tsv]",
)
@click.option("--train", default=0.3, show_default=True, type=click.FloatRange(0, 1), help="Share for training.")
@click.option("--test", default=0.0, show_default=True, type=click.FloatRange(0, 1), help="Share for the final test.")
@click.option("--seed", default=0, show_default=True, help="The same seed and photos give the same split.")
@click.option("--few-sources", is_flag=True, help=f"Allow a part with fewer than {FEW} sources of a class.")
@click.option("--source-from", "rule", metavar="RULE", help=f"Where a photo's source stands: {RULES}.")
@click.option(
    "--audit",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Leave out what this table of dataset audit does not call ok.",
)
@click.option("--near/--no-near", default=True, show_default=True, help="Keep near duplicates together.")
def split(
    place: Path,
    name: str,
    out: Path | None,
    train: float,
    test: float,
    seed: int,
    few_sources: bool,
    rule: str | None,
    audit: Path | None,
    near: bool,
) -> None:
    """Split the photos of PLACE (label folders, or a table) into train, val and test."""
    if train <= 0 or train + test >= 1:
        raise InvalidInput(
            f"--train {train} and --test {test} leave a part without photos",
            "give a --train above 0 and a sum below 1: the rest is for validation",
        )
    recipe = read_recipe(name)
    out = out or Path("runs") / recipe.name / "split.tsv"
    if out.suffix in (".csv", ".txt", ".xlsx"):
        raise InvalidInput(f"--out {out}: tables are separated by tabs", f"give {out.with_suffix('.tsv')}, or a folder")
    if out.suffix != ".tsv":
        require_absent(out)
    for given in (place, audit, place / TABLE, place.parent / TABLE):
        if given and given.resolve() == out.resolve():
            raise InvalidInput(f"--out {out} would replace {given}, which this command reads", "give another --out")
    listed = read_photos(place, recipe.labels, aliases=recipe.aliases, outside=True)
    photos = usable([photo for photo in listed if not photo.is_copy], audit)
    if any(photo.label == len(recipe.labels) for photo in photos):
        recipe = recipe.model_copy(update={"labels": (*recipe.labels, NO_CLASS)})
    if rule:
        base = place if place.is_dir() else place.parent
        photos = assign_sources(photos, [photo.path.relative_to(base).as_posix() for photo in photos], rule)
    groups, frozen = group(photos, recipe, near), frozen_test(out, photos)
    test = max(test, len(frozen) / len(photos))
    if train + test >= 1:
        raise InvalidInput(f"{out} keeps {test:.0%} of the photos for the test", f"give a --train below {1 - test:.2f}")
    shares = (train, 1 - train - test, test)
    photos = with_groups(photos, groups)
    parts = divide(photos, groups, shares, recipe, seed, frozen)
    require_sources(parts, groups, recipe, few_sources)
    (write_table if out.suffix == ".tsv" else write_folders)(out, parts, recipe)
    print_shares(parts, recipe, shares)
    if warning := missing_sources(parts):
        fix = f"give --source-from, list the sources in {TABLE}, or let dataset groups propose them"
        err_console.print(f"[yellow]warning: {warning}: {fix}")
    elif alone := sum(not photo.row.get("source") for photo in parts):
        note(f"{alone} of {len(parts)} photos ({alone / len(parts):.0%}) name no source: each counts as its own")
    click.echo(f"{out}: {number_of(len(parts), 'photo')}")
    next_step("training", "train", name, "--data", out)


def usable(photos: Sequence[Photo], audit: Path | None) -> list[Photo]:
    """The photos that an audit does not refuse, all without one; says how many are left out.

    Raises:
        UserError: it refuses all, or lists none.
    """
    files = [photo.path.resolve() for photo in photos]
    refused = refused_by(audit, files)
    chosen = [photo for photo, file in zip(photos, files, strict=True) if file not in refused]
    if not chosen:
        raise NotFound(f"{audit} calls none of the {len(photos)} photos ok", "audit the folder again")
    if len(chosen) < len(photos):
        note(f"{len(photos) - len(chosen)} of {len(photos)} photos are left out: see why in {audit}")
    return chosen


def group(photos: Sequence[Photo], recipe: Recipe, near: bool) -> list[int]:
    """A group number for each photo: photos that share a source or look alike, directly or through others.

    A warning says if photos that look alike have different labels.
    """
    sources = {source: index for index, source in enumerate(dict.fromkeys(photo.source for photo in photos))}
    alike = similar_groups([photo.path for photo in photos], recipe.limits, "comparing") if near else range(len(photos))
    if warning := different_labels(photos, alike, recipe.labels):
        note(f"warning: {printable(warning)}")
    # Items are the sources, followed by the groups of photos that look alike; each photo links one of each.
    source_of = np.array([sources[photo.source] for photo in photos], np.int64)
    alike_of = np.array(alike, np.int64) + len(sources)
    groups = connected_groups(len(sources) + len(photos), source_of, alike_of)
    return [int(group) for group in groups[source_of]]


def divide(
    photos: Sequence[Photo],
    groups: Sequence[int],
    shares: Sequence[float],
    recipe: Recipe,
    seed: int,
    frozen: frozenset[Path] = frozenset(),
) -> list[Photo]:
    """Assign each photo to a part.

    Args:
        groups: a group number for each photo; photos of one group stay together.
        shares: of the parts in `PARTS`.
        frozen: photos (resolved paths) whose groups stay in the test part.

    Returns:
        the photos with `part` set.
    """
    position = {name: index for index, name in enumerate(dict.fromkeys(groups))}
    counts = np.zeros((len(position), len(recipe.labels)), np.int64)
    fixed: list[int | None] = [None] * len(position)
    for photo, name in zip(photos, groups, strict=True):
        counts[position[name], photo.label] += 1
        if photo.path.resolve() in frozen:
            fixed[position[name]] = PARTS.index("test")
    chosen = assign(counts, shares, seed, fixed)
    return [replace(photo, part=PARTS[chosen[position[name]]]) for photo, name in zip(photos, groups, strict=True)]


def with_groups(photos: Sequence[Photo], groups: Sequence[int]) -> list[Photo]:
    """Add a column `group` to photos whose sources are joined by near duplicates, for later steps to keep together."""
    sources: dict[int, dict[str, None]] = {}
    for photo, name in zip(photos, groups, strict=True):
        sources.setdefault(name, {})[photo.source] = None
    return [
        replace(photo, row={**photo.row, "group": next(iter(sources[name]))}) if len(sources[name]) > 1 else photo
        for photo, name in zip(photos, groups, strict=True)
    ]


def frozen_test(table: Path, photos: Sequence[Photo]) -> frozenset[Path]:
    """The test photos of an existing split.

    Raises:
        InvalidInput: some of them are not among the photos, so the table is for other photos.
    """
    if table.suffix != ".tsv" or not table.exists():
        return frozenset()
    rows = read_rows(table, ("path", "split"))
    frozen = {(table.parent / row["path"]).resolve() for row in rows if row["split"] == "test"}
    missing = frozen - {photo.path.resolve() for photo in photos}
    if missing:
        raise InvalidInput(
            f"{table} keeps {number_of(len(missing), 'photo for the test that is', 'photos for the test that are')} "
            f"missing here ({min(missing).name} ...)",
            "give another --out, or remove the table if they are no longer needed",
        )
    return frozenset(frozen)


def require_sources(photos: Sequence[Photo], groups: Sequence[int], recipe: Recipe, few: bool = False) -> None:
    """Require at least `FEW` sources of every class in every part.

    Args:
        few: only one source, and only where training requires photos: of every label in `train` and `val`.

    Raises:
        CheckFailed: naming part and class, those with the fewest sources first.
    """
    present = {(photo.part, photo.label, name) for photo, name in zip(photos, groups, strict=True)}
    sources = Counter((part, label) for part, label, _ in present)
    parts = [part for part in PARTS if part in PARTS[:2] or any(photo.part == part for photo in photos)]
    counted = [(sources[part, index], part, label) for part in parts for index, label in enumerate(recipe.labels)]
    for count, part, label in sorted(counted, key=lambda row: row[0]):
        problem = f"{part} would have {number_of(count, 'source')} of {label}"
        if not count and part in PARTS[:2] and label != NO_CLASS:
            raise CheckFailed(f"{problem}, so no model could be trained", "add photos of it from other sources")
        if count < FEW and not few:
            raise CheckFailed(f"{problem}, fewer than {FEW}", "add photos from other sources, or give --few-sources")


def write_table(out: Path, photos: Sequence[Photo], recipe: Recipe) -> None:
    """Write path, label, source and split of each photo, with paths relative to the table."""
    columns = list(dict.fromkeys(["path", "label", "source", "split", *(key for p in photos for key in p.row)]))
    base = out.resolve().parent
    write_rows(out, columns, [_row(photo, os.path.relpath(photo.path.resolve(), base), recipe) for photo in photos])


def write_folders(out: Path, photos: Sequence[Photo], recipe: Recipe) -> None:
    """Copy the photos to OUT/PART/LABEL/, with a SOURCES.tsv; OUT appears when it is complete.

    Raises:
        AlreadyExists, CannotWrite: as `new_folder`.
    """
    rows: list[Row] = []
    with new_folder(out) as folder:
        for part in dict.fromkeys(photo.part for photo in photos):
            for label in recipe.labels:
                (folder / part / label).mkdir(parents=True)
        for photo in track(photos, "copying", console=err_console, transient=True):
            name = _free(folder, Path(photo.part) / recipe.labels[photo.label] / photo.path.name)
            shutil.copy2(photo.path, folder / name)
            rows.append(_row(photo, name.as_posix(), recipe))
        columns = dict.fromkeys(["path", "source", *(key for row in rows for key in row)])
        write_rows(folder / TABLE, [name for name in columns if name not in ("label", "split")], rows)


def print_shares(photos: Sequence[Photo], recipe: Recipe, shares: Sequence[float]) -> None:
    """Print photos, sources and shares of each part: one row per class, so that many classes fit into 80 columns."""
    parts = [part for part in PARTS if any(photo.part == part for photo in photos)]
    requested = dict(zip(PARTS, shares, strict=True))
    table = Table(Column("class", overflow="fold"))
    for part in parts:
        table.add_column(f"{part} ({requested[part]:.0%})", no_wrap=True)
    for index, label in enumerate(recipe.labels):
        members = [photo for photo in photos if photo.label == index]
        table.add_row(Text(printable(label)), *(_share(members, part) for part in parts))
    table.add_section()
    table.add_row("photos", *(_share(photos, part) for part in parts))
    sources = ({photo.source for photo in photos if photo.part == part} for part in parts)
    table.add_row("sources", *(str(len(names)) for names in sources))
    err_console.print(table)


def _share(photos: Sequence[Photo], part: str) -> str:
    count = sum(photo.part == part for photo in photos)
    return f"{count} ({count / len(photos):.0%})"


def _row(photo: Photo, path: str, recipe: Recipe) -> Row:
    facts = {"label": recipe.labels[photo.label], "source": photo.row.get("source", ""), "split": photo.part}
    return {**photo.row, "path": path, **facts}


def _free(folder: Path, name: Path) -> Path:
    """The name, with a number if another photo of the part has the same name."""
    number, free = 1, name
    while (folder / free).exists():
        number += 1
        free = name.with_name(legal_name(f"{name.stem}-{number}{name.suffix}"))
    return free
