"""Classify every photo of a manifest with the code inside an archive: no server, no HTTP.

    python -m reports score posts.csv --archive model_store/classroom-1.0.mar --out scores/march

writes scores/march/parts/00000.parquet ..., 2,000 photos each. If it is interrupted or killed, run it again to
continue. A photo that cannot be classified is a row with an error code.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import click
import pyarrow as pa
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from common.cli import command
from common.commands import next_step
from common.console import err_console, say
from common.errors import InvalidInput
from common.words import number_of
from deploy.store.profile import cores
from reports.check import refused, show
from reports.manifest.checking import Check
from reports.manifest.folders import PATTERN
from reports.manifest.opening import open_manifest
from reports.scoring import fetching, worker
from reports.scoring.archives import Model, unpacked
from reports.scoring.cluster import Cluster
from reports.scoring.job import Job, create_job, read_job, require_same
from reports.scoring.lock import beside, locked
from reports.scoring.schema import PART
from reports.scoring.workers import Pool


@command(
    epilog="Example: python -m reports score drawn/manifest.csv --archive model_store/classroom-1.0.mar --out scores/1"
)
@click.argument("manifest", type=click.Path(path_type=Path))
@click.option("--archive", "mar", required=True, type=click.Path(path_type=Path), help="NAME-VERSION.mar")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the scores.")
@click.option(
    "--jobs",
    show_default="one per core",
    type=click.IntRange(1, 4096),
    help="Worker processes.",
)
@click.option("--pattern", default=PATTERN, show_default=True, help="File names of a folder, without extension.")
@click.option("--published-at", default="", help="Date of all photos of a folder.  [default: of each file]")
@click.option(
    "--connections", default=8, show_default=True, type=click.IntRange(1, 256), help="Remote photos fetched at a time."
)
@click.option(
    "--fetch-seconds",
    default=20.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Time for a remote photo.",
)
@click.option("--part", default=PART, show_default=True, type=click.IntRange(1, 100_000), help="Photos of a part.")
@click.option("--allow-host", multiple=True, help="Host in a private network that photos may come from.")
@click.option(
    "--engine", default="local", show_default=True, type=click.Choice(["local", "ray"]), help="ray: for many machines."
)
@click.option("--ray-address", help="Running cluster: auto, or HOST:PORT.  [default: start one here, on loopback]")
def score(
    manifest: Path, mar: Path, out: Path, jobs: int | None, pattern: str, published_at: str, connections: int,
    fetch_seconds: float, part: int, allow_host: tuple[str, ...], engine: str, ray_address: str | None,
) -> None:  # fmt: skip
    """Classify the photos of MANIFEST; the scores are Parquet files in --out."""
    if ray_address and engine != "ray":
        raise InvalidInput("--ray-address is only for --engine ray", "add --engine ray")
    with locked(out), unpacked(mar, beside(out, "archive")) as model:
        job = _job(out, manifest, open_manifest(manifest, pattern, published_at), model, part)
        limits = fetching.Limits(model.limit, fetch_seconds, frozenset(allow_host))
        if missing := job.missing():
            if engine == "ray":
                with Cluster(mar, limits, connections, jobs, ray_address) as cluster:
                    run_on(cluster, job, missing)
            else:
                fetch = partial(fetching.fetch, limits=limits)
                with Pool(model.folder, model.name, model.version, jobs or cores(), fetch, connections) as pool:
                    run(job, missing, pool)
    codes = error_codes(job)
    size = f"{number_of(job.photos, 'photo')} in {number_of(job.parts, 'part')}"
    say(f"{out}: {size}, scored by {model} ({model.digest[:12]})")
    if codes:
        say("errors: " + ", ".join(f"{count} {code}" for code, count in codes.most_common()))
    next_step("reports", "build", out, "--out", "site")


def _job(out: Path, manifest: Path, check: Check, model: Model, part: int) -> Job:
    if (out / "job.json").exists():
        job = read_job(out)
        require_same(job, model, manifest)
        job.clear_left_over()
        return job
    job_or_none = create_job(out, manifest, check, model, part)
    if job_or_none is None:
        show(check.findings)
        raise refused(manifest, check.findings)
    return job_or_none


def run(job: Job, missing: list[int], pool: Pool) -> None:
    """Score the missing parts and write each when its last row is there."""
    with progress() as bar:
        ahead: list[pa.Table] = []
        results = pool.results(_tasks(job, missing, ahead))
        shown = _scoring(bar, job, missing)
        for index in missing:
            collected: list[worker.Result] = []
            while not ahead or len(collected) < len(ahead[0]):
                collected.append(next(results))
                bar.advance(shown)
            job.write_part(index, ahead.pop(0), collected)


def run_on(cluster: Cluster, job: Job, missing: list[int]) -> None:
    """Score the missing parts on a cluster and write each when it arrives."""
    with progress() as bar:
        shown = _scoring(bar, job, missing)
        for index, results in cluster.results(job, missing):
            job.write_part(index, job.rows(index), results)
            bar.advance(shown, len(results))


def _tasks(job: Job, missing: Iterable[int], ahead: list[pa.Table]) -> Iterator[worker.Task]:
    for index in missing:
        rows = job.rows(index)
        ahead.append(rows)
        yield from (worker.Task(source.as_py()) for source in rows["source"])


def _scoring(bar: Progress, job: Job, missing: list[int]) -> TaskID:
    before = job.photos - _count(job, missing)
    return bar.add_task("scoring", total=job.photos, completed=before, before=before)


def _count(job: Job, parts: Iterable[int]) -> int:
    return sum(min(job.part, job.photos - index * job.part) for index in parts)


def error_codes(job: Job) -> Counter[str]:
    """Error code -> photos, of all parts."""
    codes: Counter[str] = Counter()
    for index in range(job.parts):
        codes.update(job.read(index, ["error_code"])["error_code"].to_pylist())
    del codes[""]
    return codes


class _Rate(ProgressColumn):
    """Photos a second since the command began."""

    def render(self, task: Task) -> Text:
        done = task.completed - task.fields["before"]
        return Text(f"{done / max(task.elapsed or 0, 1e-3):.0f} photos/s")


def progress() -> Progress:
    """A bar with photos, photos a second and the time left, on stderr."""
    count = TextColumn("{task.completed:.0f} of {task.total:.0f}")
    return Progress(
        TextColumn("{task.description}"), BarColumn(), count, _Rate(), TimeRemainingColumn(), console=err_console
    )
