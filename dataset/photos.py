"""Labelled photos, from folders or a table -> a list of photos with label, source and part.

    FOLDER/offline/0001.jpg        FOLDER/online/0002.png        one folder for each label
    FOLDER/train/offline/0001.jpg  FOLDER/val/online/0002.png    the same, split (`dataset split --folders`)
    FOLDER/labels.txt, trainval.txt, test.txt                    lists (dataset/lists.py)
    TABLE.tsv                                                    columns path, label; source, split where there are

SOURCES.tsv in a FOLDER (columns `path` and `source`, any others) says where a photo comes from; `group`, which
`dataset split` writes, joins sources that share a picture; `made_from` marks the copies of `dataset balance`. Photos of
one source share rooms, people and screens: they must not stand on both sides of a split. Without a source
every photo is its own. Paths are relative to the folder or the table. A recipe's aliases (`airplane: plane`) are
other names of a label's folder, and of the label in a table.
"""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import UserError
from dataset.files import files_of
from dataset.lists import is_listed, read_lists
from dataset.tables import Row, read_rows

TABLE = "SOURCES.tsv"
PARTS = ("train", "val", "test")
Aliases = Mapping[str, str]
"""Another name -> the label that it is read as."""
UNLABELLED = -1
"""The label index of a photo that nobody labelled."""


@dataclass(frozen=True)
class Photo:
    """A picture file, the index of its label, where it comes from, and its part of a split (`PARTS`, or none).

    `row` is what the table says of it besides.
    """

    path: Path
    label: int
    source: str
    part: str = ""
    row: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def is_copy(self) -> bool:
        """Whether `dataset balance` made it: to be trained on, never to be tested or split."""
        return bool(self.row.get("made_from"))


def read_photos(
    place: Path, labels: Sequence[str], where: Mapping[str, str] | None = None, aliases: Aliases | None = None
) -> list[Photo]:
    """List the photos of a folder or a table, label by label, in order of their paths.

    Args:
        place: a folder with one folder for each label (others are passed over), such a folder split
            into parts, or a table; rows of a table without a label are passed over.
        where: keep only photos whose row in the table, or in the folder's SOURCES.tsv, has these values.

    Raises:
        UserError: a label's folder is missing, a row has another label or no file, nothing is left, or
            `where` asks for a column that the table does not have.
    """
    rows_of = _rows_of_folder if place.is_dir() else _rows_of_table
    rows = rows_of(place, labels, where or {}, aliases or {})
    base = place if place.is_dir() else place.parent
    photos = [
        Photo(base / row["path"], index, row.get("group") or row.get("source") or row["path"], row["split"], row)
        for index, label in enumerate(labels)
        for row in rows
        if row["label"] == label and all(row.get(column) == value for column, value in (where or {}).items())
    ]
    _refuse_empty(photos, labels, place)
    return photos


def split_parts(folder: Path, labels: Sequence[str], aliases: Aliases | None = None) -> list[str]:
    """The parts of a split folder (`train` and others of `PARTS`), none for a folder of label folders."""
    if all(_folders_of(folder, label, aliases or {}) for label in labels) or not (folder / PARTS[0]).is_dir():
        return []
    return [part for part in PARTS if (folder / part).is_dir()]


def counts(photos: Iterable[Photo], labels: Sequence[str]) -> dict[str, int]:
    """How many photos each label has."""
    found = Counter(photo.label for photo in photos)
    return {label: found[index] for index, label in enumerate(labels)}


def folds(photos: Sequence[Photo], count: int, seed: int) -> list[list[int]]:
    """Split into folds by source, classes as evenly as sources allow.

    Returns:
        for each fold the indices of its photos, ascending; together each index once.

    Raises:
        UserError: fewer sources than folds.

    Source: scikit-learn's StratifiedGroupKFold.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    sources = [photo.source for photo in photos]
    if len(set(sources)) < count:
        raise UserError(f"{len(set(sources))} sources cannot make {count} folds: add sources or ask for fewer")
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    labels = [photo.label for photo in photos]
    return [sorted(map(int, test)) for _, test in splitter.split(sources, labels, sources)]


def hold_out(photos: Sequence[Photo], share: float, seed: int) -> tuple[list[Photo], list[Photo]]:
    """Split into training and held-out photos, no source on both sides.

    Returns:
        training, held out: the fold that comes nearest to `share` in every class.

    Raises:
        UserError: too few sources for both sides to have every class.
    """
    count = max(2, round(1 / share))
    labels = {photo.label for photo in photos}
    best: tuple[float, list[int]] | None = None
    for attempt in range(seed, seed + 8):
        for fold in folds(photos, count, attempt):
            parts = [sum(photos[i].label == label for i in fold) for label in labels]
            wholes = [sum(photo.label == label for photo in photos) for label in labels]
            if any(part in (0, whole) for part, whole in zip(parts, wholes, strict=True)):
                continue
            distance = max(abs(part / whole - share) for part, whole in zip(parts, wholes, strict=True))
            if best is None or distance < best[0]:
                best = (distance, fold)
    if best is None:
        raise UserError("a class has too few sources to be on both sides of a split: add photos from others")
    held = set(best[1])
    return [p for i, p in enumerate(photos) if i not in held], [p for i, p in enumerate(photos) if i in held]


def _folders_of(folder: Path, label: str, aliases: Aliases) -> list[Path]:
    """The folders of a label: its own, and those of its other names."""
    names = [label, *(other for other, meant in aliases.items() if meant == label)]
    return [folder / name for name in names if (folder / name).is_dir()]


def _rows_of_folder(folder: Path, labels: Sequence[str], where: Mapping[str, str], aliases: Aliases) -> list[Row]:
    table = _sources(folder, where)
    if is_listed(folder):
        return [{**table.get(row["path"], {}), **row} for row in read_lists(folder, labels)]
    rows = []
    for part in split_parts(folder, labels, aliases) or [""]:
        places = {label: _folders_of(folder / part, label, aliases) for label in labels}
        missing = [label for label, found in places.items() if not found]
        if missing:
            raise UserError(f"{folder / part}: no folder {', '.join(missing)}: one folder for each label is read")
        for label, found in places.items():
            for path in (path for place in found for path in files_of(place, links=True)):
                name = path.relative_to(folder).as_posix()
                rows.append({**table.get(name, {}), "path": name, "label": label, "split": part})
    return rows


def _rows_of_table(table: Path, labels: Sequence[str], where: Mapping[str, str], aliases: Aliases) -> list[Row]:
    rows: dict[str, Row] = {}
    for read in read_rows(table, ("path", "label", *where)):
        row = {"split": "", **{key: value for key, value in read.items() if key}}
        row["label"] = aliases.get(row["label"], row["label"])
        fault = _fault(row, rows.get(os.path.normpath(row["path"])), table, labels) if row["label"] else ""
        if fault:
            raise UserError(f"{table}: {row['path']}: {fault}")
        if row["label"]:
            rows[os.path.normpath(row["path"])] = row
    return sorted(rows.values(), key=lambda row: row["path"])


def _fault(row: Row, before: Row | None, table: Path, labels: Sequence[str]) -> str:
    if row["label"] not in labels:
        return f"{row['label']} is no label: legal are {', '.join(labels)}"
    if row["split"] not in ("", *PARTS):
        return f"split {row['split']}: legal are {', '.join(PARTS)}"
    if before and (before["label"], before["split"]) != (row["label"], row["split"]):
        return "two rows that differ: leave one"
    return "" if (table.parent / row["path"]).is_file() else "there is no such file: paths are relative to the table"


def _sources(folder: Path, where: Mapping[str, str]) -> dict[str, Row]:
    path = folder / TABLE
    if path.is_file():
        rows = read_rows(path, ("path", *where))
        return {row["path"]: {key: value for key, value in row.items() if key} for row in rows}
    if where:
        raise UserError(f"{path} is missing: without it photos cannot be chosen by {', '.join(where)}")
    return {}


def _refuse_empty(photos: list[Photo], labels: Sequence[str], place: Path) -> None:
    empty = [label for label, count in counts(photos, labels).items() if not count]
    if empty:
        raise UserError(f"{place}: no photo of {', '.join(empty)} is left to read")
