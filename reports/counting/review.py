"""The reviewed sample: which photos a person looks at, and what their labels say about the classifier.

The sample is drawn within each answer of the classifier: a sixth from the photos out of scope, of the others half from
those with the reported label, and within an answer evenly over regions and weeks. So few photos suffice when the label
is rare, and the weights are known.
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
from reports.shares.correct import Outside, Stratum

SAMPLE = "sample.csv"
"""The table of the drawn photos, in the folder of the sample."""

POSITIVE, OTHER, OUTSIDE = "1", "0", "out_of_scope"
"""Values of the column `positive`: answered with the reported label, with another one, out of scope."""

COLUMNS = ("file", "photo_id", "positive", "photos", "label", "confidence")

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Reviewed:
    """The strata, how many photos were drawn and have no label yet, and labels that are none of the model's.

    `drawn`, `unlabelled` and `neither` do not contain the photos out of scope; None: none of those was drawn.
    """

    strata: tuple[Stratum, ...]
    outside: Outside | None
    drawn: int
    unlabelled: int
    neither: int


def draw_sample(photos: Photos, count: int, outside: bool = True, seed: int = 0) -> dict[str, Indices]:
    """Draw photos for review.

    Args:
        outside: whether a sixth of them are photos out of scope.

    Returns:
        stratum -> row numbers in random order; together at most `count`.
    """
    rng = np.random.default_rng(seed)
    members = members_of(photos)
    sizes = {OUTSIDE: min(len(members[OUTSIDE]), count // 6) if outside else 0}
    rest = count - sizes[OUTSIDE]
    half, positive, other = rest // 2, len(members[POSITIVE]), len(members[OTHER])
    sizes[POSITIVE] = min(positive, max(half, rest - other))
    sizes[OTHER] = min(other, max(rest - half, rest - positive))
    return {name: _spread(photos, members[name], sizes[name], rng) for name in (POSITIVE, OTHER, OUTSIDE)}


def members_of(photos: Photos) -> dict[str, Indices]:
    """Stratum -> all its photos."""
    chosen = {
        POSITIVE: photos.counted & photos.positive,
        OTHER: photos.counted & ~photos.positive,
        OUTSIDE: photos.left_out,
    }
    return {name: np.flatnonzero(flags) for name, flags in chosen.items()}


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
    for positive in (POSITIVE, OTHER):
        rows = [row for row in sample if row["positive"] == positive]
        found = [_label_of(row, given) for row in rows]
        known = Counter(found)
        unlabelled += known[""]
        valid = [name for name in found if name in labels]
        neither += len(rows) - known[""] - len(valid)
        right = sum((name == label) == (positive == POSITIVE) for name in valid)
        photos = int(rows[0]["photos"]) if rows else 0
        strata.append(Stratum(positive == POSITIVE, photos, len(valid), right))
    beyond = [_label_of(row, given) for row in sample if row["positive"] == OUTSIDE]
    return Reviewed(tuple(strata), _outside(beyond, label, labels), len(sample) - len(beyond), unlabelled, neither)


def _outside(found: Sequence[str], label: str, labels: Sequence[str]) -> Outside | None:
    known = [name for name in found if name]
    counts = known.count(label), sum(name in labels and name != label for name in known)
    return Outside(*counts, len(known) - sum(counts)) if found else None


def _label_of(row: Mapping[str, str], given: Mapping[str, str]) -> str:
    return given.get(row["photo_id"]) or given.get(row["file"]) or ""


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
