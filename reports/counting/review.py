"""The reviewed sample: which photos a person looks at, and what their labels say about the classifier.

The sample is drawn within each answer of the classifier: a sixth from the photos out of scope, of the others half from
those with the reported label, and within an answer evenly over regions and weeks. So few photos suffice when the label
is rare, and the weights are known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.errors import InvalidInput
from common.words import number_of
from config.recipe import NO_CLASS
from reports.counting.photos import Photos
from reports.counting.sampled import OTHER, OUTSIDE, POSITIVE, SAMPLE, read_sample, require_origin, rows_of
from reports.scoring.job import Job
from reports.shares.correct import Outside, Stratum

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Reviewed:
    """The strata, how many photos were drawn and have no label yet, and labels that are none of the model's.

    `drawn`, `unlabelled` and `neither` do not contain the photos out of scope; None: none of those was drawn.
    `notes` are for the person who gave the labels.
    """

    strata: tuple[Stratum, ...]
    outside: Outside | None
    drawn: int
    unlabelled: int
    neither: int
    notes: tuple[str, ...] = ()


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


def read_review(folder: Path, table: Path | None, job: Job, label: str) -> Reviewed:
    """Read the labels of a sample.

    Args:
        folder: of `reports sample`.
        table: has `label`, and `photo_id`, `path` or `file`; None: what `dataset label` wrote in the folder.
        job: the scores that the sample was drawn from.
        label: the one whose share is reported.

    Raises:
        NotFound, InvalidInput: a table is missing, cannot be read, or has a row that is wrong; or the sample was drawn
            from other scores or for another label.
    """
    known = require_origin(folder, job, label)
    sample = read_sample(folder)
    table = table or folder / "photos" / "labels.tsv"
    rows = rows_of(table, ("label",))
    files = _files(table, rows, folder, sample)
    given = _labels(table, rows, files, job.labels)
    found = {
        stratum: [given.get(row["file"], "") for row in sample if row["positive"] == stratum]
        for stratum in (POSITIVE, OTHER, OUTSIDE)
    }
    sizes = {row["positive"]: int(row["photos"]) for row in sample}
    strata = tuple(_stratum(name, sizes, found[name], label, job.labels) for name in (POSITIVE, OTHER))
    inside = [*found[POSITIVE], *found[OTHER]]
    neither = sum(bool(name) and name not in job.labels for name in inside)
    notes = [] if known else [f"{folder} does not say what it was drawn from: make sure that it is {job.folder}"]
    if ignored := [number for (number, _), file in zip(rows, files, strict=True) if file is None]:
        count = f"{number_of(len(ignored), 'row')} of photos that are not in the sample"
        notes.append(f"{table}: ignored {count}, for example row {ignored[0]}")
    outside = _outside(found[OUTSIDE], label, job.labels)
    return Reviewed(strata, outside, len(inside), inside.count(""), neither, tuple(notes))


def _stratum(name: str, sizes: Mapping[str, int], found: Sequence[str], label: str, labels: Sequence[str]) -> Stratum:
    valid = [one for one in found if one in labels]
    right = sum((one == label) == (name == POSITIVE) for one in valid)
    return Stratum(name == POSITIVE, sizes.get(name, 0), len(valid), right)


def _outside(found: Sequence[str], label: str, labels: Sequence[str]) -> Outside | None:
    known = [name for name in found if name]
    counts = known.count(label), sum(name in labels and name != label for name in known)
    return Outside(*counts, len(known) - sum(counts)) if found else None


def _labels(
    table: Path, rows: Sequence[tuple[int, Mapping[str, str]]], files: Sequence[str | None], labels: Sequence[str]
) -> dict[str, str]:
    """File of the sample -> label, or the reason for which it was set aside.

    Raises:
        InvalidInput: a label is unknown, or two rows contradict each other.
    """
    found: dict[str, tuple[str, int]] = {}
    for (number, cells), file in zip(rows, files, strict=True):
        if file is None or not (label := cells["label"] or cells.get("set_aside", "")):
            continue
        if cells["label"] not in ("", NO_CLASS, *labels):
            legal = f"{', '.join(labels)}, or {NO_CLASS} if it shows none of them"
            raise InvalidInput(f"{table}, row {number}: unknown label {label!r}", f"write {legal}")
        former, first = found.setdefault(file, (label, number))
        if former != label:
            was = f"{file} has the label {label}, but {former} in row {first}"
            raise InvalidInput(f"{table}, row {number}: {was}", "delete one of the two rows")
    return {file: label for file, (label, _) in found.items()}


def _files(
    table: Path, rows: Sequence[tuple[int, Mapping[str, str]]], folder: Path, sample: Sequence[Mapping[str, str]]
) -> list[str | None]:
    """The file of the sample that each row is about, by `photo_id` if the table has it; None: another photo.

    Raises:
        InvalidInput: the table has none of the columns, or no row is about a photo of the sample.
    """
    columns = rows[0][1] if rows else {"file": ""}
    if not {"photo_id", "path", "file"} & set(columns):
        raise InvalidInput(f"{table} has no column photo_id, path or file", f"its columns are {', '.join(columns)}")
    if "photo_id" in columns:
        by_id = {row["photo_id"]: row["file"] for row in sample}
        files = [by_id.get(cells["photo_id"]) for _, cells in rows]
    else:
        paths = [Path((cells.get("path") or cells.get("file") or "").replace("\\", "/")) for _, cells in rows]
        files = _by_path(paths, table.parent, folder / "photos", [row["file"] for row in sample])
    if rows and not any(files):
        raise InvalidInput(f"{table}: no row is of a photo of {folder}", f"name them as {folder / SAMPLE} does")
    return files


def _by_path(paths: Sequence[Path], near: Path, photos: Path, files: Sequence[str]) -> list[str | None]:
    """A path is a name in the folder of the photos, or relative to the table: other folders have files of that name."""
    by_path = {photos.resolve() / file: file for file in files}
    places = [photos if path.parent == Path() else near / path.parent for path in paths]
    return [by_path.get(place.resolve() / path.name) for place, path in zip(places, paths, strict=True)]
