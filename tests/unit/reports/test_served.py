"""Drift of served traffic, from request logs of simulated days."""

import gzip
import json
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest

from deploy.torchserve.management import PROBES
from reports.counting.alarms import FARTHEST
from reports.counting.served import MEASURES, read_log
from reports.drift_served import drift_served
from reports.manifest.dates import CHINA
from tests.helpers.reports import table

Line = dict[str, Any]
DAYS, REQUESTS = 60, 200


def quiet(rng: random.Random) -> Line:
    """A request as any day has it."""
    if rng.random() < 0.01:
        return {"code": "corrupt_image", "status": 400, "photos": 1, "bytes": 1000, "results": [], "unsure": 0}
    confidence = rng.betavariate(30, 1)
    label = "online" if rng.random() < 0.3 else "offline"
    facts = {"unsure": int(confidence < 0.8), "out_of_scope": int(rng.random() < 0.02)}
    return {
        "code": "ok", "status": 200, "photos": 1, "bytes": int(2 ** rng.gauss(17, 0.6)),
        "results": [[label, confidence]], "light": [(rng.gauss(125, 25), rng.gauss(60, 9))],
        "in_scope": [rng.betavariate(30, 1)], **facts,
    }  # fmt: skip


def posters(rng: random.Random) -> Line:
    """One request in five has a poster."""
    line = quiet(rng)
    return line | {"out_of_scope": 1} if line["results"] and rng.random() < 0.2 else line


def smaller(rng: random.Random) -> Line:
    """The clients scale photos down."""
    line = quiet(rng)
    return line | {"bytes": line["bytes"] // 4}


def darker(rng: random.Random) -> Line:
    """A camera setting."""
    line = quiet(rng)
    return line | {"light": [(mean / 2, deviation) for mean, deviation in line.get("light", [])]}


def unlike(rng: random.Random) -> Line:
    """Every photo with the label looks less like the photos of the classes; the others are as they were."""
    line = quiet(rng)
    online = line["results"] and line["results"][0][0] == "online"
    return line | ({"in_scope": [rng.betavariate(6, 1)]} if online else {})


def broken(rng: random.Random) -> Line:
    """One request in five is refused."""
    refused = {"code": "unsupported_format", "status": 400, "results": [], "unsure": 0, "out_of_scope": 0}
    refused |= {"light": [], "in_scope": []}
    return quiet(rng) | (refused if rng.random() < 0.2 else {})


def write_days(
    folder: Path,
    name: str,
    days: range,
    kind: Callable[[random.Random], Line] = quiet,
    version: str = "1.0",
    client: str | None = None,
) -> None:
    """Lines of the last 60 days, of which `days` are written."""
    first = datetime.now(CHINA).replace(hour=9, minute=0) - timedelta(days=DAYS)
    lines = []
    for day in days:
        rng = random.Random(day)
        for number in range(REQUESTS):
            moment = first + timedelta(days=day, minutes=number)
            facts = {
                "model": "classroom",
                "version": version,
                "request_id": f"r{day}-{number}",
                "client_request_id": client,
            }
            lines.append(json.dumps({"time": moment.isoformat(), **facts, **kind(rng)}))
    text = "\n".join([*lines, "not json", '{"time": "2022"}', ""]).encode()
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)


def run(folder: Path, *more: object) -> dict[str, int]:
    """Run the command; measure -> whether the last day is in alarm."""
    words = [folder / "logs", "--counts", folder / "counts.json", "--metrics", folder / "drift.prom"]
    words += ["--farthest", folder / "farthest.csv", *more]
    drift_served.main([str(word) for word in words], standalone_mode=False)
    lines = [line for line in (folder / "drift.prom").read_text().splitlines() if line.startswith("photoloop_drift_al")]
    assert all(',source="served",model="classroom"' in line for line in lines)
    return {line.partition('measure="')[2].partition('"')[0]: int(line.rpartition(" ")[2]) for line in lines}


@pytest.mark.slow
def test_sixty_quiet_days_have_no_alarm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_days(tmp_path / "logs", "requests.1.log.gz", range(30))
    write_days(tmp_path / "logs", "requests.log", range(30, DAYS))
    assert run(tmp_path) == dict.fromkeys(MEASURES, 0)
    assert table(tmp_path / "farthest.csv") == []
    assert "60 days, 46 of them compared; alarms: none" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "measures"),
    [
        (posters, ["out_of_scope"]),
        (smaller, ["size"]),
        (broken, ["errors"]),
        (darker, ["brightness", "label_brightness"]),
        (unlike, ["label_features"]),
    ],
)
def test_a_change_is_an_alarm_on_its_second_day(
    kind: Callable[[random.Random], Line], measures: list[str], tmp_path: Path
) -> None:
    write_days(tmp_path / "logs", "requests.1.log.gz", range(30, DAYS - 2))
    write_days(tmp_path / "logs", "requests.log", range(DAYS - 2, DAYS), kind)
    found = run(tmp_path)
    assert [name for name, alarm in found.items() if alarm] == measures
    rows = table(tmp_path / "farthest.csv")
    assert len(rows) == FARTHEST
    assert {row["request_id"].partition("-")[0] for row in rows} == {f"r{DAYS - 1}"}
    values, measure = [float(row["value"]) for row in rows], rows[0]["measure"]
    assert measure in measures
    assert values == sorted(values, reverse=measure in ("out_of_scope", "errors"))


@pytest.mark.slow
def test_the_counts_outlive_the_log_and_a_half_rotated_day_does_not_replace_a_whole_one(tmp_path: Path) -> None:
    write_days(tmp_path / "logs", "requests.log", range(30, DAYS))
    run(tmp_path)
    before = (tmp_path / "counts.json").read_text()
    write_days(tmp_path / "logs", "requests.log", range(DAYS - 1, DAYS))
    half = (tmp_path / "logs" / "requests.log").read_bytes().splitlines(keepends=True)[REQUESTS // 2 :]
    (tmp_path / "logs" / "requests.log").write_bytes(b"".join(half))
    run(tmp_path)
    assert (tmp_path / "counts.json").read_text() == before


def test_few_days_are_refused(tmp_path: Path) -> None:
    write_days(tmp_path / "logs", "requests.log", range(DAYS - 1, DAYS))
    with pytest.raises(click.ClickException, match=r"covers 1 full day, and a day needs 14 before it: run this every"):
        run(tmp_path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("[]", "is not a file of daily counts"),
        ("{", "is not a file of daily counts"),
        ('{"2022-01-01": {"photos": 1}}', r"is not a file of daily counts \(model: .*remove it if an earlier version"),
        ('{"model": "classroom", "days": {"2022-01-01": {"photos": "x"}}}', r"days.2022-01-01.photos: .* integer"),
        ('{"model": "classroom", "days": {"2022-01-01": {"photos": -1}}}', r"days.2022-01-01.photos: "),
        ('{"model": "shapes", "days": {}}', "holds the counts of shapes, not of classroom: give another --counts"),
    ],
)
def test_a_file_that_holds_no_counts_of_the_model_is_refused(content: str, problem: str, tmp_path: Path) -> None:
    write_days(tmp_path / "logs", "requests.log", range(DAYS - 1, DAYS))
    (tmp_path / "counts.json").write_text(content)
    with pytest.raises(click.ClickException, match=problem):
        run(tmp_path)
    assert (tmp_path / "counts.json").read_text() == content


def test_a_label_that_the_model_does_not_have_is_refused(tmp_path: Path) -> None:
    write_days(tmp_path / "logs", "requests.log", range(DAYS - 1, DAYS))
    with pytest.raises(click.ClickException, match="no label 'nonsense': give one of offline, online"):
        run(tmp_path, "--label", "nonsense")


@pytest.mark.parametrize("probe", sorted(PROBES))
def test_probes_of_the_project_are_not_counted(probe: str, tmp_path: Path) -> None:
    write_days(tmp_path / "logs", "requests.log", range(DAYS - 2, DAYS))
    clients = read_log(tmp_path / "logs", "classroom")
    for number in range(3):
        write_days(tmp_path / "logs", f"requests.{number}.log", range(DAYS - 2, DAYS), darker, client=probe)
    assert read_log(tmp_path / "logs", "classroom") == clients
    assert {day.photos for day in clients.values()} == {REQUESTS}


def test_a_log_and_its_compressed_copy_are_counted_once(tmp_path: Path) -> None:
    for name in ("requests.log", "requests.log.gz", "requests.1.log.gz"):
        write_days(tmp_path / "logs", name, range(DAYS - 1, DAYS))
    assert [day.photos for day in read_log(tmp_path / "logs", "classroom").values()] == [2 * REQUESTS]


@pytest.mark.slow
def test_another_version_begins_a_new_base_and_photos_are_compared_as_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_days(tmp_path / "logs", "requests.1.log", range(30, DAYS - 4))
    write_days(tmp_path / "logs", "requests.log", range(DAYS - 4, DAYS), posters, version="1.1")
    found = run(tmp_path)
    assert not any(found.values())
    assert set(found) == {"errors", "size", "brightness", "contrast"}
    assert "4 days of version 1.1: answers are compared after 14" in capsys.readouterr().out


@pytest.mark.slow
def test_a_change_that_stays_is_accepted_with_since(tmp_path: Path) -> None:
    write_days(tmp_path / "logs", "requests.1.log", range(25))
    write_days(tmp_path / "logs", "requests.log", range(25, DAYS), smaller)
    assert run(tmp_path)["size"] == 1
    since = datetime.now(CHINA) - timedelta(days=DAYS - 25)
    assert run(tmp_path, "--since", f"{since:%Y-%m-%d}")["size"] == 0
    last = datetime.now(CHINA) - timedelta(days=3)
    assert run(tmp_path, "--since", f"{last:%Y-%m-%d}") == {}  # nothing is compared yet, so no alarm is left


@pytest.mark.slow
def test_an_alarm_ends_some_days_after_the_last_requests(tmp_path: Path) -> None:
    write_days(tmp_path / "logs", "requests.log", range(20, DAYS - 10))
    write_days(tmp_path / "logs", "requests.1.log", range(DAYS - 10, DAYS - 8), darker)
    assert run(tmp_path) == {}
    last = (datetime.now(CHINA) - timedelta(days=9)).replace(hour=0, minute=0, second=0, microsecond=0)
    series = 'photoloop_drift_day_timestamp_seconds{source="served",model="classroom"}'
    assert f"{series} {last.timestamp():.0f}\n" in (tmp_path / "drift.prom").read_text()
