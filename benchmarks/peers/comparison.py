"""What a comparison's measurements say: medians and spread of each system, the ratios that were promised, the table.

Measurements are {system: [round, round, ...]}, a round being {"start_s", "memory_mb", "archive_mb", "one", "eight",
"half", "big"}; the last four are figures of a load: {"rate", "errors", "p50_ms", "p90_ms", "p99_ms"}. A bare script has
"one" and "big" alone.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from benchmarks.peers import work
from benchmarks.peers.systems import System
from common.files import write_whole

Rounds = Mapping[str, Sequence[Mapping[str, Any]]]
Spread = dict[str, float]
BEGIN, END = "<!-- bench -->", "<!-- /bench -->"
LOADS = ("one", "eight", "half", "big")
FIGURES = ("rate", "p50_ms", "p99_ms")
COSTS = ("start_s", "memory_mb", "archive_mb")
CHAINS = ("document", "document-tuned")
CHARTED = ("p50 at 1 client, ms", "requests/s at 8 clients")
ONE, EIGHT = ("one", "p50_ms"), ("eight", "rate")
COLUMNS = (ONE, ("one", "rate"), EIGHT, ("eight", "p99_ms"), ("half", "p99_ms"), ("big", "p50_ms"))


@dataclass(frozen=True)
class Point:
    """A promise: the ratio that was measured, its bound, and whether it is kept; None where it was not measured."""

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
    """Each system's medians with least and most over its rounds, and the sum of its errors."""
    return {name: _summary(measured) for name, measured in rounds.items() if measured}


def _summary(measured: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {
        key: spread(row[key] for row in measured) for key in COSTS if measured[0].get(key) is not None
    }
    for load in LOADS:
        rows = [row[load] for row in measured if row.get(load)]
        if rows:
            found[load] = {key: spread(row[key] for row in rows) for key in FIGURES}
            found[load]["errors"] = sum(row["errors"] for row in rows)
    return found


def spread(values: Iterable[float]) -> Spread:
    """Median, least, most."""
    listed = list(values)
    return {"median": round(statistics.median(listed), 2), "min": min(listed), "max": max(listed)}


def points(found: Mapping[str, Mapping[str, Any]]) -> list[Point]:
    """The promises of a summary, in the order of their importance."""

    servers = [name for name in found if not name.startswith("floor-")]
    floors = [name for name in found if name.startswith("floor-") and name.endswith(f":{work.OURS}")]
    stock = [name for name in servers if name == "torchserve" or name.endswith(f":{work.DOCUMENT}")]
    equals = [name for name in servers if name.endswith(f":{work.OURS}") and _errors(found[name]) == 0]
    get = partial(_median, found)
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
        Point("errors of ours", float(_errors(found["ours"])) if "ours" in found else None, 0, False),
        *(Point(f"{key}, ours / former", _over(get("ours", (key,)), get("former", (key,))), 1, False) for key in COSTS),
    ]


def _median(found: Mapping[str, Mapping[str, Any]], name: str, keys: Sequence[str]) -> float | None:
    place: Any = found.get(name)
    for key in keys:
        place = place.get(key) if place else None
    return float(place["median"]) if place else None


def _errors(row: Mapping[str, Any]) -> int:
    return sum(int(row[load]["errors"]) for load in LOADS if load in row)


def _over(upper: float | None, lower: float | None) -> float | None:
    return upper / lower if upper is not None and lower else None


def table(systems: Sequence[System], report: Mapping[str, Any]) -> str:
    """Markdown: a row a system with median (least to most), then the promises, then what could not run and why."""
    found = report["systems"]
    lines = [
        f"{report['rounds']} rounds, every system alone and in turn, the order reversed each time;"
        f" {report['seconds']:g} s a load after {report['warm_s']:g} s of warming up; {report['cores']} cores"
        f" ({report['cpu']})."
        " Median (least to most) of the rounds; latencies in ms, memory in MB.",
        "",
        "| system | p50, 1 client | req/s, 1 client | req/s, 8 clients | p99, 8 clients | p99, half load |"
        " p50, 4000 × 3000 | errors | start, s | memory |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_row(system, found[system.name]) for system in systems if system.name in found]
    lines += ["", "| promise | |", "|---|---|"]
    lines += ["| {} | {} |".format(*str(Point(**point)).split(": ", 1)) for point in report["points"]]
    absent = [f"{name}: {why}" for name, why in report["absent"].items()]
    return "\n".join([*lines, "", *(["Not measured: " + "; ".join(absent) + "."] if absent else [])]).rstrip()


def _row(system: System, row: Mapping[str, Any]) -> str:
    shown = [_cell(row.get(load, {}).get(key)) for load, key in COLUMNS]
    name = f"**{system.text}**" if system.name == "ours" else system.text
    form = " (fp32)" if system.form == work.DOCUMENT else " (our model)" if system.bare else ""
    return f"| {' | '.join([name + form, *shown, str(_errors(row)), *(_cell(row.get(key)) for key in COSTS[:2])])} |"


def _cell(value: Spread | None) -> str:
    return f"{value['median']:g} ({value['min']:g} to {value['max']:g})" if value else ""


def between_markers(text: str, content: str) -> str:
    """A document with what stands between the markers replaced.

    Raises:
        ValueError: the markers are not there once each, in order.
    """
    before, begin, rest = text.partition(BEGIN)
    old, end, after = rest.partition(END)
    if not (begin and end) or BEGIN in old + after or END in before + after:
        raise ValueError(f"wants {BEGIN} and, below it, {END}, once each")
    return f"{before}{BEGIN}\n{content}\n{END}{after}"


def chart(systems: Sequence[System], found: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Bars: p50 at one client and requests a second at eight, with the spread over rounds; logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [system for system in systems if system.name in found][::-1]
    figure, axes = pyplot.subplots(1, 2, figsize=(13, 1 + 0.32 * len(shown)), sharey=True)
    for axis, (load, key), title in zip(axes, (ONE, EIGHT), CHARTED, strict=True):
        rows = [(system, found[system.name].get(load, {}).get(key)) for system in shown]
        for place, (system, value) in enumerate(rows):
            if value:
                out = [[value["median"] - value["min"]], [value["max"] - value["median"]]]
                colour = {"ours": "tab:green"}.get(system.name, "tab:grey" if system.bare else "tab:blue")
                axis.barh(place, value["median"], xerr=out, color=colour)
        axis.set(title=title, xscale="log", yticks=range(len(shown)), yticklabels=[system.name for system in shown])
        axis.grid(axis="x", alpha=0.3)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=90, bbox_inches="tight")
    pyplot.close(figure)
    write_whole(path, buffer.getvalue())


def as_json(found: Sequence[Point]) -> list[dict[str, Any]]:
    """Points as plain data."""
    return [asdict(point) for point in found]
