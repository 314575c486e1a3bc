"""The keeper's repairs against a TorchServe of a few lines; with a real one: tests/e2e/test_supervision.py."""

import errno
import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from common.errors import UserError
from deploy.host.locks import Lock, Owner, OwnerKind, deployment_lock
from deploy.settings import Settings, read_settings, separate_environment
from deploy.store import copies, desired
from deploy.store.desired import ServedVersion
from deploy.store.journal import Journal, entries
from deploy.store.mar import digests, identity
from deploy.store.profile import ServingOptions
from deploy.supervision.readiness import Readiness
from deploy.supervision.reconcile import Reconciler
from deploy.supervision.repair_plan import LOST_S

NO_PROCESS = 2**22 + 1  # above the kernel's largest process id


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s


class TorchServe:
    """Versions of one name with their ready workers; records the calls that change something."""

    def __init__(self) -> None:
        self.workers: dict[str, int] = {}
        self.current: str | None = None
        self.calls: list[tuple[Any, ...]] = []
        self.refused: set[str] = set()
        self.starting = 0  # process id of a worker that is not ready

    def ask(self, address: str, method: str, path: str) -> Any:
        starting: list[dict[str, Any]] = [{"status": "UNLOADING", "pid": self.starting}] if self.starting else []
        rows = [{"modelVersion": v, "workers": starting + [{"status": "READY"}] * n} for v, n in self.workers.items()]
        return SimpleNamespace(status_code=200 if rows else 404, ok=bool(rows), json=lambda: rows)

    def default(self, name: str) -> str | None:
        return self.current

    def register(self, archive: str, name: str, how: ServingOptions) -> None:
        version = archive.removeprefix(f"{name}-").removesuffix(".mar")
        self.calls.append(("register", version))
        if version in self.refused:
            raise UserError("TorchServe refused POST /models: no worker")
        self.workers[version] = how.workers
        self.current = self.current or version

    def set_default(self, name: str, version: str) -> None:
        self.calls.append(("default", version))
        self.current = version

    def scale(self, name: str, version: str, workers: int) -> None:
        self.calls.append(("scale", version, workers))
        if workers and version in self.refused:
            raise UserError("TorchServe refused PUT /models: no worker")
        self.workers[version] = workers


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return read_settings(separate_environment(tmp_path / "var", tmp_path / "store"))


@pytest.fixture
def manifest(settings: Settings) -> list[ServedVersion]:
    """2.0 is the default, 1.0 is kept; both lie in the store, and their copies in var."""
    versions = [packed(settings, version, default=version == "2.0") for version in ("2.0", "1.0")]
    desired.write(settings.var, versions)
    return versions


def packed(settings: Settings, version: str, default: bool) -> ServedVersion:
    settings.store.mkdir(exist_ok=True)
    mar = settings.store / f"demo-{version}.mar"
    with zipfile.ZipFile(mar, "w") as archive:
        archive.writestr("model.onnx", version)
    mar.with_suffix(".json").write_text("{}")
    copies.keep_copy(settings.var, mar)
    return ServedVersion("demo", version, mar.name, identity(digests(mar)), default=default)


def keeper(settings: Settings, clock: Clock | None = None) -> tuple[Reconciler, TorchServe]:
    reconciler, torchserve = Reconciler(settings, clock=clock or Clock()), TorchServe()
    reconciler.client = torchserve  # type: ignore[assignment]
    return reconciler, torchserve


@pytest.fixture
def clock() -> Clock:
    return Clock()


def actions(settings: Settings) -> list[tuple[str, str, str]]:
    return [(row.action, row.version, row.state) for row in entries(settings.var)]


def test_after_a_restart_the_default_comes_first(settings: Settings, manifest: list[ServedVersion]) -> None:
    reconciler, torchserve = keeper(settings)
    reconciler.round()
    assert torchserve.calls == [("register", "2.0"), ("register", "1.0")]
    assert torchserve.current == "2.0"
    assert actions(settings) == [("restore", "2.0", "done"), ("restore", "1.0", "done")]
    reconciler.round()
    assert len(torchserve.calls) == 2


def test_the_default_that_a_killed_rollout_set_is_reset_once_and_logged(
    settings: Settings, manifest: list[ServedVersion], capsys: pytest.CaptureFixture[str]
) -> None:
    reconciler, torchserve = keeper(settings)
    torchserve.workers, torchserve.current = {"2.0": 1, "1.0": 1, "3.0": 1}, "3.0"
    dead = Owner(1, "rollout of demo 3.0", "ann", "noon", OwnerKind.ROLLOUT)
    deployment_lock(settings.var).path.write_text(json.dumps(dead.__dict__))
    reconciler.round()
    reconciler.round()
    assert torchserve.calls == [("default", "2.0")]
    assert torchserve.workers["3.0"] == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["what"] for line in lines if line["event"] == "a change of versions died"] == ["rollout of demo 3.0"]


def test_the_kept_version_replaces_a_default_that_cannot_start_until_it_can(
    settings: Settings, manifest: list[ServedVersion], clock: Clock
) -> None:
    reconciler, torchserve = keeper(settings, clock)
    torchserve.refused = {"2.0"}
    reconciler.round()
    assert (torchserve.current, torchserve.workers) == ("1.0", {"1.0": 1})
    (missing,) = reconciler.missing
    assert (missing["name"], missing["version"]) == ("demo", "2.0")
    assert "TorchServe refused POST /models" in missing["why"]
    assert actions(settings)[0] == ("restore", "2.0", "failed")
    torchserve.refused = set()
    reconciler.round()
    assert torchserve.current == "1.0"  # not tried again at once
    clock.s += 11
    reconciler.round()
    assert (torchserve.current, reconciler.missing) == ("2.0", [])


@pytest.mark.slow
def test_failed_repairs_are_tried_less_and_less_often(
    settings: Settings, manifest: list[ServedVersion], clock: Clock
) -> None:
    reconciler, torchserve = keeper(settings, clock)
    torchserve.refused = {"2.0"}
    for _ in range(3600):
        reconciler.round()
        clock.s += 1
    assert 8 < torchserve.calls.count(("register", "2.0")) < 15


def test_the_kept_version_replaces_a_default_that_lost_its_workers_for_good(
    settings: Settings, manifest: list[ServedVersion], clock: Clock
) -> None:
    reconciler, torchserve = keeper(settings, clock)
    reconciler.round()
    torchserve.workers["2.0"], torchserve.refused = 0, {"2.0"}
    reconciler.round()
    assert torchserve.current == "2.0"  # TorchServe may start it itself
    clock.s += LOST_S + 1
    reconciler.round()
    assert torchserve.calls[2:] == [("scale", "2.0", 0), ("scale", "2.0", 1), ("default", "1.0")]
    torchserve.refused = set()
    clock.s += 11 + LOST_S
    reconciler.round()
    assert (torchserve.current, torchserve.workers, reconciler.missing) == ("2.0", {"2.0": 1, "1.0": 1}, [])


def test_a_restarted_keeper_leaves_the_replacement_of_a_dead_default(
    settings: Settings, manifest: list[ServedVersion], clock: Clock
) -> None:
    """It no longer knows that 2.0 cannot start; switching to it would end all answers."""
    reconciler, torchserve = keeper(settings, clock)
    torchserve.workers, torchserve.current, torchserve.refused = {"2.0": 0, "1.0": 1}, "1.0", {"2.0"}
    for _ in range(60):
        reconciler.round()
        clock.s += 1
        assert torchserve.current == "1.0"
    assert ("scale", "2.0", 1) in torchserve.calls
    torchserve.refused = set()
    clock.s += 600
    reconciler.round()
    assert (torchserve.current, torchserve.workers) == ("2.0", {"2.0": 1, "1.0": 1})


@pytest.mark.parametrize("rests", [True, False])
def test_remaining_workers_are_not_killed_while_they_compute(
    settings: Settings, manifest: list[ServedVersion], clock: Clock, monkeypatch: pytest.MonkeyPatch, rests: bool
) -> None:
    desired.write(settings.var, [replace(entry, workers=2) for entry in manifest])
    reconciler, torchserve = keeper(settings, clock)
    reconciler.round()
    torchserve.workers["2.0"] = 1
    monkeypatch.setattr("deploy.supervision.reconcile.drain", lambda *_: rests)
    reconciler.round()
    clock.s += LOST_S + 1
    reconciler.round()
    assert torchserve.workers["2.0"] == (2 if rests else 1)
    assert torchserve.current == "2.0"
    assert [row["why"] for row in reconciler.missing] == (
        [] if rests else ["demo 2.0 has lost some of its workers, and the others were never idle within 10 s"]
    )


def test_a_worker_that_torchserve_restarted_is_not_touched(
    settings: Settings, manifest: list[ServedVersion], clock: Clock
) -> None:
    reconciler, torchserve = keeper(settings, clock)
    reconciler.round()
    for ready in (0, 1, 0, 1):
        torchserve.workers["1.0"] = ready
        reconciler.round()
        clock.s += LOST_S - 1
    assert len(torchserve.calls) == 2


def test_a_worker_that_starts_slowly_is_not_killed(
    settings: Settings, manifest: list[ServedVersion], clock: Clock
) -> None:
    reconciler, torchserve = keeper(settings, clock)
    reconciler.round()
    torchserve.workers["2.0"] = 0
    for torchserve.starting, actions in ((os.getpid(), 2), (NO_PROCESS, 4)):
        for _ in range(60):
            reconciler.round()
            clock.s += 1
        assert len(torchserve.calls) == actions


def test_nothing_is_repaired_during_a_rollout(
    settings: Settings, manifest: list[ServedVersion], capsys: pytest.CaptureFixture[str]
) -> None:
    reconciler, torchserve = keeper(settings)
    with deployment_lock(settings.var).hold(OwnerKind.ROLLOUT, "demo 3.0"):
        reconciler.round()
        reconciler.round()
        assert torchserve.calls == []
        assert "rollout of demo 3.0" in reconciler.warnings["deployment"]
    assert capsys.readouterr().out.count("repairs wait") == 1
    reconciler.round()
    assert torchserve.current == "2.0"
    assert not reconciler.warnings["deployment"]


def test_a_rollout_that_ended_before_the_lock_was_free_counts(
    settings: Settings, manifest: list[ServedVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    reconciler, torchserve = keeper(settings)
    torchserve.workers, torchserve.current = {"2.0": 1, "1.0": 1, "3.0": 1}, "3.0"
    hold = Lock.hold

    def late(lock: Lock, kind: OwnerKind) -> Any:
        desired.write(settings.var, desired.switched(manifest, packed(settings, "3.0", True), manifest[0]))
        return hold(lock, kind)

    monkeypatch.setattr(Lock, "hold", late)
    reconciler.round()
    assert (torchserve.calls, torchserve.current) == ([], "3.0")


def test_a_missing_and_a_damaged_archive_are_restored_from_their_copies(
    settings: Settings, manifest: list[ServedVersion]
) -> None:
    (settings.store / "demo-2.0.mar").unlink()
    (settings.store / "demo-1.0.mar").write_bytes(b"no archive")
    reconciler, torchserve = keeper(settings)
    reconciler.round()
    assert torchserve.workers == {"2.0": 1, "1.0": 1}
    assert (settings.store / "demo-1.0.mar.damaged").read_bytes() == b"no archive"
    assert identity(digests(settings.store / "demo-1.0.mar")) == manifest[1].digest


def test_an_archive_without_a_good_copy_is_reported_with_the_fix(
    settings: Settings, manifest: list[ServedVersion]
) -> None:
    (settings.store / "demo-2.0.mar").unlink()
    (settings.var / copies.FOLDER / "demo-2.0.mar").write_bytes(b"damaged, too")
    reconciler, torchserve = keeper(settings)
    reconciler.round()
    assert torchserve.calls == [("register", "1.0")]
    assert "demo-2.0.mar is missing, and there is no good copy: put it" in reconciler.missing[0]["why"]


@pytest.mark.parametrize("full", [Journal, None])
def test_repairs_continue_on_a_full_disk_with_a_warning(
    settings: Settings, manifest: list[ServedVersion], monkeypatch: pytest.MonkeyPatch, full: type | None
) -> None:
    """The journal entry cannot be created, or not be closed."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Journal, "__init__" if full else "end", refuse)
    reconciler, torchserve = keeper(settings)
    reconciler.round()
    assert (torchserve.current, torchserve.workers) == ("2.0", {"2.0": 1, "1.0": 1})
    assert "No space left on device: free some disk space" in reconciler.warnings["journal"]


def test_a_damaged_manifest_is_a_warning_and_its_former_content_counts(
    settings: Settings, manifest: list[ServedVersion]
) -> None:
    reconciler, torchserve = keeper(settings)
    reconciler.round()
    (settings.var / desired.FILE).write_text("[{")
    torchserve.workers = {}
    reconciler.round()
    assert (torchserve.workers, reconciler.entries) == ({}, manifest)
    assert "is damaged" in reconciler.warnings["manifest"]


class Endpoint:
    """An inference endpoint that gives one answer and counts its requests."""

    def __init__(self, content: dict[str, Any], status: int = 200) -> None:
        self.content, self.status, self.requests = content, status, 0

    def predict(self, *_: Any, **__: Any) -> Any:
        self.requests += 1
        return SimpleNamespace(
            ok=self.status == 200, status_code=self.status, text=json.dumps(self.content), json=lambda: self.content
        )


def readiness(
    settings: Settings, reconciler: Reconciler, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> Readiness:
    ready = Readiness(settings, reconciler)
    ready.note("")
    ready.client = endpoint  # type: ignore[assignment]
    question = SimpleNamespace(golden=SimpleNamespace(label="yes", shows_label=True), body={})
    monkeypatch.setattr("deploy.supervision.readiness.first_question", lambda *_: question)
    return ready


def test_ready_means_a_correct_answer_and_is_probed_once_a_second(
    settings: Settings, manifest: list[ServedVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    reconciler, _ = keeper(settings)
    reconciler.round()
    endpoint = Endpoint({"result": "yes", "model_version": "2.0"})
    ready = readiness(settings, reconciler, endpoint, monkeypatch)
    expected: dict[str, Any] = {"ready": True, "models": [{"name": "demo", "version": "2.0"}], "missing": []}
    expected |= {"busy": [], "repairing": False, "warnings": []}
    assert [ready.answer() for _ in range(5)] == [expected] * 5
    assert endpoint.requests == 1


@pytest.mark.parametrize(("content", "status"), [({"result": "no", "model_version": "2.0"}, 200), ({}, 503)])
def test_a_wrong_answer_is_not_ready(
    settings: Settings,
    manifest: list[ServedVersion],
    monkeypatch: pytest.MonkeyPatch,
    content: dict[str, Any],
    status: int,
) -> None:
    reconciler, _ = keeper(settings)
    reconciler.round()
    answer = readiness(settings, reconciler, Endpoint(content, status), monkeypatch).answer()
    assert not answer["ready"]
    assert f"demo: HTTP {status}" in answer["reason"] and "to a photo of yes" in answer["reason"]


def test_nothing_to_serve_is_not_ready(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    reconciler, _ = keeper(settings)
    reconciler.round()
    answer = readiness(settings, reconciler, Endpoint({}), monkeypatch).answer()
    assert (answer["ready"], answer["reason"]) == (False, "var/served.json lists no version")
