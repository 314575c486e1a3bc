"""Scoring with Ray: the rows of the local engine, nothing open to the network, and a killed job goes on."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from common.errors import UserError
from deploy.settings import ROOT
from reports.scoring.cluster import Cluster
from reports.scoring.fetching import Limits
from reports.scoring.job import Job, read_job
from tests.helpers.commands import command
from tests.helpers.reports import PART, killed_when, rows
from tests.helpers.s3 import free_port
from tests.helpers.waiting import eventually

pytestmark = pytest.mark.slow
TOKEN = "6" * 64


@pytest.fixture(autouse=True)
def _needs_ray() -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements/ray.txt")


def test_ray_gives_the_same_rows_listens_on_loopback_only_and_leaves_nothing(
    manifest: Path, mar: Path, scores: Job, tmp_path: Path
) -> None:
    words = ["score", manifest, "--archive", mar, "--out", tmp_path / "s", "--part", PART, "--engine", "ray"]
    program = [sys.executable, "-m", "reports", *map(str, [*words, "--jobs", 1])]
    listening: set[str] = set()
    environment = {**os.environ, "TMPDIR": str(tmp_path), "HOME": str(tmp_path)}
    with subprocess.Popen(program, cwd=ROOT, stdout=-1, stderr=-2, text=True, env=environment) as running:
        while running.poll() is None:
            listening |= addresses(running.pid)
            time.sleep(0.1)
        assert running.returncode == 0, running.stdout and running.stdout.read()
    assert rows(read_job(tmp_path / "s")) == rows(scores)
    assert listening == {"127.0.0.1"}
    assert {path.name for path in tmp_path.iterdir()} <= {"s", ".s.lock", ".ses", ".cache"}  # no .ray with a token
    assert not Path(f"/tmp/photoloop-ray-{running.pid}").exists()


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        (f"127.0.0.1:{free_port()}", "no Ray cluster answers at 127.0.0.1:[0-9]+: Connection refused: correct"),
        ("127.0.0.1", "is not an address: write HOST:PORT, or auto"),
        ("127.0.0.1:port", "is not an address: write HOST:PORT, or auto"),
    ],
)
def test_a_wrong_address_is_one_line_at_once(address: str, problem: str, mar: Path) -> None:
    started = time.monotonic()
    with pytest.raises(UserError, match=problem):
        Cluster(mar, Limits(1000), 1, None, address)
    assert time.monotonic() - started < 5


def addresses(launcher: int) -> set[str]:
    """Where a process and its children listen."""
    found: set[str] = set()
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in psutil.Process(launcher).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                found |= {
                    one.laddr.ip.removeprefix("::ffff:")
                    for one in process.net_connections("inet")
                    if one.status == "LISTEN"
                }
    return found


@pytest.fixture
def head(tmp_path: Path) -> Iterator[str]:
    """The address of a cluster of one machine, started with a token as docs/reports.md says."""
    port, folder, log = free_port(), Path(f"/tmp/photoloop-head-{os.getpid()}"), tmp_path / "head.log"
    words = f"start --head --block --port {port} --node-ip-address 127.0.0.1 --include-dashboard=false --num-cpus 1"
    more = ["--object-store-memory", str(100 * 2**20), "--temp-dir", str(folder)]
    names = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    names |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    program = [str(Path(sys.executable).with_name("ray")), *words.split(), *more]
    with (
        log.open("w") as output,
        subprocess.Popen(program, cwd=tmp_path, env={**os.environ, **names}, stdout=output, stderr=output) as running,
    ):
        try:
            eventually(lambda: has_started(running, log))
            yield f"127.0.0.1:{port}"
        finally:
            family = psutil.Process(running.pid).children(recursive=True)
            running.terminate()
            for process in psutil.wait_procs(family, timeout=10)[1]:
                process.kill()
            shutil.rmtree(folder, ignore_errors=True)


def has_started(running: "subprocess.Popen[bytes]", log: Path) -> bool:
    assert running.poll() is None, log.read_text()
    return "Ray runtime started" in log.read_text()


def test_a_job_on_a_running_cluster_needs_its_token_is_killed_and_goes_on(
    head: str, manifest: Path, mar: Path, scores: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "s"
    words = ["score", manifest, "--archive", mar, "--out", out, "--part", 2, "--engine", "ray"]
    program = [*map(str, [*words, "--ray-address", head, "--jobs", 1])]
    refused = command("reports", *program, env={"RAY_NUM_REDIS_GET_RETRIES": "1"}, check=False)
    assert refused.returncode == 1
    assert f"no Ray cluster at {head} accepts this command" in refused.stderr
    assert "set RAY_AUTH_MODE=token and its RAY_AUTH_TOKEN" in refused.stderr
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    (tmp_path / "tmp").mkdir()
    killed_when(lambda: len(list((out / "parts").glob("0*.parquet"))) >= 2, program, tmp_path / "tmp")
    left = read_job(out)
    assert left.missing()
    before = {path: path.stat().st_mtime_ns for path in (out / "parts").glob("0*.parquet")}
    command("reports", *program)
    assert rows(left) == rows(scores)
    assert {path: path.stat().st_mtime_ns for path in before} == before  # what was written is not scored again
