"""The benchmarks on a real TorchServe: five swaps under constant load lose nothing; `compare` measures our server."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.harness.commands import sleep_until
from benchmarks.harness.server import MeasuredServer, measured_server
from benchmarks.harness.versions import relaxed
from common.errors import UserError
from deploy.clients.load import Load, Result
from deploy.settings import ROOT
from deploy.store.mar import read_manifest
from handler import goldens
from tests.helpers.light import pack_quickly
from tests.helpers.running.forked import run_forked

SWAPS = 5
RATE = 8.0  # a queue of 100 is full when a worker does not answer for 12 s: other tests use the same cores


@pytest.fixture(scope="module")
def versions(light: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The archives; not refused for their latency, which other tests on the same cores disturb."""
    work = tmp_path_factory.mktemp("swaps")
    bundle = relaxed(light, work / "bundle")
    return [pack_quickly(bundle, f"1.{number}", work / "store") for number in range(SWAPS + 1)]


@pytest.fixture(scope="module")
def bench(versions: list[Path], light: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MeasuredServer]:
    golden = goldens.read(light)[0]
    with measured_server(
        tmp_path_factory.mktemp("swaps-var"), versions[0], (light / golden.photo).read_bytes()
    ) as running_one:
        assert running_one.expected == golden.label
        yield running_one


@pytest.fixture(scope="module")
def loaded(bench: MeasuredServer, versions: list[Path]) -> Result:
    """A load that begins before the first swap and ends after the last."""
    return bench.through_swaps(versions[1:], 1.0, RATE, bench.roll_out)


def test_no_request_is_lost_or_answered_wrongly(loaded: Result) -> None:
    assert loaded.sent > 50
    assert loaded.statuses == {200: loaded.sent}
    assert (loaded.unanswered, loaded.lost, loaded.wrong) == (0, 0, 0)


def test_answers_move_from_version_to_version_in_order(loaded: Result, versions: list[Path]) -> None:
    assert list(loaded.versions) == [read_manifest(mar).version for mar in versions]
    assert loaded.stale == 0


def test_each_version_is_registered_and_unregistered_once(
    bench: MeasuredServer, loaded: Result, versions: list[Path]
) -> None:
    registrations = bench.seen()
    assert loaded.sent
    assert registrations["journal"] == registrations["log"] == {"registered": SWAPS, "unregistered": SWAPS}
    assert registrations["left"] == [read_manifest(versions[-1]).version]
    assert [mar.is_file() for mar in versions] == [True] * len(versions)  # unregistering leaves the store alone


def test_a_naive_swap_is_reported_to_lose_requests(bench: MeasuredServer, loaded: Result, versions: list[Path]) -> None:
    """The control: a version is deleted while its queue is full, and the load must report the loss."""
    client, name = bench.client, bench.name
    last, first = (read_manifest(mar).version for mar in (versions[-1], versions[0]))
    client.register(versions[0].name, name)
    url = f"{bench.load(clients=1).plan.url}/{last}"
    slow = {"data": [bench.body] * 16}  # with single small photos one generator could not fill the queue
    with Load(url, bench.settings.var, slow, clients=40, limit_s=3) as load:
        sleep_until(load.begun + 1)
        client.set_default(name, first)
        with contextlib.suppress(UserError):  # TorchServe sometimes fails on its own full queue
            client.unregister(name, last)
        result = load.stop()
    assert result.unanswered > 0


@pytest.mark.skipif(not shutil.which("wrk"), reason="wrk is not installed")
def test_ours_is_measured_without_an_error_and_docs_stay_unchanged(tmp_path: Path) -> None:
    before = (ROOT / "docs" / "benchmarks.md").read_bytes()
    words = ["benchmarks.compare", "--systems", "ours", "--quick", "--out", str(tmp_path)]
    done = run_forked(words, ROOT, os.environ)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "compare.json").read_text())
    assert report["absent"] == {}
    ours = report["systems"]["ours"]
    for load in ("one", "eight", "half", "big"):
        assert ours[load]["errors"] == 0, load
        assert ours[load]["p50_ms"]["median"] > 0, load
    assert ours["memory_mb"]["median"] > 100
    assert (tmp_path / "compare.png").is_file()
    assert (ROOT / "docs" / "benchmarks.md").read_bytes() == before
