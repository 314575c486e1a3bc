"""Drift of served traffic with the real log lines of the shipped model: drawn photos go through its handler."""

import io
import json
import logging
import random
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageEnhance

from dataset.draw import draw
from handler import requestlog
from reports.drift_served import drift_served
from reports.manifest.dates import CHINA
from reports.scoring.archives import unpacked
from tests.helpers.handler import ask, encoded, started

Line = dict[str, Any]
REQUESTS = 1000  # a day, of which three in ten are calls
DRAWN = {"room": 8, "call": 8, "lessons": 6, "papers": 5}


def photo(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.convert("RGB").save(data, "JPEG", quality=88)
    return data.getvalue()


@pytest.fixture(scope="module")
def logged(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Line]]:
    """Kind of photo -> the lines that the request log gets for such photos."""
    folder = tmp_path_factory.mktemp("served")
    drawn = {kind: [draw(kind, seed) for seed in range(count)] for kind, count in DRAWN.items()}
    dark = [ImageEnhance.Brightness(one).enhance(0.5) for one in (*drawn["room"], *drawn["call"])]
    with unpacked(shipped, folder / "1") as model:
        service = started(model.folder)
        found: dict[str, list[Line]] = {}
        for kind, images in {**drawn, "dark": dark}.items():
            with lines() as kept:
                for image in images:
                    ask(service, model.folder, encoded(photo(image)))
            found[kind] = [{**json.loads(text), "model": "classroom"} for text in kept]
    return found


class lines(logging.Handler):
    """What the request log gets in a block."""

    def __enter__(self) -> list[str]:
        self.kept: list[str] = []
        requestlog.log.addHandler(self)
        requestlog.log.setLevel(logging.INFO)
        return self.kept

    def __exit__(self, *_: object) -> None:
        requestlog.log.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append(record.getMessage())


def alarms(logged: dict[str, list[Line]], folder: Path, days: int, change: str = "") -> list[str]:
    """Requests of some days, whose last two have a change: the measures in alarm on the last one."""
    rng = random.Random(1)
    first = datetime.now(CHINA).replace(hour=1, minute=0, second=0) - timedelta(days=days)
    pools = {kind: [json.dumps({**line, "time": None}) for line in lines] for kind, lines in logged.items()}
    texts = []
    for day in range(days):
        now = change if day >= days - 2 else ""
        share = 0.3 + rng.uniform(-0.05, 0.05)
        for number in range(REQUESTS):
            kind = "call" if rng.random() < share else "room"
            if now == "dark" or (now == "papers" and rng.random() < 0.2) or (now == "lessons" and kind == "call"):
                kind = now
            moment = first + timedelta(days=day, minutes=number)
            texts.append(rng.choice(pools[kind]).replace('"time": null', f'"time": "{moment.isoformat()}"'))
    (folder / "requests.log").write_text("\n".join(texts))
    words = [folder, "--counts", folder / "counts.json", "--metrics", folder / "drift.prom"]
    drift_served.main([str(word) for word in words], standalone_mode=False)
    found = [line for line in (folder / "drift.prom").read_text().splitlines() if line.startswith("photoloop_drift_al")]
    return [line.partition('"')[2].partition('"')[0] for line in found if line.endswith(" 1")]


@pytest.mark.slow
def test_the_log_holds_light_and_features_and_neither_photo_nor_image_id(logged: dict[str, list[Line]]) -> None:
    for line in logged["room"]:
        assert len(line["results"]) == len(line["light"]) == len(line["in_scope"]) == 1
        assert all(0 < value < 255 for value in line["light"][0])
        assert 0 <= line["in_scope"][0] <= 1
        assert "image" not in json.dumps(line)
        assert len(json.dumps(line)) < 1000
    pairs = zip((*logged["room"], *logged["call"]), logged["dark"], strict=True)
    assert all(dark["light"][0][0] == pytest.approx(line["light"][0][0] / 2, abs=2) for line, dark in pairs)


@pytest.mark.slow
def test_sixty_quiet_days_have_no_alarm(
    logged: dict[str, list[Line]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert alarms(logged, tmp_path, 60) == []
    assert "60 days, 46 of them compared; alarms: none" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "measure"), [("dark", "brightness"), ("lessons", "label_contrast"), ("papers", "out_of_scope")]
)
def test_a_change_of_the_photos_is_an_alarm_within_two_days(
    logged: dict[str, list[Line]], tmp_path: Path, change: str, measure: str
) -> None:
    """Half the brightness; every call in a layout that did not occur before; one photo in five a poster."""
    assert measure in alarms(logged, tmp_path, 32, change)
