"""How a canary went, var/front/canary/NAME/history.jsonl: share, requests, errors and evidence over time; its picture.

A row is added when state or share have changed, else after a hundredth of the time so far: some hundred rows.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path

from traffic.front import route
from traffic.verdict import ALARM

FILE = "history.jsonl"
WIDTH, LEFT, RIGHT, PANEL, GAP = 800, 90, 20, 90, 34
INK, RED, BLUE, GREY = "#161616", "#da1e28", "#0f62fe", "#8d8d8d"


@dataclass(frozen=True)
class Row:
    """One moment: seconds since 1970, the candidate's share in percent, and counts so far.

    Attributes:
        evidence: the largest e-value; 500 is an alarm.
    """

    time: float
    state: str
    percent: float
    control: int
    candidate: int
    control_errors: int
    candidate_errors: int
    evidence: float


def add(var: Path, name: str, row: Row, first: bool) -> None:
    """Add a row, if it is new enough.

    Args:
        first: of a canary: the rows of the former one are removed.
    """
    path = route.place(var, name) / FILE
    lines = [] if first else _lines(path)
    rows = _parsed([*lines[:1], *lines[-1:]])
    same = bool(rows) and (rows[-1].state, rows[-1].percent) == (row.state, row.percent)
    if same and row.time - rows[-1].time < max(1.0, (row.time - rows[0].time) / 100):
        return
    with path.open("w" if first else "a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(row)) + "\n")


def read(var: Path, name: str) -> list[Row]:
    """All rows of the last canary of a model; a damaged line is left out."""
    return _parsed(_lines(route.place(var, name) / FILE))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _parsed(lines: Sequence[str]) -> list[Row]:
    rows = []
    for line in lines:
        try:
            rows.append(Row(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return rows


def picture(rows: Sequence[Row], title: str) -> str:
    """An SVG with three panels over time: the share, the counts of both versions, and the evidence.

    Args:
        rows: at least one.
    """
    panels: list[tuple[str, list[tuple[str, list[float]]], float]] = [
        ("share, %", [(BLUE, [row.percent for row in rows])], 100.0),
        (
            "5xx so far",
            [(GREY, [row.control_errors for row in rows]), (RED, [row.candidate_errors for row in rows])],
            0,
        ),
        ("e-value, log", [(RED, [_log(row.evidence) for row in rows])], _log(2 * ALARM)),
    ]
    height = 60 + len(panels) * (PANEL + GAP) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        'font-size="12">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        _text(LEFT, 22, title),
    ]
    times = [row.time - rows[0].time for row in rows]
    for number, (name, lines, least) in enumerate(panels):
        parts += _panel(50 + number * (PANEL + GAP), name, times, lines, least)
    parts += _states(rows, times, 50 + len(panels) * (PANEL + GAP))
    return "\n".join([*parts, "</svg>", ""])


def _panel(
    top: float, name: str, times: Sequence[float], lines: Sequence[tuple[str, Sequence[float]]], least: float
) -> Iterator[str]:
    largest = max(least, 1.0, *(max(values) for _, values in lines))
    bottom = top + PANEL
    yield f'<path d="M{LEFT} {top}V{bottom}H{WIDTH - RIGHT}" fill="none" stroke="{INK}"/>'
    yield _text(8, top + 10, f"{largest:.3g}")
    yield _text(8, bottom, name)
    if name.startswith("e-value"):
        alarm = bottom - PANEL * _log(ALARM) / largest
        yield f'<path d="M{LEFT} {alarm:.1f}H{WIDTH - RIGHT}" stroke="{RED}" stroke-dasharray="4 3"/>'
        yield _text(LEFT + 4, alarm - 4, f"alarm: {ALARM:g}")
    for colour, values in lines:
        steps, before = [], None
        for seconds, value in zip(times, values, strict=True):
            y = f"{bottom - PANEL * value / largest:.1f}"
            steps.append(f"M{_x(seconds, times)} {y}" if before is None else f"H{_x(seconds, times)}V{y}")
            before = y
        yield f'<path d="{"".join(steps)}" fill="none" stroke="{colour}" stroke-width="1.5"/>'


def _states(rows: Sequence[Row], times: Sequence[float], y: float) -> Iterator[str]:
    before = ""
    for row, seconds in zip(rows, times, strict=True):
        if row.state != before:
            yield f'<path d="M{_x(seconds, times)} 50V{y - GAP}" stroke="{GREY}" stroke-dasharray="1 4"/>'
            yield _text(_x(seconds, times), y - GAP + 14 + 12 * (len(before) % 2), f"{row.state} {seconds:.0f} s")
        before = row.state


def _x(seconds: float, times: Sequence[float]) -> float:
    return round(LEFT + (WIDTH - LEFT - RIGHT) * seconds / max(times[-1], 1.0), 1)


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x}" y="{y}" fill="{INK}">{escape(text)}</text>'


def _log(value: float) -> float:
    """log10, not below 0: an e-value below 1 is no evidence."""
    return math.log10(max(value, 1.0))
