"""The reviewed sample: which photos a person looks at, and what their labels say about the classifier.

The sample is drawn within each answer of the classifier, half from the photos with the reported label, and within an
answer evenly over regions and weeks. So few photos suffice when the label is rare, and the weights are known.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.errors import InvalidInput, NotFound
from reports.counting.photos import Photos
from reports.manifest.tables import open_table
from reports.shares.correct import Stratum

SAMPLE = "sample.csv"
"""The table of the drawn photos, in the folder of the sample."""

COLUMNS = ("file", "photo_id", "positive", "photos", "label", "confidence")

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Reviewed:
    """The strata, how many photos were drawn and have no label yet, and labels that are none of the model's."""

    strata: tuple[Stratum, ...]
    drawn: int
    unlabelled: int
    neither: int


def draw_sample(photos: Photos, count: int, seed: int = 0) -> tuple[Indices, Indices]:
    """Draw photos for review, of those that count.

    Returns:
        row numbers of photos with the reported label, and of others, each in random order; together at most `count`.
    """
    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(photos.counted & (photos.positive == positive)) for positive in (True, False)]
    half = count // 2
    sizes = [
        min(len(groups[0]), max(half, count - len(groups[1]))),
        min(len(groups[1]), max(count - half, count - len(groups[0]))),
    ]
    first, second = (_spread(photos, group, size, rng) for group, size in zip(groups, sizes, strict=True))
    return first, second


def _spread(photos: Photos, group: Indices, size: int, rng: np.random.Generator) -> Indices:
    """A systematic sample along region and week, with a random start: each photo has the same chance."""
    if not size:
        return group[:0]
    order = group[np.lexsort((rng.random(len(group)), photos.week[group], photos.region[group]))]
    step = len(order) / size
    chosen = order[((rng.random() + np.arange(size)) * step).astype(np.int64)]
    return np.asarray(rng.permutation(chosen), np.int64)


def read_review(folder: Path, table: Path | None, label: str, labels: Sequence[str]) -> Reviewed:
    """Read the labels of a sample.

    Args:
        folder: of `reports sample`.
        table: has `label`, and `photo_id` or `path`; None: what `dataset label` wrote in the folder.
        label: the one whose share is reported; `labels`: all of the model.

    Raises:
        NotFound, InvalidInput: a table is missing or cannot be read.
    """
    sample = [cells for _, cells in rows_of(folder / SAMPLE, COLUMNS[:4])]
    given = _labels(table or folder / "photos" / "labels.tsv")
    strata, unlabelled, neither = [], 0, 0
    for positive in ("1", "0"):
        rows = [row for row in sample if row["positive"] == positive]
        found = [given.get(row["photo_id"]) or given.get(row["file"]) or "" for row in rows]
        known = Counter(found)
        unlabelled += known[""]
        valid = [name for name in found if name in labels]
        neither += len(rows) - known[""] - len(valid)
        right = sum((name == label) == (positive == "1") for name in valid)
        photos = int(rows[0]["photos"]) if rows else 0
        strata.append(Stratum(positive == "1", photos, len(valid), right))
    return Reviewed(tuple(strata), len(sample), unlabelled, neither)


def _labels(table: Path) -> Mapping[str, str]:
    """photo_id, or name of the file -> label; a photo set aside has its reason instead."""
    found = {}
    for _, cells in rows_of(table, ("label",)):
        label = cells.get("label") or cells.get("set_aside") or ""
        for column in ("photo_id", "path", "file"):
            if cells.get(column):
                found[cells[column] if column == "photo_id" else Path(cells[column]).name] = label
    return found


def rows_of(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """The rows of a table that must have some columns, with their numbers.

    Raises:
        NotFound, InvalidInput: there is no such table, or a column is missing.
    """
    if not path.is_file():
        raise NotFound(f"{path}: there is no such file", "label the sample, or give the table with --labels")
    source = open_table(path)
    if missing := [name for name in columns if name not in source.columns]:
        raise InvalidInput(f"{path} has no column {', '.join(missing)}", f"its columns are {', '.join(source.columns)}")
    return list(source.rows)
