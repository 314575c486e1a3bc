"""Evaluate a comparison: medians and spread of each system, the bounds to keep, table and chart.

Measurements are {system: [round, round, ...]}. A round is {"start_s", "memory_mb", "archive_mb", "one", "eight",
"half", "big"}; the last four hold the figures of a load: {"rate", "errors", "p50_ms", "p90_ms", "p99_ms"}. A bare
script has only "one" and "big".
"""

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from benchmarks.harness.commands import RESULTS
from benchmarks.peers import work
from benchmarks.peers.systems import System
from common.files import write_whole
from common.words import number_of

Rounds = Mapping[str, Sequence[Mapping[str, Any]]]
Spread = dict[str, float]
BEGIN, END = "<!-- bench -->", "<!-- /bench -->"
LOADS = ("one", "eight", "half", "big")
FIGURES = ("rate", "p50_ms", "p99_ms")
COSTS = ("start_s", "memory_mb", "archive_mb")
CHAINS = ("document", "document-tuned")
FORMER = "former"  # the first shipped model: figures that were kept, in results/former.json
CHARTED = ("p50 with 1 client, ms", "requests per second with 8 clients")
ONE, EIGHT = ("one", "p50_ms"), ("eight", "rate")
COLUMNS = (ONE, ("one", "rate"), EIGHT, ("eight", "p99_ms"), ("half", "p99_ms"), ("big", "p50_ms"))


@dataclass(frozen=True)
class Point:
    """A measured ratio and its bound; `value` is None where a system was not measured."""

    text: str
    value: float | None
    bound: float
    at_least: bool
    next_rung: float | None = None

    @property
    def kept(self) -> bool | None:
        if self.value is None:
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def __str__(self) -> str:
        verdict = {None: "not measured", True: "kept", False: "NOT KEPT"}[self.kept]
        value = "" if self.value is None else f"{self.value:.2f}, "
        further = f" (next rung {self.next_rung:g})" if self.next_rung else ""
        return f"{self.text}: {value}{'at least' if self.at_least else 'at most'} {self.bound:g}{further}: {verdict}"


def summary(rounds: Rounds) -> dict[str, dict[str, Any]]:
    """Median, least and most of each system's figures over its rounds, and the sum of its errors."""
    return {name: _summary(measured) for name, measured in rounds.items() if measured}


def _summary(measured: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    figures: dict[str, Any] = {
        key: spread(row[key] for row in measured) for key in COSTS if measured[0].get(key) is not None
    }
    for load in LOADS:
        rows = [row[load] for row in measured if row.get(load)]
        if rows:
            figures[load] = {key: spread(row[key] for row in rows) for key in FIGURES}
            figures[load]["errors"] = sum(row["errors"] for row in rows)
    return figures


def read_former() -> dict[str, Any]:
    """The kept figures of the first shipped model: text, commit, date, and `figures` as in a summary."""
    content: dict[str, Any] = json.loads((RESULTS / "former.json").read_text(encoding="utf-8"))
    return content


def spread(values: Iterable[float]) -> Spread:
    """Median, least, most."""
    listed = list(values)
    return {"median": round(statistics.median(listed), 2), "min": min(listed), "max": max(listed)}


def points(figures: Mapping[str, Mapping[str, Any]]) -> list[Point]:
    """The bounds of the comparison, most important first."""
    servers = [name for name in figures if not name.startswith("floor-")]
    floors = [name for name in figures if name.startswith("floor-") and name.endswith(f":{work.OURS}")]
    stock = [name for name in servers if name == "torchserve" or name.endswith(f":{work.DOCUMENT}")]
    equals = [name for name in servers if name.endswith(f":{work.OURS}") and _errors(figures[name]) == 0]
    get = partial(_median, figures)
    first = max(equals, key=lambda name: get(name, EIGHT) or 0.0, default="none")
    ours, alone = get("ours", EIGHT), get("ours", ONE)
    floor = min((value for name in floors if (value := get(name, ONE))), default=None)
    chain = max((value for name in CHAINS if (value := get(name, EIGHT))), default=None)
    tail = get("ours", ("eight", "p99_ms"))
    half = [get("ours", ("half", key)) for key in ("p99_ms", "p50_ms")]
    at_8 = "requests/s at 8 clients, ours / "
    return [
        Point("p50 at 1 client, the document's chain / ours", _over(get("document", ONE), alone), 12, True, 20),
        Point("p50 at 1 client, ours / the best bare script", _over(alone, floor), 1.8, False, 1.5),
        Point(f"{at_8}the better chain", _over(ours, chain), 12, True, 20),
        *(Point(f"{at_8}{name}", _over(ours, get(name, EIGHT)), 1.3, True) for name in stock),
        Point(f"{at_8}the best with our model ({first})", _over(ours, get(first, EIGHT)), 0.95, True),
        Point(f"p99 at 8 clients, ours / {first}", _over(tail, get(first, ("eight", "p99_ms"))), 1, False),
        Point("p99 / p50 of ours at half load, constant rate", _over(*half), 3, False),
        Point("p50 of ours, 4000 x 3000 / 1000 x 750", _over(get("ours", ("big", "p50_ms")), alone), 6, False),
        Point("errors of ours", float(_errors(figures["ours"])) if "ours" in figures else None, 0, False),
        *(Point(f"{key}, ours / former", _over(get("ours", (key,)), get(FORMER, (key,))), 1, False) for key in COSTS),
    ]


def _median(figures: Mapping[str, Mapping[str, Any]], name: str, keys: Sequence[str]) -> float | None:
    place: Any = figures.get(name)
    for key in keys:
        place = place.get(key) if place else None
    return float(place["median"]) if place else None


def _errors(row: Mapping[str, Any]) -> int:
    return sum(int(row[load]["errors"]) for load in LOADS if load in row)


def _over(upper: float | None, lower: float | None) -> float | None:
    return upper / lower if upper is not None and lower else None


def table(systems: Sequence[System], report: Mapping[str, Any]) -> str:
    """Markdown: one row per system with median (least to most), then the bounds, then what could not run and why."""
    figures = report["systems"]
    lines = [
        f"{number_of(report['rounds'], 'round')}; one system runs at a time, in reverse order in every second round;"
        f" {report['seconds']:g} s per load after {report['warm_s']:g} s of warm-up;"
        f" {number_of(report['cores'], 'core')} ({report['cpu']})."
        " Median (least to most) of the rounds; latencies in ms, memory in MB.",
        "",
        "| system | p50, 1 client | req/s, 1 client | req/s, 8 clients | p99, 8 clients | p99, half load |"
        " p50, 4000 × 3000 | errors | start, s | memory |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_row(_shown(system), figures[system.name]) for system in systems if system.name in figures]
    if FORMER in figures:
        former = read_former()
        lines.insert(4 + ("ours" in figures), _row(f"{former['text']} ({former['measured']})", figures[FORMER]))
    lines += ["", "| bound | |", "|---|---|"]
    lines += ["| {} | {} |".format(*str(Point(**point)).split(": ", 1)) for point in report["points"]]
    absent = [f"{name}: {why}" for name, why in report["absent"].items()]
    return "\n".join([*lines, "", *(["Not measured: " + "; ".join(absent) + "."] if absent else [])]).rstrip()


def _shown(system: System) -> str:
    form = " (fp32)" if system.form == work.DOCUMENT else " (our model)" if system.bare else ""
    return f"**{system.text}**" if system.name == "ours" else system.text + form


def _row(name: str, row: Mapping[str, Any]) -> str:
    cells = [_cell(row.get(load, {}).get(key)) for load, key in COLUMNS]
    return f"| {' | '.join([name, *cells, str(_errors(row)), *(_cell(row.get(key)) for key in COSTS[:2])])} |"


def _cell(value: Spread | None) -> str:
    return f"{value['median']:g} ({value['min']:g} to {value['max']:g})" if value else ""


def between_markers(text: str, content: str) -> str:
    """A page with the text between the markers replaced.

    Raises:
        ValueError: a marker is missing, occurs twice, or the order is wrong.
    """
    before, begin, rest = text.partition(BEGIN)
    old, end, after = rest.partition(END)
    if not (begin and end) or BEGIN in old + after or END in before + after:
        raise ValueError(f"the page must have {BEGIN} and below it {END}, once each")
    return f"{before}{BEGIN}\n{content}\n{END}{after}"


def chart(systems: Sequence[System], figures: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Bars with the spread over rounds, logarithmic: p50 with 1 client, and requests per second with 8."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [system for system in systems if system.name in figures][::-1]
    figure, axes = pyplot.subplots(1, 2, figsize=(13, 1 + 0.32 * len(shown)), sharey=True)
    for axis, (load, key), title in zip(axes, (ONE, EIGHT), CHARTED, strict=True):
        rows = [(system, figures[system.name].get(load, {}).get(key)) for system in shown]
        for place, (system, value) in enumerate(rows):
            if value:
                out = [[value["median"] - value["min"]], [value["max"] - value["median"]]]
                colour = {"ours": "tab:green"}.get(system.name, "tab:grey" if system.bare else "tab:blue")
                axis.barh(place, value["median"], xerr=out, color=colour)
        axis.set(
            title=title,
            xscale="log",
            yticks=range(len(shown)),
            yticklabels=[_shown(system).strip("*") for system in shown],
        )
        axis.grid(axis="x", alpha=0.3)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=90, bbox_inches="tight")
    pyplot.close(figure)
    write_whole(path, buffer.getvalue())


def as_json(rows: Sequence[Point]) -> list[dict[str, Any]]:
    """Bounds as plain data."""
    return [asdict(row) for row in rows]
