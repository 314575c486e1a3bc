"""Read labelled photos from folders, lists or a table: every photo has a label, a source and a part.

    FOLDER/offline/0001.jpg        FOLDER/online/0002.png        one folder per label
    FOLDER/train/offline/0001.jpg  FOLDER/val/online/0002.png    the same, split (`dataset split --out FOLDER`)
    FOLDER/no_class/0003.jpg                                     photos of none of the labels, if there are any
    FOLDER/labels.txt, trainval.txt, test.txt                    lists (dataset/tables.py)
    TABLE.tsv                                                    columns path and label; optional source and split

The optional FOLDER/SOURCES.tsv (columns `path`, `source` and any others) tells where each photo comes from. Its column
`group`, which `dataset split` writes, joins sources that share an image; `made_from` marks the copies that
`dataset balance` made. Photos of one source show the same rooms, people and screens, so all of them must be in the same
part of a split. A photo without a source counts as its own source. Paths are relative to the folder or the table. A
recipe's aliases (`airplane: plane`) are other names for a label, as a folder and in a table.
"""

import difflib
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from common.console import note
from common.errors import InvalidInput, NotFound
from common.words import instead_of, number_of
from config.recipe import NO_CLASS
from dataset.listing import existing, files_of, identity_in, listed_name, names_in, problem_of_path
from dataset.tables import Row, has_lists, read_lists, read_rows, refused_by, wrong_encoding

TABLE = "SOURCES.tsv"
LABELLED = "labels.tsv"
"""The table that `dataset label` writes into a folder."""
PARTS = ("train", "val", "test")
_OTHER_PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "eval"), "val"),
    **dict.fromkeys(("test", "testing", "tests"), "test"),
}
"""Names of other tools, in lower case -> ours."""
Aliases = Mapping[str, str]
"""Alias -> label."""
_OWN = ("path", "label", "split")
"""Columns that SOURCES.tsv never fills in a table of labels."""
UNLABELLED = -1
"""The label index of a photo without a label."""


@dataclass(frozen=True)
class Photo:
    """An image file with the index of its label, its source, and its part of a split (one of `PARTS`, or "").

    `row` holds all columns of its row in the table.
    """

    path: Path
    label: int
    source: str
    part: str = ""
    row: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def is_copy(self) -> bool:
        """Whether `dataset balance` made it. Copies are used for training only."""
        return bool(self.row.get("made_from"))


def read_photos(
    place: Path,
    labels: Sequence[str],
    where: Mapping[str, str] | None = None,
    aliases: Aliases | None = None,
    outside: bool = False,
    every_label: bool = True,
) -> list[Photo]:
    """List the photos of a folder or a table, label by label, sorted by path.

    Args:
        place: a folder with one folder per label (other folders are ignored), such a folder split into parts, a
            folder of lists, or a table (rows without a label are ignored).
        labels: the recipe's; a photo's label is its index here.
        where: keep only photos whose row, in the table or in the folder's SOURCES.tsv, has these values.
        aliases: other names of labels.
        outside: also list the photos of none of the labels, if there are any; their label is `len(labels)`.
        every_label: False: a table may have no photo of some labels.

    Raises:
        UserError: the folder of a label is missing, a row has an unknown label or no file, a label has no photos
            left, or a column of `where` does not exist.
    """
    rows_of = _rows_of_folder if place.is_dir() else _rows_of_table
    names = (*labels, NO_CLASS) if outside else labels
    rows = rows_of(place, labels, where or {}, aliases or {})
    base = place if place.is_dir() else place.parent
    photos = [
        Photo(base / row["path"], index, row.get("group") or row.get("source") or row["path"], row["split"], row)
        for index, label in enumerate(names)
        for row in rows
        if row["label"] == label and all(row.get(column) == value for column, value in (where or {}).items())
    ]
    if every_label:
        _require_every_label(photos, rows, labels, place, where or {})
    return photos


def is_labelled(folder: Path, labels: Sequence[str], aliases: Aliases | None = None) -> bool:
    """Whether a folder says what its photos show: folders of labels, parts of a split, or lists."""
    named = any(_folders_of(folder, label, aliases or {}) for label in labels)
    return named or has_lists(folder) or bool(split_parts(folder, labels, aliases))


def split_parts(folder: Path, labels: Sequence[str], aliases: Aliases | None = None) -> list[str]:
    """The parts of a split folder (`train` and others of `PARTS`); an empty list if it is not split."""
    if all(_folders_of(folder, label, aliases or {}) for label in labels) or not (folder / PARTS[0]).is_dir():
        return []
    return [part for part in PARTS if (folder / part).is_dir()]


def counts(photos: Iterable[Photo], labels: Sequence[str]) -> dict[str, int]:
    """The number of photos by label."""
    by_index = Counter(photo.label for photo in photos)
    return {label: by_index[index] for index, label in enumerate(labels)}


def _folders_of(folder: Path, label: str, aliases: Aliases) -> list[Path]:
    """The existing folders of a label, under its name and its aliases."""
    names = [label, *(alias for alias, target in aliases.items() if target == label)]
    return [path for name in names if (path := existing(folder / name)) and path.is_dir()]


def _rows_of_folder(folder: Path, labels: Sequence[str], where: Mapping[str, str], aliases: Aliases) -> list[Row]:
    sources = read_sources(folder, where)
    listed = read_lists(folder, labels) if has_lists(folder) else _listed(folder, labels, aliases)
    rows = [{**sources.get(listed_name(row["path"]), {}), **row} for row in listed]
    _note_unused_sources(folder, sources, rows)
    return rows


def _note_unused_sources(folder: Path, sources: Mapping[str, Row], rows: Sequence[Row]) -> None:
    """Rows of SOURCES.tsv that name no photo are harmless, unless photos lack a source because of it."""
    unused = sources.keys() - {listed_name(row["path"]) for row in rows}
    if unused and not all(row.get("source") for row in rows):
        count = f"{len(unused)} of {number_of(len(sources), 'row')}"
        note(f"{folder / TABLE}: {count} name no photo here, for example {min(unused)}")


def _listed(folder: Path, labels: Sequence[str], aliases: Aliases) -> list[Row]:
    """The photos in the folders of the labels, as rows of path, label and split."""
    rows, parts = [], split_parts(folder, labels, aliases)
    if parts:
        _refuse_misnamed_parts(folder)
        _note_ignored(folder, [folder / part for part in parts], labels)
    for part in parts or [""]:
        folders = {label: _folders_of(folder / part, label, aliases) for label in labels}
        missing = [label for label, places in folders.items() if not places]
        if missing:
            if not any(folders.values()):
                _refuse_misnamed_parts(folder)
            fix = _renaming(folder / part, missing) or _table_in(folder) or "create one folder per label"
            raise NotFound(f"{folder / part} has no folder {', '.join(missing)}", fix)
        folders[NO_CLASS] = _folders_of(folder / part, NO_CLASS, aliases)
        _note_ignored(folder / part, [place for places in folders.values() for place in places], labels)
        for label, places in folders.items():
            for path in (path for place in places for path in files_of(place, links=True)):
                name = path.relative_to(folder).as_posix()
                rows.append({"path": name, "label": label, "split": part})
    return rows


def _renaming(folder: Path, missing: Sequence[str]) -> str:
    """What to rename if the folders of labels are there under nearly the right names: `Offline ` for offline."""
    folders = {path.name.strip().casefold(): path.name for path in folder.iterdir() if path.is_dir()}
    near = {label: difflib.get_close_matches(label.casefold(), folders, 1, 0.8) for label in missing}
    return ", ".join(f"rename {folders[names[0]]!r} to {label!r}" for label, names in near.items() if names)


def _table_in(folder: Path) -> str:
    """What to give instead of a flat folder whose photos are labelled in a table."""
    return f"give {folder / LABELLED}" if (folder / LABELLED).is_file() else ""


def _note_ignored(folder: Path, used: Collection[Path], labels: Sequence[str]) -> None:
    """Say which folders are not read although they are named like a label or a part: `Disc` beside `disc`."""
    known = {name.casefold() for name in (*labels, NO_CLASS, *PARTS)}
    for path in sorted(path for path in folder.iterdir() if path.name.strip().casefold() in known):
        if path not in used and path.is_dir():
            note(f"{path} is ignored: move its photos to a folder that is read, or remove it")


def _refuse_misnamed_parts(folder: Path) -> None:
    """If `valid` of a split folder were ignored, only a part of the photos would be used, silently."""
    for path in sorted(path for path in folder.iterdir() if path.is_dir()):
        part = _OTHER_PARTS.get(path.name.strip().casefold())
        if part and path.name != part:
            raise InvalidInput(f"{path} is not a part of a split", f"rename it to {part}, or move it elsewhere")


def _rows_of_table(table: Path, labels: Sequence[str], where: Mapping[str, str], aliases: Aliases) -> list[Row]:
    sources = read_sources(table.parent)
    rows: dict[str, Row] = {}
    more = next(iter(sources.values()), {})
    columns = (column for column in where if column not in more)
    listed = [{"split": "", **row} for row in read_rows(table, ("path", "label", *columns))]
    for row in listed:
        label = row["label"].strip()
        row["label"] = aliases.get(label, label)
    _refuse_unknown_labels(listed, table, labels)
    identity = identity_in(table.parent)
    for row in _present([row for row in listed if row["label"]], table, identity):
        key = identity(row["path"])
        _check(row, rows.get(key), table)
        rows[key] = _with_sources(row, sources)
    return sorted(rows.values(), key=lambda row: row["path"])


def _present(rows: Sequence[Row], table: Path, identity: Callable[[str], str]) -> list[Row]:
    """The rows whose photo is there, under its name on disk, without those that `dataset audit` moved away.

    Raises:
        InvalidInput: another photo is missing.
    """
    base, root, names = table.parent, os.path.realpath(table.parent), cache(names_in)
    found, lost = [], []
    for row in rows:
        path = row["path"]
        name = os.path.relpath(identity(path), root) if path.startswith("/") else path
        if file := existing(base / name, names):
            row["path"] = file.relative_to(base).as_posix()
            found.append(row)
        else:
            lost.append(row)
    if lost:
        _require_moved(lost, table, identity)
    return found


def _require_moved(lost: Sequence[Row], table: Path, identity: Callable[[str], str]) -> None:
    """Require that `dataset audit` refused all lost photos, and say how many are left out."""
    audit = table.parent / "audit.tsv"
    moved = refused_by(audit) if audit.is_file() else ()
    if missing := [row["path"] for row in lost if Path(identity(row["path"])) not in moved]:
        path = missing[0]
        problem, fix = problem_of_path(table.parent / path, path)
        fix = wrong_encoding(path) or fix or f"paths are relative to {table.parent}"
        others = (
            f" (and {number_of(len(missing) - 1, 'other row has', 'other rows have')} no file)" if missing[1:] else ""
        )
        raise InvalidInput(f"{table}: {path}: {problem}{others}", fix)
    are = number_of(len(lost), "photo is", "photos are")
    note(f"{table}: {are} left out, because {audit} refuses them and their files have been moved away")


def _with_sources(row: Row, sources: Mapping[str, Row]) -> Row:
    """The row with the columns of SOURCES.tsv that it leaves empty."""
    facts = sources.get(listed_name(row["path"]), {})
    return {**row, **{name: value for name, value in facts.items() if name not in _OWN and not row.get(name)}}


def _refuse_unknown_labels(rows: Sequence[Row], table: Path, labels: Sequence[str]) -> None:
    unknown = [row for row in rows if row["label"] not in ("", *labels, NO_CLASS)]
    if not unknown:
        return
    count = Counter(row["label"] for row in unknown)
    names = ", ".join(f"{label} ({number} rows)" if number > 1 else label for label, number in count.most_common(5))
    more = f" and {number_of(len(count) - 5, 'other')}" if len(count) > 5 else ""
    use = f"use one of {', '.join((*labels, NO_CLASS))}, or leave the label empty to leave a photo out (the column "
    fix = wrong_encoding("".join(count)) or f"{use}set_aside may then say broken or unclear)"
    raise InvalidInput(f"{table}: {unknown[0]['path']}: unknown label {names}{more}", fix)


def _check(row: Row, before: Row | None, table: Path) -> None:
    problem = fix = ""
    if row["split"] not in ("", *PARTS):
        problem, fix = f"unknown split {row['split']}", f"use one of {', '.join(PARTS)}"
    elif before and (before["label"], before["split"]) != (row["label"], row["split"]):
        problem, fix = "two rows differ", "delete one"
    else:
        problem, fix = problem_of_path(table.parent / row["path"], row["path"])
    if problem:
        raise InvalidInput(f"{table}: {row['path']}: {problem}", fix)


def read_sources(folder: Path, where: Collection[str] = ()) -> dict[str, Row]:
    """The rows of a folder's SOURCES.tsv by `dataset.listing.listed_name` of their path; none without the file.

    Args:
        where: columns that it must have.

    Raises:
        UserError: it cannot be read, lacks a column, or a column is required and there is no file.
    """
    path = folder / TABLE
    if path.is_file():
        return {listed_name(row["path"]): row for row in read_rows(path, ("path", *where))}
    if where:
        raise NotFound(f"photos cannot be selected by {', '.join(where)}, because {path} does not exist")
    return {}


def _require_every_label(
    photos: list[Photo], rows: Sequence[Row], labels: Sequence[str], place: Path, where: Mapping[str, str]
) -> None:
    empty = [label for label, count in counts(photos, labels).items() if not count]
    if not empty:
        return
    fix = "; ".join(
        instead_of(value, {row[column] for row in rows if row.get(column)}, f"the column {column}")
        for column, value in where.items()
    )
    conditions = "".join(f" with --where {column}={value}" for column, value in where.items())
    raise NotFound(f"{place} has no usable photo of {', '.join(empty)}{conditions}", fix)
