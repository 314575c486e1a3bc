"""Drift on bootstrapped days: quiet ones stay quiet, and three kinds of change are found within two days."""

from collections.abc import Callable
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from dataset.auditing.hashing import hash_photo
from dataset.draw import draw
from reports.counting.days import MEASURES, hash_bits, measure_table
from reports.manifest.dates import CHINA
from reports.shares.drift import find_alarms

Photo = dict[str, object]
DAYS, PHOTOS, CHANGE = 60, 80, 45


@pytest.fixture(scope="module")
def pictures() -> dict[str, list[str]]:
    """Kind of drawing -> perceptual hashes."""
    counts = {"room": 24, "call": 24, "papers": 10, "screens": 8}
    return {kind: [hash_photo(draw(kind, seed)) for seed in range(count)] for kind, count in counts.items()}


def usual(rng: np.random.Generator, pictures: dict[str, list[str]], day: int) -> Photo:
    kind = "call" if rng.random() < 0.3 + 0.05 * np.sin(day) else "room"
    light = rng.normal(0, 3)
    return {"label": kind, "confidence": float(rng.beta(30, 1)), "unsure": bool(rng.random() < 0.02), "in_scope": True,
            "error_code": "corrupt_image" if rng.random() < 0.005 else "", "bytes": int(2 ** rng.normal(17, 0.6)),
            "brightness": float(rng.normal(125, 25) + light), "phash": str(rng.choice(pictures[kind]))}  # fmt: skip


def days_with(
    change: Callable[[np.random.Generator, Photo], Photo] | None, pictures: dict[str, list[str]], seed: int
) -> pa.Table:
    rng = np.random.default_rng(seed)
    start = datetime(2022, 1, 1, 9, tzinfo=CHINA)
    rows = []
    for day in range(DAYS):
        for _ in range(PHOTOS):
            row = usual(rng, pictures, day)
            row = change(rng, row) if change and day >= CHANGE else row
            row |= {"label": None, "confidence": None, "unsure": None, "phash": None} if row["error_code"] else {}
            rows.append(row | {"published_at": start + timedelta(days=day)})
    schema = {"published_at": pa.timestamp("s", "UTC"), "confidence": pa.float32(), "in_scope": pa.bool_(),
              "unsure": pa.bool_(), "phash": pa.string(), "label": pa.string(), "error_code": pa.string(),
              "bytes": pa.int64(), "brightness": pa.float32()}  # fmt: skip
    return pa.Table.from_pylist(rows, pa.schema(schema))


def alarms(table: pa.Table) -> list[tuple[int, str]]:
    days = measure_table(table, "call")
    _, found = find_alarms(days.values, days.sampling)
    return [(int(day), MEASURES[measure]) for day, measure in np.argwhere(found)]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_sixty_quiet_days_have_at_most_one_alarm(pictures: dict[str, list[str]], seed: int) -> None:
    assert len(alarms(days_with(None, pictures, seed))) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["darker", "new layout", "posters"])
def test_a_change_is_an_alarm_within_two_days(pictures: dict[str, list[str]], kind: str) -> None:
    def change(rng: np.random.Generator, row: Photo) -> Photo:
        if kind == "darker":
            return row | {"brightness": float(row["brightness"]) / 2}  # type: ignore[arg-type]
        if kind == "new layout":  # every call looks like a few screens
            return row | ({"phash": str(rng.choice(pictures["screens"]))} if row["label"] == "call" else {})
        poster = {
            "phash": str(rng.choice(pictures["papers"])),
            "confidence": float(rng.uniform(0.5, 0.95)),
            "unsure": bool(rng.random() < 0.5),
        }
        return row | (poster if rng.random() < 0.2 else {})

    found = alarms(days_with(change, pictures, seed=3))
    assert [day for day, _ in found if day < CHANGE] == []
    assert {day for day, _ in found if day <= CHANGE + 1}, found


def test_a_short_history_says_nothing_and_an_alarm_is_not_absorbed() -> None:
    values = np.concatenate([np.full(20, 0.2), np.full(40, 0.5)])[:, None] + np.random.default_rng(0).normal(
        0, 0.01, (60, 1)
    )
    distances, found = find_alarms(values, np.full((60, 1), 0.01))
    assert np.isnan(distances[:14]).all()
    assert not found[:21].any()
    assert found[21:].all()


def test_the_bits_of_a_hash_are_read_in_full() -> None:
    bits = hash_bits(["f" * 36, None, "8" + "0" * 35])
    assert bits.shape == (3, 144)
    assert bits[0].all()
    assert np.isnan(bits[1]).all()
    assert bits[2].tolist() == [1] + [0] * 143
