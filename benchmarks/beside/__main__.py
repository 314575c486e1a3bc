"""What capture and a fine-tune cost the requests that are answered meanwhile.

    python -m benchmarks.beside

Starts a TorchServe with three versions of the shipped model: without capture, with capture as a recipe
sets it, and with every photo captured. One client asks them in turn. Then a constant load is sent while nothing else
runs, while a fine-tune of the same recipe computes on drawn photos as a night starts it (idle class), and again without
it. Exits 1 if capture costs more than 0.3 ms at p50, or if p99 during the fine-tune is more than 2.5 times that of the
loads around it. Takes four minutes on a quiet machine with two cores. Prints Markdown, and one JSON line last.
"""

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import psutil

from benchmarks.harness.commands import run_command
from benchmarks.harness.load import table
from benchmarks.harness.server import MeasuredServer, measured_server
from benchmarks.harness.versions import drawn_photo
from common.cli import command
from common.console import note
from common.errors import CheckFailed, UserError
from common.files import write_json
from deploy.archive import pack
from deploy.settings import ROOT
from deploy.store.profile import ServingOptions
from feedback.learning.night import yield_cores

BUNDLE = ROOT / "models" / "classroom"
CAPTURES = {"1.0": None, "1.1": {"on": True}, "1.2": {"on": True, "random": 1, "photos_per_hour": 10_000}}
NAMES = {"1.0": "off", "1.1": "on", "1.2": "every photo"}
ROUNDS, WARM = 300, 20
MOST_MS, MOST_RATIO = 0.3, 2.5
PHOTOS = 40
"""Drawn photos of each label: computing their features takes longer than the load."""


@command(epilog="Example: python -m benchmarks.beside --seconds 20")
@click.option("--seconds", default=40.0, show_default=True, type=click.FloatRange(5), help="Of each load.")
@click.option("--rate", default=20.0, show_default=True, type=click.FloatRange(1), help="Requests a second.")
def main(seconds: float, rate: float) -> None:
    """Measure p50 with capture, and p99 beside a fine-tune."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        note("packing")
        mars = [_packed(work, version) for version in CAPTURES]
        note("drawing")
        run_command("dataset", "sample", work / "drawn", "--recipe", "classroom", "--count", PHOTOS)
        with measured_server(work / "var", mars[0], drawn_photo()) as server:
            for mar in mars[1:]:
                server.client.register(mar.name, server.name, ServingOptions(1))
            capture = _alternating(server)
            note(json.dumps(capture))
            loads = {"alone": server.steady(seconds, rate)}
            with _training(work) as process:
                loads["beside a fine-tune"] = server.steady(seconds, rate)
                cpu = _cpu_s(process)
            loads["alone again"] = server.steady(seconds, rate)
    p99 = {key: result.percentile(0.99) for key, result in loads.items()}
    ratio = p99["beside a fine-tune"] / max(min(p99["alone"], p99["alone again"]), 1e-9)
    _report(capture, table(loads), {"ratio": round(ratio, 2), "training_cpu_s": round(cpu, 1), "seconds": seconds})
    slower = [value for key, value in capture.items() if key.endswith("slower_ms") and value > MOST_MS]
    if slower or ratio > MOST_RATIO or any(result.lost for result in loads.values()):
        raise CheckFailed(f"capture {max(slower, default=0)} ms slower, p99 {ratio:.2f} times, or requests were lost")


def _report(capture: dict[str, float], loads: str, figures: dict[str, float]) -> None:
    click.echo("| capture | p50, ms |\n|---|---|")
    for name in NAMES.values():
        click.echo(f"| {name} | {capture[f'{name}_p50_ms']} |")
    click.echo(loads)
    click.echo(json.dumps({"benchmark": "beside", **capture, **figures}))


def _packed(work: Path, version: str) -> Path:
    """The shipped model as a version that captures."""
    bundle = Path(shutil.copytree(BUNDLE, work / version))
    recipe = json.loads((bundle / "recipe.json").read_text(encoding="utf-8"))
    if CAPTURES[version]:
        write_json(bundle / "recipe.json", {**recipe, "capture": CAPTURES[version]})
    return pack(bundle, version, work / "store")


def _alternating(server: MeasuredServer) -> dict[str, float]:
    """p50 of each version in ms, and the median over the rounds of how much slower capture was than none."""
    spent: dict[str, list[float]] = {version: [] for version in CAPTURES}
    for round_ in range(ROUNDS + WARM):
        versions = list(CAPTURES)[round_ % 3 :] + list(CAPTURES)[: round_ % 3]
        for version in versions:
            begun = time.perf_counter()
            answer = server.predict(version)
            if round_ >= WARM:
                spent[version].append((time.perf_counter() - begun) * 1000)
            if not answer.ok:
                raise UserError(f"{version} answers {answer.status_code}: {answer.text[:200]}")
    figures = {f"{NAMES[version]}_p50_ms": round(statistics.median(times), 2) for version, times in spent.items()}
    for version in ("1.1", "1.2"):
        pairs = zip(spent[version], spent["1.0"], strict=True)
        slower = statistics.median(after - before for after, before in pairs)
        figures[f"{NAMES[version]}_slower_ms"] = round(slower, 2)
    return figures


@contextmanager
def _training(work: Path) -> Iterator[psutil.Process]:
    """A fine-tune as a night starts it, which is killed at the end.

    Raises:
        UserError: it ended before the load did.
    """
    words = ["train", "classroom", "--data", str(work / "drawn"), "--runs", str(work / "runs")]
    process = subprocess.Popen(
        [sys.executable, "-m", "training", *words],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=yield_cores,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while _cpu_s(psutil.Process(process.pid)) < 15:  # its imports take that long
            if process.poll() is not None or time.monotonic() > deadline:
                raise UserError(f"the fine-tune does not run: {(process.stderr or sys.stdin).read()!r:.500}")
            time.sleep(0.2)
        yield psutil.Process(process.pid)
        if process.poll() is not None:
            raise UserError("the fine-tune ended before the load", "give less --seconds")
    finally:
        process.kill()
        process.communicate()


def _cpu_s(process: psutil.Process) -> float:
    """CPU time of a process and its children, in seconds."""
    return sum(sum(one.cpu_times()[:2]) for one in (process, *process.children(recursive=True)))


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.beside")
