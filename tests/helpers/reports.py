"""Score manifests in a test: a pool of one worker that all tests of a file share, and rows that can be compared."""

import csv
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.settings import ROOT
from reports.manifest.opening import open_manifest
from reports.score import run
from reports.scoring.archives import Model, unpacked
from reports.scoring.job import Job, create_job, read_parts
from reports.scoring.workers import Fetch, Pool
from tests.helpers.light import pack_quickly, write_coloured_photos, write_light_bundle
from tests.helpers.running.forked import start_forked

HEADER = "photo_id,path,url,institution,region,published_at\n"
PART = 8


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
