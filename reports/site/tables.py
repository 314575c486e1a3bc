"""The tables of the report. The page shows these very values, and the CSV files hold them.

Shares are percent with one decimal. An empty cell means that it cannot be said; `note` says why.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from reports.counting.counts import Counted, by_institution, by_region
from reports.counting.photos import REGION_CODES, Photos, week_name
from reports.manifest.regions import REGIONS
from reports.shares.changes import Move, When, find_move
from reports.shares.correct import MIN_PHOTOS, Accuracy, Share, corrected_share, raw_share

Row = dict[str, Any]

ALL = "CN"
"""The region code of the whole country."""
MOST = 0.8
"""Share of a region's institutions that is called "most"."""
FEW = 5
"""Institutions with fewer photos are one row, `others`."""

SHARE_COLUMNS = (
    "region", "region_zh", "region_en", "week", "monday", "photos", "errors", "out_of_scope", "duplicates", "counted",
    "unsure", "positive", "raw", "raw_low", "raw_high", "corrected", "low", "high", "by_institution", "note",
)  # fmt: skip
INSTITUTION_COLUMNS = (
    "institution", "region", "region_zh", "region_en", "photos", "counted", "positive", "state", "probability", "moved",
    "moved_from", "moved_to", "back", "back_from", "back_to",
)  # fmt: skip
REGION_COLUMNS = (
    "region", "region_zh", "region_en", "institutions", "moved", "returned", "first", "half", "most", "days_to_half",
    "days_to_most", "median_days",
)  # fmt: skip


@dataclass(frozen=True)
class Tables:
    """The rows of shares.csv, institutions.csv and regions.csv."""

    shares: list[Row]
    institutions: list[Row]
    regions: list[Row]


def make_tables(photos: Photos, accuracy: Accuracy | None) -> Tables:
    """Compute all tables.

    Args:
        accuracy: of the classifier in this period; None: nothing was reviewed, and shares stay uncorrected.
    """
    regions, institutions = by_region(photos), by_institution(photos)
    mondays = photos.week_starts()
    moves = [find_move(institutions.positive[i], institutions.counted[i]) for i in range(len(photos.institutions))]
    return Tables(
        _shares(photos, regions, institutions, accuracy, mondays),
        _institutions(photos, institutions, moves, mondays),
        _speeds(photos, moves, mondays),
    )


def _shares(
    photos: Photos, regions: Counted, institutions: Counted, accuracy: Accuracy | None, mondays: list[date]
) -> list[Row]:
    where = np.array([region for _, region in photos.institutions])
    rows = []
    for index in (None, *range(len(REGION_CODES))):
        chosen = slice(None) if index is None else slice(index, index + 1)
        if not regions.photos[chosen].any():
            continue
        inside = slice(None) if index is None else where == index
        for week, monday in enumerate(mondays):
            values = {name: int(table[chosen, week].sum()) for name, table in vars(regions).items()}
            mean = _mean_share(institutions.positive[inside, week], institutions.counted[inside, week])
            rows.append({**_place(index), **_week(monday), **_share(values, accuracy), "by_institution": mean})
    return rows


def _share(values: Mapping[str, int], accuracy: Accuracy | None) -> Row:
    counted, positive = values["counted"], values["positive"]
    corrected = corrected_share(positive, counted, accuracy, values["outside"]) if accuracy else None
    note = "" if corrected else "too few" if counted < MIN_PHOTOS else "not corrected" if accuracy else "not reviewed"
    row: Row = {**values, "out_of_scope": values["outside"], "note": note}
    return row | _percents(raw_share(positive, counted), "raw", "raw_low", "raw_high") | _percents(
        corrected, "corrected", "low", "high"
    )  # fmt: skip


def _percents(share: Share | None, *names: str) -> Row:
    values = (share.value, share.low, share.high) if share else (None, None, None)
    return {name: percent(value) for name, value in zip(names, values, strict=True)}


def percent(value: float | None) -> float | None:
    """A share of 0 to 1 as percent with one decimal."""
    return None if value is None or math.isnan(value) else round(100 * value, 1)


def _mean_share(positive: Any, counted: Any) -> float | None:
    """The mean of the institutions' shares: a large chain then counts like any other."""
    posted = counted > 0
    return percent(float(np.mean(positive[posted] / counted[posted]))) if posted.any() else None


def _place(index: int | None) -> Row:
    if index is None:
        return {"region": ALL, "region_zh": "全国", "region_en": "All regions"}
    region = REGIONS.get(REGION_CODES[index])
    if region is None:
        return {"region": "", "region_zh": "未知", "region_en": "Unknown"}
    return {"region": region.code, "region_zh": region.zh, "region_en": region.en}


def _week(monday: date) -> Row:
    return {"week": week_name(monday), "monday": monday.isoformat()}


def _institutions(photos: Photos, counts: Counted, moves: list[Move], mondays: list[date]) -> list[Row]:
    rows, others = [], {"photos": 0, "counted": 0, "positive": 0}
    for index, (name, region) in enumerate(photos.institutions):
        values = {key: int(getattr(counts, key)[index].sum()) for key in others}
        if values["photos"] < FEW:
            others = {key: others[key] + values[key] for key in others}
            continue
        move = moves[index]
        row = {"institution": name, **_place(region), **values, "state": move.state}
        row |= {"probability": round(move.probability, 3)}
        rows.append(row | _when(move.moved, "moved", mondays) | _when(move.back, "back", mondays))
    rows.sort(key=lambda row: (row["region"], row["institution"]))
    if others["photos"]:
        rows.append({"institution": "(others)", **_place(None), **others, "state": "too_few"})
    return rows


def _when(when: When | None, name: str, mondays: list[date]) -> Row:
    if when is None:
        return {}
    weeks = {name: when.week, f"{name}_from": when.low, f"{name}_to": when.high}
    return {key: week_name(mondays[week]) for key, week in weeks.items()}


def _speeds(photos: Photos, moves: list[Move], mondays: list[date]) -> list[Row]:
    weeks = [move.moved.week for move in moves if move.moved]
    start = min(weeks, default=0)
    rows = []
    for index in (None, *range(len(REGION_CODES))):
        chosen = [
            move
            for move, (_, region) in zip(moves, photos.institutions, strict=True)
            if index in (None, region) and move.state != "too_few"
        ]
        if chosen:
            rows.append({**_place(index), **_speed(chosen, start, mondays)})
    return rows


def _speed(moves: list[Move], start: int, mondays: list[date]) -> Row:
    weeks = sorted(move.moved.week for move in moves if move.moved)

    def reached(share: float) -> int | None:
        needed = max(1, math.ceil(share * len(moves)))
        return weeks[needed - 1] if len(weeks) >= needed else None

    first, half, most = (weeks[0] if weeks else None), reached(0.5), reached(MOST)
    named = {"first": first, "half": half, "most": most}
    return {
        "institutions": len(moves),
        "moved": len(weeks),
        "returned": sum(move.moved is not None and move.back is not None for move in moves),
        **{name: None if week is None else week_name(mondays[week]) for name, week in named.items()},
        "days_to_half": _days(first, half),
        "days_to_most": _days(first, most),
        "median_days": None if not weeks else round(7 * float(np.median(weeks) - start)),
    }


def _days(first: int | None, later: int | None) -> int | None:
    return None if first is None or later is None else 7 * (later - first)
