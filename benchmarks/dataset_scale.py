"""Measure audit, stats and split on many photos: wall time, and peak memory of all their processes.

    python -m benchmarks.dataset_scale [--count 5000] [--work FOLDER]

Draws the photos first (a row of the table; a --work folder keeps them for the next run), then runs each command in a
process. Memory is the largest sum of the resident sizes of a command and its children, sampled ten times per second;
shared pages are counted in each process. Prints Markdown, then one JSON line, and writes that line to
runs/benchmarks/dataset_scale.json.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import psutil

from common.cli import command
from common.errors import UserError
from common.files import write_json
from config.recipe import read_recipe
from dataset.sample import draw_set
from deploy.settings import ROOT

RESULT = ROOT / "runs" / "benchmarks" / "dataset_scale.json"
RECIPE = "classroom"
INTERVAL = 0.1  # seconds between two samples of memory


@command(epilog="Example: python -m benchmarks.dataset_scale --count 100")
@click.option("--count", default=5000, show_default=True, type=click.IntRange(10), help="Number of photos.")
@click.option(
    "--work",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the photos in this folder.  [default: a temporary one]",
)
def main(count: int, work: Path | None) -> None:
    """Draw COUNT photos, then measure audit, stats and split on them."""
    with tempfile.TemporaryDirectory() as temporary:
        place = (work or Path(temporary)).absolute()
        rows = measure(place, count)
    result = {"benchmark": "dataset_scale", "cores": os.cpu_count(), "photos": rows[0]["photos"], "steps": rows}
    write_json(RESULT, result)
    click.echo("| step | photos | seconds | photos a second | peak memory |\n|---|---|---|---|---|")
    for row in rows:
        peak = f"{row['peak_mb']} MB" if row["peak_mb"] else ""
        click.echo(f"| {row['step']} | {row['photos']} | {row['seconds']} | {row['a_second']} | {peak} |")
    click.echo(json.dumps(result))


def measure(place: Path, count: int) -> list[dict[str, Any]]:
    """Draw, then run each command on the drawn photos."""
    recipe, photos = read_recipe(RECIPE), place / "photos"
    started = time.perf_counter()
    draw_set(photos, recipe, -(-count // len(recipe.labels)), seed=0)
    drawn = sum(1 for path in photos.rglob("*") if path.suffix in (".jpg", ".png"))
    rows = [_row("draw", drawn, time.perf_counter() - started, 0)]
    for step, out in commands(place):
        rows.append(_row(step, drawn, *spent(step, photos, out)))
    return rows


def commands(place: Path) -> list[tuple[str, Path]]:
    """The measured steps, each with the path that it writes."""
    return [("audit", place / "audit.tsv"), ("stats", place / "stats"), ("split", place / "split.tsv")]


def spent(step: str, photos: Path, out: Path) -> tuple[float, int]:
    """Seconds and peak bytes of one command.

    Raises:
        UserError: it failed; the message has the end of its output.
    """
    words = [sys.executable, "-m", "dataset", step, str(photos), "--recipe", RECIPE, "--out", str(out)]
    started, peak = time.perf_counter(), 0
    with tempfile.TemporaryFile("w+") as output:
        with subprocess.Popen(words, cwd=ROOT, stdout=output, stderr=output) as process:
            while process.poll() is None:
                peak = max(peak, resident(process.pid))
                time.sleep(INTERVAL)
        seconds = time.perf_counter() - started
        output.seek(0)
        if process.returncode:
            raise UserError(f"{' '.join(words[1:])} failed: {output.read()[-500:]}")
    return seconds, peak


def resident(launcher: int) -> int:
    """Resident bytes of a process and all its children; a process that has just ended counts as 0."""
    total = 0
    try:
        processes = [psutil.Process(launcher), *psutil.Process(launcher).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in processes:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def _row(step: str, photos: int, seconds: float, peak: int) -> dict[str, Any]:
    rate = round(photos / seconds, 1)
    return {"step": step, "photos": photos, "seconds": round(seconds, 1), "a_second": rate, "peak_mb": peak // 10**6}


if __name__ == "__main__":
    main()
