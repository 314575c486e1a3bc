"""A folder of class folders -> a list of photos with label and source.

    FOLDER/offline/0001.jpg  FOLDER/online/0002.png  FOLDER/SOURCES.tsv (optional)

SOURCES.tsv (tab-separated, columns `path` and `source`, any others) says where a
photo comes from. Photos of one source share rooms, people and screens: they must
not stand on both sides of a split. Without the table every photo is its own source.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

TABLE = "SOURCES.tsv"


@dataclass(frozen=True)
class Photo:
    """A picture file, the index of its label, and where it comes from."""

    path: Path
    label: int
    source: str


def read_photos(folder: Path, labels: Sequence[str], where: Mapping[str, str] | None = None) -> list[Photo]:
    """List the photos of a folder, in order of their paths.

    Args:
        folder: holds one folder for each label; others are passed over.
        where: keep only photos whose row in SOURCES.tsv has these values.

    Raises:
        click.ClickException: a label's folder is missing, nothing is left, or `where`
            asks for a column that the table does not have.
    """
    missing = [label for label in labels if not (folder / label).is_dir()]
    if missing:
        raise click.ClickException(f"{folder}: no folder {', '.join(missing)}: one folder for each label is read")
    table = _read_table(folder, where or {})
    photos = []
    for index, label in enumerate(labels):
        for path in sorted(path for path in (folder / label).rglob("*") if path.is_file()):
            row = table.get(path.relative_to(folder).as_posix(), {})
            if all(row.get(column) == value for column, value in (where or {}).items()):
                photos.append(Photo(path, index, row.get("source") or path.relative_to(folder).as_posix()))
    _refuse_empty(photos, labels, folder)
    return photos


def counts(photos: Iterable[Photo], labels: Sequence[str]) -> dict[str, int]:
    """How many photos each label has."""
    found = Counter(photo.label for photo in photos)
    return {label: found[index] for index, label in enumerate(labels)}


def folds(photos: Sequence[Photo], count: int, seed: int) -> list[list[int]]:
    """Split into folds by source, classes as evenly as sources allow.

    Returns:
        for each fold the indices of its photos, ascending; together each index once.

    Raises:
        click.ClickException: fewer sources than folds.

    Source: scikit-learn's StratifiedGroupKFold.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    sources = [photo.source for photo in photos]
    if len(set(sources)) < count:
        raise click.ClickException(
            f"{len(set(sources))} sources cannot make {count} folds: add sources or ask for fewer"
        )
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    labels = [photo.label for photo in photos]
    return [sorted(map(int, test)) for _, test in splitter.split(sources, labels, sources)]


def hold_out(photos: Sequence[Photo], share: float, seed: int) -> tuple[list[Photo], list[Photo]]:
    """Split into training and held-out photos, no source on both sides.

    Returns:
        training, held out: the fold that comes nearest to `share` in every class.

    Raises:
        click.ClickException: too few sources for both sides to have every class.
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
        raise click.ClickException("a class has too few sources to be on both sides of a split: add photos from others")
    held = set(best[1])
    return [p for i, p in enumerate(photos) if i not in held], [p for i, p in enumerate(photos) if i in held]


def _read_table(folder: Path, where: Mapping[str, str]) -> dict[str, dict[str, str]]:
    path = folder / TABLE
    if not path.is_file():
        if where:
            raise click.ClickException(f"{path} is missing: without it photos cannot be chosen by {', '.join(where)}")
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t")
        columns = reader.fieldnames or []
        unknown = [column for column in ("path", *where) if column not in columns]
        if unknown:
            raise click.ClickException(f"{path}: no column {', '.join(unknown)}: it has {', '.join(columns)}")
        return {row["path"]: row for row in reader}


def _refuse_empty(photos: list[Photo], labels: Sequence[str], folder: Path) -> None:
    empty = [label for label, count in counts(photos, labels).items() if not count]
    if empty:
        raise click.ClickException(f"{folder}: no photo of {', '.join(empty)} is left to read")
