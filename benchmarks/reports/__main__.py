"""Measure `reports score` against the bare loop on the same photos, its memory over time, and what kills cost.

    python -m benchmarks.reports [--count 100000] [--kills 20] [--work FOLDER]

Draws photos, and lists each of them many times. Then in turn, with one process per core: the bare loop (read, decode,
classify; `benchmarks/reports/bare.py`), `reports score`, and the bare loop again. Rates are given per second and per
second of computing, as the latter hardly depends on what else the machine does. The memory is the sum of what all
processes have allocated (anonymous memory: the unique size falls by 40 MB when another program maps the same
libraries), twice a second: its peak, its mean in each fifth of the run, and the slope of a line through the second
half, because the allocators of the workers go on growing, and falling, for thousands of photos. The rows of a job
that is killed, and those of Ray if it is installed, must be those of an undisturbed one. Prints Markdown, then one JSON
line, and writes that line to runs/benchmarks/reports.json. On two quiet cores 20,000 photos take about 20 minutes.
"""

import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import psutil
import pyarrow as pa
from rich.progress import track

from benchmarks.reports import bare
from common.cli import command
from common.console import err_console
from common.errors import UserError
from common.files import write_json
from common.words import number_of
from deploy.archive import pack
from deploy.settings import ROOT
from deploy.store.profile import cores
from reports.manifest.spreadsheet import write_csv
from reports.sample_data import sample_data
from reports.scoring.archives import unpacked
from reports.scoring.job import read_job, read_parts
from reports.scoring.schema import PART

RESULT = ROOT / "runs" / "benchmarks" / "reports.json"
MODEL = ROOT / "models" / "classroom"
INTERVAL = 0.5  # seconds between two samples of memory
MOST_BARE = 20_000  # photos of the bare loops: their rate does not change with more
PER_KILL = 200  # photos: more than are scored between two kills on two cores


class Sample(NamedTuple):
    """A running job: photos written so far, seconds, and of all its processes seconds of computing and bytes."""

    photos: int
    seconds: float
    computing: float
    memory: int
    processes: int


@command(epilog="Example: python -m benchmarks.reports --count 2000 --kills 2")
@click.option("--count", default=100_000, show_default=True, type=click.IntRange(100), help="Photos to score.")
@click.option("--kills", default=20, show_default=True, type=click.IntRange(0), help="Kills at random moments.")
@click.option("--work", type=click.Path(file_okay=False, path_type=Path), help="Keep the files in this folder.")
def main(count: int, kills: int, work: Path | None) -> None:
    """Score COUNT photos and compare with the bare loop."""
    with tempfile.TemporaryDirectory() as temporary:
        place = (work or Path(temporary)).absolute()
        drawn = draw(place / "drawn")
        mar = pack(MODEL, "1.0", place / "store") if not (place / "store").exists() else next(place.glob("store/*.mar"))
        result = {"benchmark": "reports", "cores": cores(), "photos": count, **compare(place, drawn, mar, count)}
        if kills:
            result |= killed(place, drawn, mar, kills)
    write_json(RESULT, result)
    click.echo("| measure | value |\n|---|---|")
    for key, value in result.items():
        click.echo(f"| {key.replace('_', ' ')} | {value} |")
    click.echo(json.dumps(result))


def draw(folder: Path) -> list[Path]:
    """About a thousand different photos."""
    words = [str(folder), "--regions", "34", "--institutions", "1", "--weeks", "10", "--photos", "3"]
    sample_data.main(words, standalone_mode=False)
    return sorted(folder.glob("photos/*/*.jpg"))


def compare(place: Path, drawn: Sequence[Path], mar: Path, count: int) -> dict[str, Any]:
    """The bare loop, the job on `count` photos, and the bare loop; together the loops take at most MOST_BARE photos."""
    photos = list(islice(cycle(drawn), count))
    half = min(count, MOST_BARE) // 2
    before = bare_loop(place, mar, photos[:half])
    samples = score(manifest(place / "all.csv", photos), mar, place / "scores", max(20, min(PART, count // 50)))
    after = bare_loop(place, mar, photos[-half:])
    bare, bare_computing = (2 * half / (before[index] + after[index]) for index in (0, 1))
    first, last = samples[0], next(one for one in samples if one.photos == samples[-1].photos)
    done = last.photos - first.photos
    rate, per_computing = done / (last.seconds - first.seconds), done / (last.computing - first.computing)
    return {
        "bare_per_second": round(bare, 1),
        "score_per_second": round(rate, 1),
        "ratio": round(rate / bare, 3),
        "bare_per_second_of_computing": round(bare_computing, 1),
        "score_per_second_of_computing": round(per_computing, 1),
        "ratio_of_computing": round(per_computing / bare_computing, 3),
        "core_hours_per_million": round(1e6 / 3600 / per_computing, 2),
        "memory_mb": round(max(one.memory for one in samples) / 1e6),
        "memory_mb_by_fifth": by_fifth(complete(samples)),
        "memory_slope_mb_per_10000": slope(complete(samples)),
    }


def manifest(path: Path, photos: Sequence[Path]) -> Path:
    """A manifest that lists the photos, each under its own id."""
    rows = [
        {
            "photo_id": f"p{number}",
            "path": str(photo),
            "institution": f"school {number % 997}",
            "region": photo.parent.name,
            "published_at": "2022-03-14",
        }
        for number, photo in enumerate(photos)
    ]
    write_csv(path, tuple(rows[0]), rows)
    return path


def bare_loop(place: Path, mar: Path, photos: Sequence[Path]) -> tuple[float, float]:
    """One process of `bare.py` per core: the seconds of the slowest loop, and the seconds of computing of all loops."""
    with unpacked(mar, place / "unpacked") as model:
        paths = os.pathsep.join((str(model.folder), str(ROOT)))
        environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        environment["CLASSIFIER_THREADS"] = f"{model.name}-{model.version}=1"
        running = []
        for index in range(cores()):
            lists = place / f"bare{index}.txt"
            lists.write_text("\n".join(map(str, photos[index :: cores()])))
            words = [sys.executable, "-P", bare.__file__, str(model.folder), str(lists)]
            running.append(subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True))
        loops = [tuple(map(float, one.communicate()[0].split())) for one in running]
    return max(seconds for seconds, _ in loops), sum(computing for _, computing in loops)


def score(table: Path, mar: Path, out: Path, part: int, *more: str) -> list[Sample]:
    """Run the command; samples from the first written part to the last.

    Raises:
        UserError: it failed.
    """
    words = [sys.executable, "-m", "reports", "score", str(table), "--archive", str(mar), "--out", str(out)]
    samples: list[Sample] = []
    with out.with_suffix(".log").open("w") as log:
        process = subprocess.Popen([*words, "--part", str(part), *more], cwd=ROOT, stdout=log, stderr=log)
        while process.poll() is None:
            done = len(list((out / "parts").glob("0*.parquet")))
            if done:
                samples += sampled(process.pid, done * part)
            time.sleep(INTERVAL)
    if process.returncode:
        raise UserError(f"{' '.join(words)} failed: {out.with_suffix('.log').read_text()[-500:]}")
    return samples


def sampled(launcher: int, photos: int) -> list[Sample]:
    """A sample of a process and its children; none if workers have ended."""
    seconds, computing, memory = time.perf_counter(), 0.0, 0
    try:
        children = psutil.Process(launcher).children(recursive=True)
        if len(children) < cores():  # the workers are ending
            return []
        for process in (psutil.Process(launcher), *children):
            times = process.cpu_times()
            computing += times.user + times.system
            memory += allocated(process.pid)
    except psutil.NoSuchProcess:
        return []
    return [Sample(photos, seconds, computing, memory, 1 + len(children))]


def allocated(pid: int) -> int:
    """What a process has allocated, without the files that it maps.

    Raises:
        psutil.NoSuchProcess: it has ended.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError as error:
        raise psutil.NoSuchProcess(pid) from error
    found = re.search(r"^RssAnon:\s*(\d+) kB$", status, re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def complete(samples: Sequence[Sample]) -> list[Sample]:
    """The samples of all processes: the first ones lack the decoders, and the last ones workers that have ended."""
    most = max(one.processes for one in samples)
    return [one for one in samples if one.processes == most]


def by_fifth(samples: Sequence[Sample]) -> list[float]:
    """The mean memory of each fifth of the samples, in megabytes; of fewer than five samples nothing."""
    fifths = np.array_split([one.memory / 1e6 for one in samples], 5)
    return [round(float(part.mean()), 1) for part in fifths if len(samples) >= 5]


def slope(samples: Sequence[Sample]) -> float | None:
    """Megabytes per 10,000 photos in the second half; None: too few samples."""
    later = samples[len(samples) // 2 :]
    if len(later) < 3:
        return None
    line = np.polyfit([one.photos / 10_000 for one in later], [one.memory / 1e6 for one in later], 1)
    return round(float(line[0]), 2)


def killed(place: Path, drawn: Sequence[Path], mar: Path, kills: int) -> dict[str, Any]:
    """Kill a job again and again, score the same photos with Ray, and compare the rows with those of a quiet job."""
    rng = random.Random(0)
    table = manifest(place / "some.csv", list(islice(cycle(drawn), PER_KILL * kills)))
    score(table, mar, place / "undisturbed", 20)
    out, happened = place / "killed", 0
    words = [sys.executable, "-m", "reports", "score", str(table), "--archive", str(mar), "--out", str(out)]
    for _ in track(range(kills), "killing", console=err_console, transient=True):
        with subprocess.Popen([*words, "--part", "20"], cwd=ROOT, stdout=-3, stderr=-3) as process:
            try:
                process.wait(rng.uniform(0.5, 8))
            except subprocess.TimeoutExpired:
                happened += 1
                process.kill()
    score(table, mar, out, 20)
    undisturbed = rows_of(place / "undisturbed")
    if undisturbed != rows_of(out):
        raise UserError(f"the rows differ after {number_of(happened, 'kill')}")
    result = {"kills": happened, "rows_after_kills": len(undisturbed), "rows_equal": True}
    if find_spec("ray"):
        score(table, mar, place / "ray", 20, "--engine", "ray")
        result["ray_rows_equal"] = undisturbed == rows_of(place / "ray")
    return result


def rows_of(scores: Path) -> pa.Table:
    """All rows, without the time at which they were made."""
    return read_parts(read_job(scores)).drop_columns(["scored_at"])


if __name__ == "__main__":
    main()
