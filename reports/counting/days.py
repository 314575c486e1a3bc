"""Daily measures of scored photos: what the model answers, and what the photos look like.

`features` is the mean logit of the probability that a photo shows a class, which the graph computes from the distance
of the photo's features to those of class photos. `appearance` is how often each of the 144 bits of the perceptual hash
is set on a day, compared with all days before, as the mean square of the differences.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from reports.scoring.job import Job, read_parts

MEASURES = ("label", "unsure", "out_of_scope", "errors", "brightness", "size", "confidence", "features", "appearance")
COLUMNS = (
    "published_at", "label", "confidence", "unsure", "in_scope", "scope", "error_code", "bytes", "brightness", "phash",
)  # fmt: skip

FEW = 5
"""Photos of a day below which it is not measured."""

_SHARES = ("label", "unsure", "out_of_scope", "errors")
_MEDIANS = ("brightness", "size")
_BITS = 144
_MOST = 20_000  # photos that say what is usual when those of a single day are compared with it

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Days:
    """Measures by day, shape (days, measures), in the order of `MEASURES`; NaN: too few photos, or never measured.

    `label`, `unsure`, `out_of_scope` and `errors` are shares of 0 to 1; `brightness` is a median of 0 to 255; `size` a
    median of log2(bytes); `confidence` and `features` are means of logits. `sampling` holds the standard errors.
    """

    dates: list[date]
    photos: npt.NDArray[np.int64]
    values: Floats
    sampling: Floats


def measure_days(jobs: Sequence[Job], label: str) -> Days:
    """Measure the days of one or more complete jobs, in the order of their dates.

    Raises:
        InvalidInput: parts are missing or damaged.
    """
    return measure_table(rows_of(jobs), label)


def rows_of(jobs: Sequence[Job], more: Sequence[str] = ()) -> pa.Table:
    """The rows of one or more complete jobs, with `COLUMNS` and more. A photo of several jobs is there once.

    Raises:
        InvalidInput: parts are missing or damaged.
    """
    names = dict.fromkeys((*COLUMNS, *more, "photo_id", "sha256"))
    table = pa.concat_tables([read_parts(job, names) for job in jobs])
    return table.filter(_first_of_each(table)) if len(jobs) > 1 else table


def _first_of_each(table: pa.Table) -> pa.Array:
    """Whether no earlier row has the same id and bytes. What could not be read is not known to be the same."""
    seen: set[tuple[str, str]] = set()
    first = []
    for photo_id, sha256 in zip(table["photo_id"].to_pylist(), table["sha256"].to_pylist(), strict=True):
        first.append(not sha256 or (photo_id, sha256) not in seen)
        seen.add((photo_id, sha256))
    return pa.array(first)


def measure_table(table: pa.Table, label: str) -> Days:
    """As `measure_days`, from rows with `COLUMNS`."""
    day, first = _days_of(table)
    count = int(day.max()) + 1
    columns = columns_of(table, label)
    values, sampling = np.full((count, len(MEASURES)), np.nan), np.full((count, len(MEASURES)), np.nan)
    spread = _spreads(columns)
    photos = np.bincount(day, minlength=count)
    order = np.argsort(day, kind="stable")
    bounds = np.concatenate([[0], np.cumsum(photos)])
    for index in range(count):
        rows = order[bounds[index] : bounds[index + 1]]
        if len(rows) >= FEW:
            values[index], sampling[index] = _measures({name: columns[name][rows] for name in MEASURES[:-1]}, spread)
    _appearance(table["phash"].to_pylist(), [order[bounds[i] : bounds[i + 1]] for i in range(count)], values, sampling)
    dates = [date(1970, 1, 1) + timedelta(days=first + index) for index in range(count)]
    return Days(dates, photos, values, sampling)


def _days_of(table: pa.Table) -> tuple[npt.NDArray[np.int64], int]:
    """The day of each photo in China, counted from the first, and the first, counted from 1970-01-01."""
    seconds = np.asarray(table["published_at"].cast(pa.timestamp("s", "UTC")).cast(pa.int64()).to_numpy(), np.int64)
    day = (seconds + 8 * 3600) // 86400
    first = int(day.min())
    return day - first, first


def columns_of(table: pa.Table, label: str) -> dict[str, Floats]:
    """What each photo contributes to each measure but `appearance`, shape (photos,); NaN: nothing."""

    def numbers(column: pa.ChunkedArray) -> Floats:
        return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)

    answered = pc.equal(table["error_code"], "")
    scope = pc.if_else(answered, table["in_scope"], pa.scalar(None, pa.bool_()))
    return {
        "label": numbers(pc.equal(table["label"], label).cast(pa.int8())),
        "unsure": numbers(table["unsure"].cast(pa.int8())),
        "out_of_scope": 1 - numbers(scope.cast(pa.int8())),
        "errors": numbers(pc.invert(answered).cast(pa.int8())),
        "brightness": numbers(table["brightness"]),
        "size": np.log2(np.maximum(numbers(pc.fill_null(table["bytes"], 0)), 1)),
        "confidence": _logits(numbers(table["confidence"]), 0.5),
        "features": _logits(numbers(table["scope"]), 1e-5),
    }


def _logits(probability: Floats, least: float) -> Floats:
    cut = np.clip(probability, least, 1 - 1e-6)
    return np.log(cut / (1 - cut))


def hash_bits(hashes: Sequence[str | None]) -> Floats:
    """Perceptual hashes -> their bits, shape (photos, 144), float; NaN for a photo without a hash."""
    bits = np.full((len(hashes), _BITS), np.nan, np.float32)
    known = [index for index, value in enumerate(hashes) if value]
    if known:
        raw = np.frombuffer(bytes.fromhex("".join(hashes[index] or "" for index in known)), np.uint8)
        bits[known] = np.unpackbits(raw.reshape(len(known), -1), axis=1)
    return bits  # type: ignore[return-value]


def _measures(rows: dict[str, Floats], spread: Floats) -> tuple[Floats, Floats]:
    """The measures of a day, and their sampling errors from the spread of a single photo."""
    values, errors = np.full(len(MEASURES), np.nan), np.full(len(MEASURES), np.nan)
    for index, name in enumerate(MEASURES[:-1]):
        known = rows[name][~np.isnan(rows[name])]
        if len(known) >= FEW:
            values[index] = np.median(known) if name in _MEDIANS else known.mean()
            errors[index] = spread[index] / np.sqrt(len(known))
    return values, errors


def _spreads(columns: dict[str, Floats]) -> Floats:
    """Standard deviation of one photo's contribution to each measure, over all days."""
    found = np.full(len(MEASURES), np.nan)
    for index, name in enumerate(MEASURES[:-1]):
        known = columns[name][~np.isnan(columns[name])]
        if len(known):
            least = np.sqrt(1 / (len(known) + 2)) if name in _SHARES else 0.0  # a share of 0 has an error too
            found[index] = max(float(known.std()), least) * (1.2533 if name in _MEDIANS else 1.0)  # error of a median
    return found


def _appearance(
    hashes: Sequence[str | None], days: Sequence[npt.NDArray[np.int64]], values: Floats, sampling: Floats
) -> None:
    """Fill in how far the bits of each day are from those of all days before, above what few photos explain.

    Args:
        days: the photos of each day.
    """
    column = MEASURES.index("appearance")
    total, photos = np.zeros(_BITS), 0
    for index, day in enumerate(days):
        rows = hash_bits([hashes[photo] for photo in day if hashes[photo]])
        if len(rows) < FEW:
            continue
        if photos >= 2 * FEW:
            mean, usual = rows.mean(axis=0), total / photos
            noise = float((usual * (1 - usual)).mean()) * (1 / len(rows) + 1 / photos)
            values[index, column] = float(((mean - usual) ** 2).mean()) - noise
            sampling[index, column] = noise * np.sqrt(2 / _BITS) * 2  # bits are correlated: twice that of free ones
        total, photos = total + rows.sum(axis=0), photos + len(rows)


def farthest(table: pa.Table, label: str, day: int, measure: int, sign: float, most: int) -> list[int]:
    """The photos of a day that differ most in a measure, and of equals those that the model is least sure of.

    Args:
        table: rows with `COLUMNS`; `day` counts from its first.
        sign: +1 if the measure was above what is usual, -1 if it was below.

    Returns:
        at most `most` rows of the table.
    """
    days, _ = _days_of(table)
    columns = columns_of(table, label)
    far = columns.get(MEASURES[measure], np.full(len(days), np.nan))
    if MEASURES[measure] == "appearance":
        hashes, today, before = table["phash"].to_pylist(), np.flatnonzero(days == day), np.flatnonzero(days < day)
        usual = np.nanmean(hash_bits([hashes[row] for row in before[-_MOST:]]), axis=0)
        far[today], sign = ((hash_bits([hashes[row] for row in today]) - usual) ** 2).mean(axis=1), 1.0
    chosen = np.flatnonzero((days == day) & ~np.isnan(far))
    unsure = np.nan_to_num(columns["confidence"][chosen])
    return [int(row) for row in chosen[np.lexsort((unsure, -sign * far[chosen]))][:most]]
