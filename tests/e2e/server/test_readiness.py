"""Readiness with a real TorchServe: a model that answers one photo slowly is ready, one without a worker is not."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from benchmarks.harness.versions import rewrite
from deploy.archive import pack
from deploy.host.processes import alive
from deploy.store.mar import served_version
from deploy.supervision.readiness import Readiness
from deploy.supervision.reconcile import observe
from deploy.torchserve.process import Server
from tests.helpers.endpoint import Endpoint
from tests.helpers.nodes import in_handle
from tests.helpers.waiting import eventually

SLOW = 'time.sleep(8 * any(b"slow" in str(row).encode() for row in data))'
BUSY_S = 3.0


@pytest.fixture
def slow(server: Server, bundle: Path, tmp_path: Path) -> Iterator[Endpoint]:
    """A version that takes 8 s for a request with the text "slow" in it."""
    mar = pack(bundle, "7.7", tmp_path)
    rewrite(mar, in_handle(SLOW))
    stored = Path(shutil.copy(mar, server.settings.store))
    server.client.register(stored.name, "slow")
    yield Endpoint(server, "slow", bundle)
    server.client.unregister("slow", "7.7")
    stored.unlink()


def readiness(server: Server, tmp_path: Path, busy_s: float) -> Readiness:
    """Of the slow version; observes its workers as the keeper does."""
    entry: Any = served_version(tmp_path / "shapes-7.7.mar")

    class Reconciler(SimpleNamespace):
        @property
        def models(self) -> dict[str, Any]:
            return {"slow": observe(server.client, "slow")}

    named = SimpleNamespace(name="slow", archive=entry.archive, digest=entry.digest)
    running = Readiness(server.settings, Reconciler(entries=[named], missing=[], repairing=False, warnings={}), busy_s)  # type: ignore[arg-type]
    running.note("")
    return running


def test_one_slow_photo_leaves_the_node_ready_and_a_dead_worker_does_not(
    server: Server, slow: Endpoint, tmp_path: Path
) -> None:
    patient, impatient = (readiness(server, tmp_path, busy_s) for busy_s in (30.0, BUSY_S))
    assert patient.answer()["ready"] and impatient.answer()["ready"]
    asking = threading.Thread(target=lambda: slow.post(json={"image_id": "slow", "image_base64": slow.text_of(0)}))
    asking.start()
    seen = [patient.answer()]
    eventually(lambda: not impatient.answer()["ready"])
    while asking.is_alive():
        seen.append(patient.answer())
        asking.join(0.2)
    assert {answer["ready"] for answer in seen} == {True}
    assert ["slow"] in [answer["busy"] for answer in seen]
    eventually(lambda: impatient.answer()["ready"])
    (worker,) = (server.client.describe("slow") or {})["workers"]
    psutil.Process(worker["pid"]).kill()
    eventually(lambda: not alive(psutil.Process(worker["pid"])) if psutil.pid_exists(worker["pid"]) else True)
    assert eventually(lambda: not patient.answer()["ready"], 10)
    eventually(lambda: patient.answer()["ready"])
