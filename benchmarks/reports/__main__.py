"""Measure `reports score` against the bare loop on the same photos, its memory over time, and what kills cost.

    python -m benchmarks.reports [--count 100000] [--kills 20] [--work FOLDER]

Draws photos, and lists each of them many times. Then in turn, with one process per core: the bare loop (read, decode,
classify; `benchmarks/reports/bare.py`), `reports score`, and the bare loop again. Rates are given per second and per
second of computing, because the latter hardly depends on what else the machine does. The memory is the sum of the
unique sizes of all processes; its slope is that of a line through the last four fifths of the run. Prints Markdown,
then one JSON line, and writes that line to runs/benchmarks/reports.json.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil

from benchmarks.reports import bare
from common.cli import command
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
Usage = dict[str, float]


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
    """The bare loop, the job, and the bare loop, each on `count` photos (the loops on half of them each)."""
    photos = list(islice(cycle(drawn), count))
    before = bare_loop(place, mar, photos[: count // 2])
    job, memory = score(manifest(place / "all.csv", photos), mar, place / "scores", max(20, min(PART, count // 50)))
    after = bare_loop(place, mar, photos[count // 2 :])
    seconds, computing = before["seconds"] + after["seconds"], before["computing"] + after["computing"]
    return {
        "bare_per_second": round(count / seconds, 1),
        "score_per_second": round(count / job["seconds"], 1),
        "ratio": round(seconds / job["seconds"], 3),
        "bare_per_core_second": round(count / computing, 1),
        "score_per_core_second": round(count / job["computing"], 1),
        "ratio_of_computing": round(computing / job["computing"], 3),
        "core_hours_per_million": round(job["computing"] / count * 1e6 / 3600, 2),
        "memory_mb": round(max(size for _, size in memory) / 1e6),
        "memory_slope_mb_per_10000": round(slope(memory), 2),
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


def bare_loop(place: Path, mar: Path, photos: Sequence[Path]) -> Usage:
    """One process of `bare.py` per core. Seconds: of the slowest; computing: of all, with their starts."""
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
        seconds = [float(one.stdout.read()) for one in running if one.stdout]
        return {"seconds": max(seconds), "computing": sum(computing_of(one.pid) for one in running)}


def computing_of(process: int) -> float:
    """Wait for a process; the seconds of computing of it and of its children."""
    _, status, usage = os.wait4(process, 0)
    if status:
        raise UserError(f"a process ended with status {status}")
    return usage.ru_utime + usage.ru_stime


def score(table: Path, mar: Path, out: Path, part: int) -> tuple[Usage, list[tuple[int, float]]]:
    """Run the command. Its seconds are those from the first to the last row, from the times of the parts.

    Returns:
        seconds and computing; and the memory after so many photos.
    """
    words = [sys.executable, "-m", "reports", "score", str(table), "--archive", str(mar), "--out", str(out)]
    log = out.with_suffix(".log").open("w")
    process = subprocess.Popen([*words, "--part", str(part)], cwd=ROOT, stdout=log, stderr=log)
    memory: list[tuple[int, float]] = []
    parts, begun = out / "parts", 0.0
    while not os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        if (done := len(list(parts.glob("*.parquet")))) and begun:
            memory.append((done * part, resident(process.pid)))
        if not begun and len(psutil.Process(process.pid).children()) == cores():
            begun = time.perf_counter()  # the workers start: the rows follow within a second or two
        time.sleep(INTERVAL)
    seconds = time.perf_counter() - begun
    return {"seconds": seconds, "computing": computing_of(process.pid)}, memory or [(0, 0.0)]


def resident(launcher: int) -> float:
    """Unique resident bytes of a process and its children."""
    total = 0.0
    try:
        for process in (psutil.Process(launcher), *psutil.Process(launcher).children(recursive=True)):
            total += process.memory_full_info().uss
    except psutil.NoSuchProcess:
        pass
    return total


def slope(memory: Sequence[tuple[int, float]]) -> float:
    """Megabytes per 10,000 photos."""
    later = np.array(memory[len(memory) // 5 :])
    if len(later) < 3 or np.ptp(later[:, 0]) == 0:
        return float("nan")
    return float(np.polyfit(later[:, 0] / 10_000, later[:, 1] / 1e6, 1)[0])


def killed(place: Path, drawn: Sequence[Path], mar: Path, kills: int) -> dict[str, Any]:
    """Kill a small job again and again; compare its rows with those of an undisturbed one."""
    rng = random.Random(0)
    table = manifest(place / "some.csv", drawn[:400])
    score(table, mar, place / "undisturbed", 20)
    out, happened = place / "killed", 0
    words = [sys.executable, "-m", "reports", "score", str(table), "--archive", str(mar), "--out", str(out)]
    for _ in range(kills):
        with subprocess.Popen([*words, "--part", "20"], cwd=ROOT, stdout=-3, stderr=-3) as process:
            try:
                process.wait(rng.uniform(0.5, 8))
            except subprocess.TimeoutExpired:
                happened += 1
                process.kill()
    score(table, mar, out, 20)
    frames = [read_parts(read_job(folder)).drop_columns(["scored_at"]) for folder in (place / "undisturbed", out)]
    if frames[0] != frames[1]:
        raise UserError(f"the rows differ after {number_of(happened, 'kill')}")
    return {"kills": happened, "rows_after_kills": len(frames[1]), "rows_equal": True}


if __name__ == "__main__":
    main()
