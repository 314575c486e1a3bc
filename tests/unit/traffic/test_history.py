"""How a canary went: which moments are kept, and the picture of them."""

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from traffic import history, record
from traffic.front import route
from traffic.history import Row, picture, read
from traffic.record import Record, State
from traffic.status import verdict

SVG = "{http://www.w3.org/2000/svg}"
ROW = Row(1000.0, "sharing", 5.0, 95, 5, 0, 0, 1.0)


@pytest.mark.slow
def test_a_day_is_some_hundred_rows_and_another_canary_begins_anew(tmp_path: Path) -> None:
    route.begin(tmp_path, "a", "1.1", (5, 100))
    for second in range(0, 86_400, 60):
        history.add(tmp_path, "a", replace(ROW, time=1000.0 + second), first=second == 0)
    rows = read(tmp_path, "a")
    assert 200 < len(rows) < 1000 and rows[0].time == 1000.0
    history.add(tmp_path, "a", replace(rows[-1], time=rows[-1].time + 0.1, percent=25.0), first=False)
    assert read(tmp_path, "a")[-1].percent == 25.0, "a new share is always kept"
    with (route.place(tmp_path, "a") / history.FILE).open("a") as file:
        file.write("{\n")
    assert len(read(tmp_path, "a")) == len(rows) + 1
    history.add(tmp_path, "a", ROW, first=True)
    assert read(tmp_path, "a") == [ROW]


def test_the_picture_has_the_share_the_errors_the_alarm_and_the_states() -> None:
    rows = [
        replace(ROW, time=0.0, state="measuring", percent=0.0),
        replace(ROW, time=10.0),
        replace(ROW, time=30.0, candidate_errors=4, evidence=800.0),
        replace(ROW, time=31.0, state="stopped", percent=0.0, candidate_errors=4, evidence=800.0),
    ]
    drawn = ET.fromstring(picture(rows, "canary of a 1.1: <stopped>"))
    texts = [text.text for text in drawn.iter(f"{SVG}text")]
    assert {"measuring 0 s", "sharing 10 s", "stopped 31 s", "alarm: 500", "canary of a 1.1: <stopped>"} <= set(texts)
    lines = [path.get("d", "") for path in drawn.iter(f"{SVG}path") if path.get("stroke-width") == "1.5"]
    assert len(lines) == 4 and all(line.count("V") == 3 for line in lines)


def test_the_command_writes_the_picture_of_the_last_canary(tmp_path: Path) -> None:
    route.begin(tmp_path, "a", "1.1", (5, 100))
    first = Record("a", "1.1", "a-1.1.mar", State.PROVING, ends=1.0)
    for state in (State.PROVING, State.SHARING, State.PROMOTED):
        record.write(tmp_path, first.changed(state=state, percent=5.0))
    done = CliRunner().invoke(verdict, ["--chart", str(tmp_path / "a.svg")], env={"SERVE_VAR": str(tmp_path)})
    assert done.exit_code == 0, done.output
    assert "promoted" in (tmp_path / "a.svg").read_text()
