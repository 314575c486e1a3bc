"""Replace versions under load, and measure lost requests and how much slower requests are meanwhile.

    python -m benchmarks.swaps [--swaps 30] [--requests 10000] [--quick]

Starts a TorchServe with the shipped model and measures its top throughput with 8 clients. Then it sends half of that at
a constant rate: without swaps, during all swaps, and without swaps again. Each swap is `python -m deploy rollout --keep
0`. For contrast, a second server does naive swaps: register, set the default, unregister the old version at once.
Exits 1 if a request was lost or another bound was missed. Prints Markdown, and one JSON line last; writes
benchmarks/results/swaps.json and docs/images/swaps.png. The photo is that of benchmarks.footprint.
"""

import json
import os
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress

from benchmarks.footprint import BUNDLE
from benchmarks.harness.commands import RESULTS
from benchmarks.harness.load import table
from benchmarks.harness.server import Swap, measured_server
from benchmarks.harness.versions import drawn_photo
from common.cli import command
from common.errors import CheckFailed
from common.files import write_json
from common.words import number_of
from deploy.archive import pack
from deploy.clients.load import Result
from deploy.settings import ROOT

CLIENTS = 8
TOP_S = 10.0
MOST_P99 = 3.0  # relative to p99 without swaps
WITHOUT, WITH, NAIVE = "without swaps", "with swaps", "naive swaps"


@dataclass(frozen=True)
class Run:
    """A measurement: the loads by name, the swaps, and their traces in journal, log and API."""

    parts: dict[str, Result]
    swaps: list[Swap]
    seen: dict[str, Any]

    def broken(self, requests: int) -> list[str]:
        """The bounds that were missed, as sentences."""
        loaded, count = self.parts[WITH], len(self.swaps) - 1
        counts = {"registered": count, "unregistered": count}
        plain, through = self.parts[WITHOUT].percentile(0.99), loaded.percentile(0.99)
        versions = [swap.version for swap in self.swaps]
        without = loaded.unanswered + loaded.lost
        checks = {
            f"{loaded.failed} answers were not 200": loaded.failed == 0,
            f"{number_of(without, 'request')} got no answer": without == 0,
            f"{loaded.wrong} answers were wrong": loaded.wrong == 0,
            f"{loaded.stale} answers came from a version that was replaced": loaded.stale == 0,
            f"{loaded.sent} requests were sent, not {requests}": loaded.sent >= requests,
            f"p99 is {through} ms, more than {MOST_P99} x {plain} ms": through <= MOST_P99 * plain,
            f"not every version answered in turn: {list(loaded.versions)}": list(loaded.versions) == versions,
            f"the journals say {self.seen['journal']}, not {counts}": self.seen["journal"] == counts,
            f"the access log says {self.seen['log']}, not {counts}": self.seen["log"] == counts,
            f"registered at the end: {self.seen['left']}": self.seen["left"] == versions[-1:],
        }
        return [text for text, kept in checks.items() if not kept]

    def as_json(self) -> dict[str, Any]:
        spent = [round(swap.ended - swap.begun, 2) for swap in self.swaps[1:]]
        swaps = {"count": len(spent), "median_s": statistics.median(spent), "max_s": max(spent)}
        return {**{name: part.as_json() for name, part in self.parts.items()}, "swaps": swaps, "seen": self.seen}


@command(epilog="Example: python -m benchmarks.swaps --quick")
@click.option("--swaps", default=30, show_default=True, type=click.IntRange(1), help="Number of swaps.")
@click.option(
    "--requests",
    default=10_000,
    show_default=True,
    type=click.IntRange(1),
    help="Least number of requests during the swaps.",
)
@click.option("--naive", default=5, show_default=True, type=click.IntRange(0), help="Number of naive swaps.")
@click.option("--bundle", default=BUNDLE, show_default="models/classroom", type=click.Path(exists=True, path_type=Path))
@click.option("--quick", is_flag=True, help="3 swaps, 600 requests, 1 naive swap; writes no file.")
def main(swaps: int, requests: int, naive: int, bundle: Path, quick: bool) -> None:
    """Swap versions under load and count what is lost."""
    if quick:
        swaps, requests, naive = 3, 600, 1
    with tempfile.TemporaryDirectory() as work, Progress(console=Console(stderr=True)) as progress:
        run = measure(Path(work), bundle, swaps, requests, naive, progress)
    broken = run.broken(requests)
    report = {"benchmark": "swaps", "cores": os.cpu_count(), **run.as_json(), "broken": broken}
    click.echo(table({name: part for name, part in run.parts.items() if name != "top"}))
    if not quick:
        write_json(RESULTS / "swaps.json", report)
        draw(run, ROOT / "docs" / "images" / "swaps.png")
    click.echo(json.dumps(report))
    if broken:
        raise CheckFailed("; ".join(broken))


def measure(work: Path, bundle: Path, swaps: int, requests: int, naive: int, progress: Progress) -> Run:
    """Measure all loads; half of the load without swaps runs before the swaps and half after, to show a drift."""
    count = max(swaps, naive) + 1
    numbers = progress.track(range(count), description=f"packing {count} versions")
    mars = [pack(bundle, f"1.{number}", work / "store") for number in numbers]
    with measured_server(work / "var", mars[0], drawn_photo()) as bench:
        with _shown(progress, f"top throughput, {CLIENTS} clients"):
            bench.steady(TOP_S / 2, clients=CLIENTS)  # warm-up
            parts = {"top": bench.steady(TOP_S, clients=CLIENTS)}
        rate = round(parts["top"].rate / 2, 1)
        half, every = max(requests / 8, min(requests, 1000)) / rate, (requests + 1) / rate / swaps
        with _shown(progress, f"{half:.0f} s at {rate} requests/s, before"):
            before = bench.steady(half, rate)
        new = progress.track(mars[1 : swaps + 1], description=f"{number_of(swaps, 'swap')} in {every * swaps:.0f} s")
        loaded = bench.through_swaps(new, every, rate, bench.roll_out)
        with _shown(progress, f"{half:.0f} s at {rate} requests/s, after"):
            after = bench.steady(half, rate)
        seen = bench.seen() | {"p99_before_after_ms": [before.percentile(0.99), after.percentile(0.99)]}
    parts |= {WITHOUT: before.joined(after), WITH: loaded}
    if naive:
        with measured_server(work / "naive", mars[0], drawn_photo()) as other:
            new = progress.track(mars[1 : naive + 1], description=number_of(naive, "naive swap"))
            parts[NAIVE] = other.through_swaps(new, every, rate, other.swap_naively)
    return Run(parts, bench.swaps, seen)


def draw(run: Run, path: Path) -> None:
    """Plot latency over time, with a band for each rollout and a line where its version first answered."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    loaded = run.parts[WITH]
    figure, axes = pyplot.subplots(figsize=(12, 4), dpi=100, layout="constrained")
    axes.scatter([s.due for s in loaded.samples], [s.ms for s in loaded.samples], s=2, color="C0", linewidths=0)
    for number, swap in enumerate(run.swaps[1:]):
        begun, ended = swap.begun - loaded.begun, swap.ended - loaded.begun
        axes.axvspan(begun, ended, color="0.9", zorder=0, label=None if number else "rollout is running")
        first = min((s.answered for s in loaded.samples if s.version == swap.version), default=ended)
        axes.axvline(first, color="C3", linewidth=0.7, label=None if number else "new version answers")
    for name, colour in ((WITHOUT, "C2"), (WITH, "C1")):
        p99 = run.parts[name].percentile(0.99)
        axes.axhline(p99, color=colour, linestyle="--", label=f"p99 {name}: {p99:.0f} ms")
    axes.set(yscale="log", xlabel="seconds", ylabel="latency, ms", xlim=(0, loaded.seconds))
    axes.set_title(f"{loaded.sent:,} requests at {loaded.rate:.1f}/s during {number_of(len(run.swaps) - 1, 'rollout')}")
    axes.legend(loc="upper left", ncols=4, fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    pyplot.close(figure)


@contextmanager
def _shown(progress: Progress, text: str) -> Iterator[None]:
    task = progress.add_task(text, total=None)
    yield
    progress.update(task, total=1, completed=1)


if __name__ == "__main__":
    main()
