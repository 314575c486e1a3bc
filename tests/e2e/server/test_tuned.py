"""A profile reaches a real TorchServe: workers, batches, and the threads in its workers' environment."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from deploy.host.processes import wait_until_gone
from deploy.settings import ROOT, read_settings, separate_environment
from deploy.store import profile
from deploy.store.mar import served_version
from deploy.store.profile import ServingOptions
from deploy.torchserve.probes import example
from deploy.torchserve.process import Server
from tests.helpers.commands import command
from tests.helpers.endpoint import batches_logged
from tests.helpers.light import pack_quickly, write_light_bundle


def test_a_rollout_applies_a_profile(tmp_path: Path) -> None:
    mar = pack_quickly(write_light_bundle(tmp_path / "light"), "1.0", tmp_path / "store")
    env = {**separate_environment(tmp_path / "var", mar.parent), "SERVE_PROFILE": "throughput"}
    settings = read_settings(env)
    settings.var.mkdir()
    (settings.var / "deploying.lock").touch()
    profile.write(settings, served_version(mar), {"throughput": ServingOptions(2, 1, 4, 5)})
    with Server(settings) as server:
        command("deploy", "rollout", mar.name, env=env)  # sends every golden photo
        described = server.client.describe("shapes", "1.0") or {}
        assert (described["batchSize"], described["maxBatchDelay"]) == (4, 5)
        workers = [psutil.Process(worker["pid"]) for worker in described["workers"]]
        assert [worker.environ()[profile.THREADS] for worker in workers] == ["shapes-1.0=1"] * 2
        assert "ready with 1 thread(s)" in (server.logs / "model_log.log").read_text()


def test_by_default_two_waiting_requests_are_a_batch_and_no_request_waits_for_another(server: Server) -> None:
    described = server.client.describe("classroom", "1.0") or {}
    assert (described["batchSize"], described["maxBatchDelay"]) == (2, 0)
    before = batches_logged(server)
    body = example(server.settings.store / "classroom-1.0.mar").body
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: server.client.predict("classroom", body), range(24)))
    assert {answer.json()["result"] for answer in answers} == {answers[0].json()["result"]}
    assert batches_logged(server) - before >= 4


def test_a_stopped_tune_leaves_no_server_behind(tmp_path: Path) -> None:
    mar = pack_quickly(write_light_bundle(tmp_path / "light"), "1.0", tmp_path / "store")
    environment = {**separate_environment(tmp_path / "var", mar.parent), "TMPDIR": str(tmp_path)}
    words = [sys.executable, "-m", "deploy", "tune", mar.name, "--quick"]
    tuning = subprocess.Popen(words, cwd=ROOT, env={**os.environ, **environment}, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("tune-*/var/torchserve.pgid")):
        assert tuning.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    started = psutil.Process(tuning.pid).children(recursive=True)
    tuning.send_signal(signal.SIGTERM)
    assert tuning.wait(60) == 1
    assert started and not wait_until_gone(started, 1)
    assert not list(tmp_path.glob("tune-*")) and not (tmp_path / "var" / profile.FILE).exists()
