"""Build a report of a million scored photos: seconds, and the peak of the memory.

    python -m benchmarks.reports.million [--count 1000000] [--work FOLDER]

The scores are synthetic and written as Parquet without photos: institutions of 34 regions move in some week of 20, some
photos are posted twice, some have errors or are out of scope. Prints one JSON line, and writes it to
runs/benchmarks/reports_million.json.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from common.cli import command
from common.errors import UserError
from common.files import write_json
from deploy.settings import ROOT
from reports.manifest.regions import REGIONS
from reports.scoring.schema import PART, part_schema

RESULT = ROOT / "runs" / "benchmarks" / "reports_million.json"
LABELS = ("offline", "online")
WEEKS, POSTS = 20, 10  # posts of an institution in a week
_FIRST = int(datetime(2022, 2, 28, 1, tzinfo=UTC).timestamp())


@command(epilog="Example: python -m benchmarks.reports.million --count 10000")
@click.option("--count", default=1_000_000, show_default=True, type=click.IntRange(1000), help="Photos.")
@click.option("--work", type=click.Path(file_okay=False, path_type=Path), help="Keep the scores in this folder.")
def main(count: int, work: Path | None) -> None:
    """Write synthetic scores of COUNT photos, then build their report."""
    with tempfile.TemporaryDirectory() as temporary:
        place = (work or Path(temporary)).absolute()
        if not (place / "scores" / "job.json").exists():
            write_scores(place / "scores", count)
        row = {"benchmark": "reports_million", "photos": count, **build(place / "scores", place / "site")}
    write_json(RESULT, row)
    click.echo(json.dumps(row))


def write_scores(folder: Path, count: int) -> None:
    """A complete folder of scores; no photo and no manifest exists."""
    (folder / "parts").mkdir(parents=True)
    rng = np.random.default_rng(0)
    schema = part_schema((), LABELS)
    parts = -(-count // PART)
    for part in range(parts):
        numbers = np.arange(part * PART, min(count, (part + 1) * PART))
        pq.write_table(_rows(numbers, rng, schema), folder / "parts" / f"{part:05d}.parquet", compression="zstd")
    facts = {"model": "classroom", "version": "1.0", "digest": "0" * 64, "labels": LABELS, "manifest": "synthetic.csv"}
    sizes = {"manifest_digest": "0" * 64, "extra": (), "photos": count, "created": "2022-07-18", "part": PART}
    write_json(folder / "job.json", {**facts, **sizes})


def _rows(numbers: np.ndarray, rng: np.random.Generator, schema: pa.Schema) -> pa.Table:
    size = len(numbers)
    place = numbers // POSTS
    institution, week = place // WEEKS, place % WEEKS
    region = institution % len(REGIONS)
    moved = 3 + (institution * 7919) % 14
    online = (week >= moved) & (week < moved + 8)
    answered = np.where(rng.random(size) < 0.97, online, ~online)
    failed, outside = rng.random(size) < 0.005, rng.random(size) < 0.03
    digests = rng.bytes(32 * size).hex()
    sha = [digests[64 * index : 64 * index + 64] for index in range(size)]
    look = [value[:36] for value in sha]
    for index in np.flatnonzero(rng.random(size) < 0.04)[1:]:
        look[index] = look[index - 1]  # the same picture again
    codes, confidence = list(REGIONS), rng.beta(30, 1, size)
    known = ~failed
    columns = {
        "row": numbers,
        "photo_id": [f"p{number}" for number in numbers],
        "source": [f"s3://posts/{number}.jpg" for number in numbers],
        "institution": [f"school {number}" for number in institution],
        "region": [codes[number] for number in region],
        "region_given": [codes[number] for number in region],
        "published_at": _FIRST + week * 7 * 86400 + rng.integers(0, 6 * 86400, size),
        "sha256": sha,
        "bytes": (2 ** rng.normal(17, 0.6, size)).astype(np.int64),
        "phash": [value if ok else None for value, ok in zip(look, known, strict=True)],
        "brightness": rng.normal(125, 25, size),
        "label": [LABELS[int(yes)] if ok else None for yes, ok in zip(answered, known, strict=True)],
        "confidence": confidence,
        "unsure": confidence < 0.8,
        "in_scope": ~outside,
        "scope": np.where(outside, 0.2, 0.98),
        "error_code": np.where(failed, "corrupt_image", ""),
        "error": np.where(failed, "damaged", ""),
        "model": ["classroom 1.0"] * size,
        "model_digest": ["0" * 64] * size,
        "scored_at": np.full(size, _FIRST),
        "p_offline": np.where(answered, 1 - confidence, confidence),
        "p_online": np.where(answered, confidence, 1 - confidence),
    }
    return pa.table([pa.array(columns[field.name]).cast(field.type) for field in schema], schema=schema)


def build(scores: Path, site: Path) -> dict[str, float]:
    """Build the report in a process of its own."""
    words = [sys.executable, "-m", "reports", "build", str(scores), "--out", str(site)]
    started = time.perf_counter()
    process = subprocess.Popen(words, cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise UserError("photoloop reports build failed", "see above")
    return {
        "seconds": round(time.perf_counter() - started, 1),
        "seconds_of_computing": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mb": round(usage.ru_maxrss / 1000),
        "page_mb": round((site / "index.html").stat().st_size / 1e6, 1),
    }


if __name__ == "__main__":
    main()
