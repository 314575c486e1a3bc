"""The scored photos as arrays, and which of them count.

A photo that is posted on five sites counts once: of the near duplicates that an institution has in a week, only the
first does. Weeks are ISO weeks (from Monday) in Asia/Shanghai.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dataset.auditing.duplicates import THRESHOLD, distances, near_groups, packed_words
from reports.manifest.regions import REGIONS, UNKNOWN
from reports.scoring.job import Job, read_parts

REGION_CODES = (*REGIONS, UNKNOWN)
"""All regions in the order of their index in `Photos.region`; the last is unknown."""

COLUMNS = (
    "institution", "region", "published_at", "sha256", "phash", "label", "unsure", "in_scope", "error_code",
    "model_digest",
)  # fmt: skip

_CHINA_SECONDS = 8 * 3600
_THURSDAY = 3  # 1970-01-01 was one: the Monday of its week is day -3

Indices = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Photos:
    """All rows of a job, shape (photos,) each.

    Attributes:
        institution: index into `institutions`, which has (name, region's index).
        region: index into `REGION_CODES`.
        week: from 0, the week of `monday`.
        positive: answered with the label whose share is reported.
        error, outside, unsure: no answer; out of scope; below the recipe's confidence.
        duplicate: a near duplicate of an earlier photo of this institution and week.
    """

    institutions: list[tuple[str, int]]
    monday: date
    weeks: int
    institution: Indices
    region: Indices
    week: Indices
    positive: Flags
    error: Flags
    outside: Flags
    unsure: Flags
    duplicate: Flags
    scope_known: bool
    codes: dict[str, int]

    @property
    def counted(self) -> Flags:
        """The photos that a share is computed from."""
        return ~(self.error | self.outside | self.duplicate)

    @property
    def left_out(self) -> Flags:
        """The photos out of scope, without near duplicates."""
        return self.outside & ~(self.error | self.duplicate)

    def week_starts(self) -> list[date]:
        """The Monday of each week."""
        return [self.monday + timedelta(days=7 * week) for week in range(self.weeks)]


def read_photos(job: Job, label: str) -> Photos:
    """Read a complete job.

    Args:
        label: the one whose share is reported.

    Raises:
        InvalidInput: parts are missing or damaged.
    """
    table = read_parts(job, COLUMNS)
    region = _indices(table["region"], REGION_CODES)
    institutions, institution = _institutions(table, region)
    weeks = weeks_of(_seconds(table["published_at"]))
    first = int(weeks.min())
    error = _flags(pc.not_equal(table["error_code"], ""))
    duplicate = find_duplicates(institution, weeks, error, table["phash"].to_pylist(), table["sha256"].to_pylist())
    return Photos(
        institutions=institutions,
        monday=monday_of(first),
        weeks=int(weeks.max()) - first + 1,
        institution=institution,
        region=region,
        week=weeks - first,
        positive=_flags(pc.equal(table["label"], label)),
        error=error,
        outside=_flags(pc.invert(pc.fill_null(table["in_scope"], True))),
        unsure=_flags(table["unsure"]),
        duplicate=duplicate,
        scope_known=table["in_scope"].null_count < len(table) - int(error.sum()),
        codes={row["values"]: row["counts"] for row in table["error_code"].value_counts().to_pylist() if row["values"]},
    )


def weeks_of(seconds: Indices) -> Indices:
    """Unix seconds -> number of the ISO week in Asia/Shanghai since that of 1970-01-01."""
    return ((seconds + _CHINA_SECONDS) // 86400 + _THURSDAY) // 7


def monday_of(week: int) -> date:
    """The first day of a week of `weeks_of`."""
    return date(1970, 1, 1) + timedelta(days=7 * week - _THURSDAY)


def week_name(monday: date) -> str:
    """ISO name of a week, for example 2022-W11."""
    year, week, _ = monday.isocalendar()
    return f"{year}-W{week:02d}"


def find_duplicates(
    institution: Indices, week: Indices, left_out: Flags, hashes: Sequence[str | None], digests: Sequence[str | None]
) -> Flags:
    """Mark every photo but the first of those that look alike, or have the same bytes, in an institution and week.

    Args:
        left_out: photos without an answer, which are neither duplicates nor originals.
        hashes: perceptual hashes; empty or None for a blank image.
    """
    result = np.zeros(len(week), np.bool_)
    kept = np.flatnonzero(~left_out)
    order = kept[np.lexsort((kept, week[kept], institution[kept]))]
    changes = np.flatnonzero((np.diff(institution[order]) != 0) | (np.diff(week[order]) != 0)) + 1
    for group in np.split(order, changes):
        if len(group) > 1:
            result[group] = _later([hashes[index] or "" for index in group], [digests[index] or "" for index in group])
    return result


def _later(hashes: list[str], digests: list[str]) -> list[bool]:
    names = [value or f"blank {digest}" for value, digest in zip(hashes, digests, strict=True)]
    first: dict[str, int] = {}
    exact = [first.setdefault(name, index) != index for index, name in enumerate(names)]
    known = [index for index, value in enumerate(hashes) if value and not exact[index]]
    if len(known) < 2:
        return exact
    words = packed_words([hashes[index] for index in known])
    if int((distances(words, words) <= THRESHOLD).sum()) == len(known):  # each is near to itself only
        return exact
    groups = near_groups([hashes[index] for index in known])
    for place, index in enumerate(known):
        exact[index] = groups[place] != place
    return exact


def _institutions(table: pa.Table, region: Indices) -> tuple[list[tuple[str, int]], Indices]:
    names = table["institution"].combine_chunks().dictionary_encode()
    pairs = np.asarray(names.indices, np.int64) * len(REGION_CODES) + region
    unique, inverse = np.unique(pairs, return_inverse=True)
    texts = names.dictionary.to_pylist()
    institutions = [(texts[int(pair) // len(REGION_CODES)], int(pair) % len(REGION_CODES)) for pair in unique]
    return institutions, np.asarray(inverse, np.int64)


def _indices(column: pa.ChunkedArray, values: Sequence[str]) -> Indices:
    return np.asarray(pc.index_in(column, pa.array(values)).to_numpy(), np.int64)


def _seconds(column: pa.ChunkedArray) -> Indices:
    return np.asarray(column.cast(pa.timestamp("s", "UTC")).cast(pa.int64()).to_numpy(), np.int64)


def _flags(column: pa.ChunkedArray) -> Flags:
    return np.asarray(pc.fill_null(column, False).to_numpy(zero_copy_only=False), np.bool_)
