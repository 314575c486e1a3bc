"""Scores in a test: made by a pool of one worker that all tests of a file share, or written without a model."""

import csv
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.parquet as pq

from common.files import write_json
from deploy.settings import ROOT
from reports.manifest.opening import open_manifest
from reports.score import run
from reports.scoring.archives import Model, unpacked
from reports.scoring.job import Job, create_job, read_job, read_parts
from reports.scoring.schema import part_schema
from reports.scoring.workers import Fetch, Pool
from tests.helpers.feedback import jpeg
from tests.helpers.light import pack_quickly, write_coloured_photos, write_light_bundle
from tests.helpers.running.forked import start_forked

HEADER = "photo_id,path,url,institution,region,published_at\n"
PART = 8
LABELS = ("room", "call")
MONDAY = datetime(2022, 3, 7, 4, tzinfo=UTC)


def table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def rows(made: Job) -> list[dict[str, Any]]:
    """All rows of a job, without the time at which they were made."""
    return [{**row, "scored_at": None} for row in read_parts(made).to_pylist()]


def scored(manifest: Path, out: Path, model: Model, pool: Pool, part: int = PART) -> Job:
    """Score a manifest in this process."""
    made = create_job(out, manifest, open_manifest(manifest), model, part)
    assert made
    run(made, made.missing(), pool)
    return made


def coloured_manifest(folder: Path) -> Path:
    """A manifest of 39 photos of plain colours, of which one is damaged, one is empty and one is missing."""
    paths = sorted(path.relative_to(folder) for path in write_coloured_photos(folder).rglob("*.jpg"))
    whole = (folder / paths[0]).read_bytes()
    (folder / "damaged.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    names = [*map(str, paths), "damaged.jpg", "empty.jpg", "missing.jpg"]
    lines = [f"p{number},{name},,s{number % 3},BJ,2022-03-{number % 28 + 1:02d}\n" for number, name in enumerate(names)]
    (folder / "manifest.csv").write_text(HEADER + "".join(lines), encoding="utf-8")
    return folder / "manifest.csv"


def light_archive(folder: Path) -> Path:
    """An archive that tells red, green and blue photos apart."""
    return pack_quickly(write_light_bundle(folder / "light"), "1.0", folder / "store")


@contextmanager
def pool_of(mar: Path, folder: Path, fetch: Fetch | None = None) -> Iterator[tuple[Model, Pool]]:
    """One worker process."""
    with unpacked(mar, folder) as model, Pool(model.folder, model.name, model.version, 1, fetch, 4) as running:
        yield model, running


def killed_when(reached: Callable[[], bool], words: list[str], temporary: Path) -> None:
    """Run a command of reports, and kill it when something is reached.

    Args:
        temporary: its TMPDIR.
    """
    with start_forked(["reports", *words], ROOT, {**os.environ, "TMPDIR": str(temporary)}) as running:
        while not reached():
            assert running.poll() is None
            time.sleep(0.001)
        running.kill()


def photo_of(number: int) -> bytes:
    """The bytes of a photo of `job_of`."""
    return jpeg(number, side=48)


def job_of(folder: Path, count: int = 40, **more: Sequence[Any]) -> Job:
    """Scores of photos that exist, half of them answered `call`. Each keyword is a column."""
    (folder / "parts").mkdir(parents=True)
    for number in range(count):
        (folder / f"{number}.jpg").write_bytes(photo_of(number))
    columns = {
        "photo_id": [f"p{number}" for number in range(count)],
        "source": [str(folder / f"{number}.jpg") for number in range(count)],
        "published_at": [MONDAY + timedelta(days=number % 14) for number in range(count)],
        "sha256": [hashlib.sha256(photo_of(number)).hexdigest() for number in range(count)],
        "label": [LABELS[number % 2] for number in range(count)],
        **more,
    }
    same = {"institution": "x", "region": "BJ", "confidence": 0.9, "unsure": False, "in_scope": True, "scope": 0.9}
    same |= {"error_code": "", "model_digest": "d" * 64, "bytes": 1000, "brightness": 99.0}
    rows = [{**same, **dict(zip(columns, cells, strict=True))} for cells in zip(*columns.values(), strict=True)]
    pq.write_table(pa.Table.from_pylist(rows, part_schema((), LABELS)), folder / "parts" / "00000.parquet")
    facts = {"model": "m", "version": "1", "digest": "d" * 64, "labels": LABELS, "manifest": "m.csv", "extra": ()}
    write_json(folder / "job.json", {**facts, "manifest_digest": "m", "photos": count, "created": "", "part": count})
    return read_job(folder)


def invoke(program: click.Command, *words: object) -> None:
    """Run a command in this process."""
    program.main([str(word) for word in words], standalone_mode=False)
