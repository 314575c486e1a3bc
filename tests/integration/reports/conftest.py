"""The job that the tests of scoring share: its photos, archive, worker and undisturbed rows."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reports.scoring.archives import Model
from reports.scoring.fetching import Limits, fetch
from reports.scoring.job import Job
from reports.scoring.workers import Pool
from tests.helpers.reports import coloured_manifest, light_archive, pool_of, scored


@pytest.fixture(scope="package")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scoring")


@pytest.fixture(scope="package")
def mar(work: Path) -> Path:
    return light_archive(work)


@pytest.fixture(scope="package")
def manifest(work: Path) -> Path:
    return coloured_manifest(work / "photos")


@pytest.fixture(scope="package")
def started(work: Path, mar: Path) -> Iterator[tuple[Model, Pool]]:
    """One worker process for all tests that do not start their own."""
    limits = Limits(10 * 2**20, seconds=60, allowed=frozenset({"127.0.0.1"}))
    short = replace(limits, seconds=0.5)
    with pool_of(mar, work / "archive", lambda task: fetch(task, short if "slow" in task.path else limits)) as both:
        yield both


@pytest.fixture(scope="package")
def scores(work: Path, manifest: Path, started: tuple[Model, Pool]) -> Job:
    """An undisturbed job."""
    return scored(manifest, work / "undisturbed", *started)
