"""Drift on bootstrapped days: quiet ones stay quiet, and three kinds of change are found within two days."""

import json
import math
import random
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from common.files import write_json
from dataset.auditing.hashing import hash_photo
from dataset.draw import draw
from reports.counting.days import MEASURES, farthest, hash_bits, measure_days, measure_table
from reports.drift import drift
from reports.manifest.dates import CHINA
from reports.scoring.job import Job, read_job
from reports.shares.drift import find_alarms, last_alarm
from tests.helpers.reports import MONDAY, invoke, job_of

Photo = dict[str, Any]
DAYS, PHOTOS, CHANGE = 60, 300, 40


@pytest.fixture(scope="module")
def pictures() -> dict[str, list[str]]:
    """Kind of drawing -> perceptual hashes."""
    counts = {"room": 12, "call": 12, "papers": 6, "screens": 6}
    return {kind: [hash_photo(draw(kind, seed)) for seed in range(count)] for kind, count in counts.items()}


@pytest.fixture(scope="module")
def quiet(pictures: dict[str, list[str]]) -> list[list[Photo]]:
    """Photos by day; the share of calls and the light vary a little from day to day."""
    rng = random.Random(1)
    start = datetime(2022, 1, 1, 9, tzinfo=CHINA)
    days = []
    for day in range(DAYS):
        share, light = 0.3 + 0.05 * math.sin(day), rng.gauss(0, 3)
        moment = start + timedelta(days=day)
        days.append([{**usual(rng, pictures, share, light), "published_at": moment} for _ in range(PHOTOS)])
    return days


def usual(rng: random.Random, pictures: dict[str, list[str]], share: float, light: float) -> Photo:
    kind = "call" if rng.random() < share else "room"
    answer: Photo = {"label": kind, "confidence": rng.betavariate(30, 1), "unsure": rng.random() < 0.02}
    seen = {"brightness": rng.gauss(125, 25) + light, "phash": rng.choice(pictures[kind])}
    if rng.random() < 0.005:
        return {"error_code": "corrupt_image", "bytes": 1000}
    return (
        answer
        | seen
        | {"in_scope": True, "scope": rng.betavariate(30, 1), "error_code": "", "bytes": int(2 ** rng.gauss(17, 0.6))}
    )


def as_table(days: list[list[Photo]]) -> pa.Table:
    schema = {"published_at": pa.timestamp("s", "UTC"), "confidence": pa.float32(), "in_scope": pa.bool_()}
    schema |= {"scope": pa.float32()}
    schema |= {"unsure": pa.bool_(), "phash": pa.string(), "label": pa.string(), "error_code": pa.string()}
    schema |= {"bytes": pa.int64(), "brightness": pa.float32()}
    return pa.Table.from_pylist([row for day in days for row in day], pa.schema(schema))


def alarms(days: list[list[Photo]]) -> list[tuple[int, str]]:
    measured = measure_table(as_table(days), "call")
    _, found = find_alarms(measured.values, measured.sampling)
    return [(int(day), MEASURES[measure]) for day, measure in np.argwhere(found)]


@pytest.mark.slow
def test_sixty_quiet_days_have_at_most_one_alarm(quiet: list[list[Photo]]) -> None:
    assert len(alarms(quiet)) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["darker", "new layout", "posters"])
def test_a_change_is_an_alarm_within_two_days(
    quiet: list[list[Photo]], pictures: dict[str, list[str]], kind: str
) -> None:
    rng = random.Random(2)

    def change(row: Photo) -> Photo:
        if row["error_code"]:
            return row
        if kind == "darker":
            return row | {"brightness": row["brightness"] / 2}
        if kind == "new layout":  # every call looks like a few screens
            return row | ({"phash": rng.choice(pictures["screens"])} if row["label"] == "call" else {})
        poster = {"confidence": rng.uniform(0.5, 0.95), "unsure": rng.random() < 0.5}
        return row | (poster | {"phash": rng.choice(pictures["papers"])} if rng.random() < 0.2 else {})

    days = [*quiet[:CHANGE], *([change(row) for row in day] for day in quiet[CHANGE : CHANGE + 2])]
    found = alarms(days)
    assert found
    assert {day for day, _ in found} == {CHANGE + 1}


@pytest.mark.slow
@pytest.mark.parametrize("measure", ["brightness", "appearance", "errors"])
def test_the_farthest_photos_of_an_alarm_are_those_that_changed(
    quiet: list[list[Photo]], pictures: dict[str, list[str]], measure: str
) -> None:
    usual = hash_bits([*pictures["room"], *pictures["call"]]).mean(axis=0) > 0.5
    changes: dict[str, Photo] = {
        "brightness": {"error_code": "", "brightness": 20.0},
        "appearance": {"error_code": "", "phash": np.packbits(~usual).tobytes().hex()},
        "errors": {"error_code": "corrupt_image"},
    }
    odd = changes[measure]
    last = [row | (odd if number % 9 == 4 else {}) for number, row in enumerate(quiet[CHANGE])]
    table = as_table([*quiet[CHANGE - 5 : CHANGE], last])
    rows = farthest(table, "call", 5, MEASURES.index(measure), -1.0 if measure == "brightness" else 1.0, 20)
    assert len(rows) == 20
    assert {(row - 5 * PHOTOS) % 9 for row in rows} <= ({4} if measure != "errors" else {*range(9)})
    if measure == "errors":
        assert set(table.take(rows)["error_code"].to_pylist()) == {"corrupt_image"}


def test_the_last_alarm_is_told_with_its_farthest_measure_and_direction() -> None:
    values = np.array([[1.0, 9.0], [1.0, 9.0], [5.0, 2.0], [1.0, 9.0]])
    distances, alarms = np.array([[0, 0], [0, 0], [5.0, 8.0], [0, 0]]), np.zeros((4, 2), bool)
    assert last_alarm(values, distances, alarms) is None
    alarms[2] = True
    assert last_alarm(values, distances, alarms) == (2, 1, -1.0)
    alarms[2, 1] = False
    assert last_alarm(values, distances, alarms) == (2, 0, 1.0)


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


def test_photos_that_both_scores_have_count_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def scores(name: str, numbers: range) -> Job:
        job = job_of(
            tmp_path / name,
            len(numbers),
            photo_id=[f"p{number}" for number in numbers],
            sha256=[f"{number:064x}" for number in numbers],
            published_at=[MONDAY + timedelta(days=number // 6) for number in numbers],
        )
        facts = json.loads((job.folder / "job.json").read_text())
        write_json(job.folder / "job.json", {**facts, "manifest_digest": name})
        return read_job(job.folder)

    march, april = scores("march", range(120)), scores("april", range(90, 180))
    invoke(drift, april.folder, "--against", march.folder)
    said = capsys.readouterr()
    assert f"30 photos of {april.folder} are in {march.folder} as well, and counted once" in said.err
    assert measure_days([march, april], "call").photos.tolist() == [6] * 30
