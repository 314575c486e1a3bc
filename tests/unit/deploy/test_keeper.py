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
from deploy.settings import Settings, own_environment, read_settings
from deploy.store import desired
from deploy.store.contents import digests, identity
from deploy.store.desired import ServedVersion
from deploy.store.journal import Journal, entries
from deploy.store.profile import ServingOptions
from deploy.supervision import reconcile
from deploy.supervision.readiness import Readiness
from deploy.supervision.reconcile import Repairs

NO_PROCESS = 2**22 + 1  # above the kernel's largest process id


class TorchServe:
    """Versions of one name, with their READY workers, and what was asked."""

    def __init__(self) -> None:
        self.workers: dict[str, int] = {}
        self.current: str | None = None
        self.asked: list[tuple[Any, ...]] = []
        self.refused: set[str] = set()
        self.coming = 0  # process id of a worker that is not ready

    def ask(self, address: str, method: str, path: str) -> Any:
        coming: list[dict[str, Any]] = [{"status": "UNLOADING", "pid": self.coming}] if self.coming else []
        rows = [{"modelVersion": v, "workers": coming + [{"status": "READY"}] * n} for v, n in self.workers.items()]
        return SimpleNamespace(status_code=200 if rows else 404, ok=bool(rows), json=lambda: rows)

    def default(self, name: str) -> str | None:
        return self.current

    def register(self, archive: str, name: str, how: ServingOptions) -> None:
        version = archive.removeprefix(f"{name}-").removesuffix(".mar")
        self.asked.append(("register", version))
        if version in self.refused:
            raise UserError("TorchServe refused POST /models: no worker")
        self.workers[version] = how.workers
        self.current = self.current or version

    def set_default(self, name: str, version: str) -> None:
        self.asked.append(("default", version))
        self.current = version

    def scale(self, name: str, version: str, workers: int) -> None:
        self.asked.append(("scale", version, workers))
        if workers and version in self.refused:
            raise UserError("TorchServe refused PUT /models: no worker")
        self.workers[version] = workers


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return read_settings(own_environment(tmp_path / "var", tmp_path / "store"))


@pytest.fixture
def manifest(settings: Settings) -> list[ServedVersion]:
    """2.0 is the default, 1.0 is kept; both lie in the store, and their copies in var."""
    made = [packed(settings, version, default=version == "2.0") for version in ("2.0", "1.0")]
    desired.write(settings.var, made)
    return made


def packed(settings: Settings, version: str, default: bool) -> ServedVersion:
    settings.store.mkdir(exist_ok=True)
    mar = settings.store / f"demo-{version}.mar"
    with zipfile.ZipFile(mar, "w") as archive:
        archive.writestr("model.onnx", version)
    mar.with_suffix(".json").write_text("{}")
    desired.keep_copy(settings.var, mar)
    return ServedVersion("demo", version, mar.name, identity(digests(mar)), default=default)


def keeper(settings: Settings) -> tuple[Repairs, TorchServe]:
    repairs, torchserve = Repairs(settings), TorchServe()
    repairs.client = torchserve  # type: ignore[assignment]
    return repairs, torchserve


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock of the repairs that stands until it is moved."""
    now = SimpleNamespace(s=1000.0)
    monkeypatch.setattr("deploy.supervision.reconcile.time.monotonic", lambda: now.s)
    return now


def actions(settings: Settings) -> list[tuple[str, str, str]]:
    return [(row.action, row.version, row.state) for row in entries(settings.var)]


def test_after_a_restart_the_default_comes_first(settings: Settings, manifest: list[ServedVersion]) -> None:
    repairs, torchserve = keeper(settings)
    repairs.round()
    assert torchserve.asked == [("register", "2.0"), ("register", "1.0")]
    assert torchserve.current == "2.0"
    assert actions(settings) == [("restore", "2.0", "done"), ("restore", "1.0", "done")]
    repairs.round()
    assert len(torchserve.asked) == 2


def test_what_a_rollout_set_before_it_was_killed_is_set_back_once_and_told(
    settings: Settings, manifest: list[ServedVersion], capsys: pytest.CaptureFixture[str]
) -> None:
    repairs, torchserve = keeper(settings)
    torchserve.workers, torchserve.current = {"2.0": 1, "1.0": 1, "3.0": 1}, "3.0"
    dead = Owner(1, "rollout of demo 3.0", "ann", "noon", OwnerKind.ROLLOUT)
    deployment_lock(settings.var).path.write_text(json.dumps(dead.__dict__))
    repairs.round()
    repairs.round()
    assert torchserve.asked == [("default", "2.0")]
    assert torchserve.workers["3.0"] == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["what"] for line in lines if line["event"] == "a change of versions died"] == ["rollout of demo 3.0"]


def test_a_default_that_cannot_start_leaves_the_kept_one_in_its_place_until_it_can(
    settings: Settings, manifest: list[ServedVersion], clock: SimpleNamespace
) -> None:
    repairs, torchserve = keeper(settings)
    torchserve.refused = {"2.0"}
    repairs.round()
    assert (torchserve.current, torchserve.workers) == ("1.0", {"1.0": 1})
    (missing,) = repairs.missing
    assert (missing["name"], missing["version"]) == ("demo", "2.0")
    assert "TorchServe refused POST /models" in missing["why"]
    assert actions(settings)[0] == ("restore", "2.0", "failed")
    torchserve.refused = set()
    repairs.round()
    assert torchserve.current == "1.0"  # not tried again at once
    clock.s += 11
    repairs.round()
    assert (torchserve.current, repairs.missing) == ("2.0", [])


def test_failed_repairs_are_tried_ever_more_rarely(
    settings: Settings, manifest: list[ServedVersion], clock: SimpleNamespace
) -> None:
    repairs, torchserve = keeper(settings)
    torchserve.refused = {"2.0"}
    for _ in range(3600):
        repairs.round()
        clock.s += 1
    assert 8 < torchserve.asked.count(("register", "2.0")) < 15


def test_a_default_that_lost_its_workers_for_good_gives_way_to_a_kept_one(
    settings: Settings, manifest: list[ServedVersion], clock: SimpleNamespace
) -> None:
    repairs, torchserve = keeper(settings)
    repairs.round()
    torchserve.workers["2.0"], torchserve.refused = 0, {"2.0"}
    repairs.round()
    assert torchserve.current == "2.0"  # TorchServe may start it itself
    clock.s += reconcile.LOST_S + 1
    repairs.round()
    assert torchserve.asked[2:] == [("scale", "2.0", 0), ("scale", "2.0", 1), ("default", "1.0")]
    torchserve.refused = set()
    clock.s += 11 + reconcile.LOST_S
    repairs.round()
    assert (torchserve.current, torchserve.workers, repairs.missing) == ("2.0", {"2.0": 1, "1.0": 1}, [])


def test_a_keeper_that_starts_anew_leaves_who_stands_in_for_a_dead_default(
    settings: Settings, manifest: list[ServedVersion], clock: SimpleNamespace
) -> None:
    """It does not know any more that 2.0 cannot start; switching to it would end all answers."""
    repairs, torchserve = keeper(settings)
    torchserve.workers, torchserve.current, torchserve.refused = {"2.0": 0, "1.0": 1}, "1.0", {"2.0"}
    for _ in range(60):
        repairs.round()
        clock.s += 1
        assert torchserve.current == "1.0"
    assert ("scale", "2.0", 1) in torchserve.asked
    torchserve.refused = set()
    clock.s += 600
    repairs.round()
    assert (torchserve.current, torchserve.workers) == ("2.0", {"2.0": 1, "1.0": 1})


@pytest.mark.parametrize("rests", [True, False])
def test_workers_that_are_left_are_not_killed_with_a_photo_in_hand(
    settings: Settings,
    manifest: list[ServedVersion],
    clock: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    rests: bool,
) -> None:
    desired.write(settings.var, [replace(entry, workers=2) for entry in manifest])
    repairs, torchserve = keeper(settings)
    repairs.round()
    torchserve.workers["2.0"] = 1
    monkeypatch.setattr("deploy.supervision.reconcile.drain", lambda *_: rests)
    repairs.round()
    clock.s += reconcile.LOST_S + 1
    repairs.round()
    assert torchserve.workers["2.0"] == (2 if rests else 1)
    assert torchserve.current == "2.0"
    assert [row["why"] for row in repairs.missing] == (
        [] if rests else ["some workers of demo 2.0 have gone, and the others are never at rest"]
    )


def test_a_worker_that_is_back_by_itself_is_not_touched(
    settings: Settings, manifest: list[ServedVersion], clock: SimpleNamespace
) -> None:
    repairs, torchserve = keeper(settings)
    repairs.round()
    for ready in (0, 1, 0, 1):
        torchserve.workers["1.0"] = ready
        repairs.round()
        clock.s += reconcile.LOST_S - 1
    assert len(torchserve.asked) == 2


def test_a_worker_that_is_long_in_starting_is_left_to_start(
    settings: Settings, manifest: list[ServedVersion], clock: SimpleNamespace
) -> None:
    repairs, torchserve = keeper(settings)
    repairs.round()
    torchserve.workers["2.0"] = 0
    for torchserve.coming, actions in ((os.getpid(), 2), (NO_PROCESS, 4)):
        for _ in range(60):
            repairs.round()
            clock.s += 1
        assert len(torchserve.asked) == actions


def test_nothing_is_touched_while_another_changes_versions(
    settings: Settings, manifest: list[ServedVersion], capsys: pytest.CaptureFixture[str]
) -> None:
    repairs, torchserve = keeper(settings)
    with deployment_lock(settings.var).hold(OwnerKind.ROLLOUT, "demo 3.0"):
        repairs.round()
        repairs.round()
        assert torchserve.asked == []
        assert "rollout of demo 3.0" in repairs.warnings["deployment"]
    assert capsys.readouterr().out.count("repairs wait") == 1
    repairs.round()
    assert torchserve.current == "2.0"
    assert not repairs.warnings["deployment"]


def test_a_rollout_that_ended_before_the_lock_was_ours_counts(
    settings: Settings, manifest: list[ServedVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    repairs, torchserve = keeper(settings)
    torchserve.workers, torchserve.current = {"2.0": 1, "1.0": 1, "3.0": 1}, "3.0"
    hold = Lock.hold

    def late(lock: Lock, kind: OwnerKind) -> Any:
        desired.write(settings.var, desired.switched(manifest, packed(settings, "3.0", True), manifest[0]))
        return hold(lock, kind)

    monkeypatch.setattr(Lock, "hold", late)
    repairs.round()
    assert (torchserve.asked, torchserve.current) == ([], "3.0")


def test_a_missing_and_a_damaged_archive_come_back_from_their_copies(
    settings: Settings, manifest: list[ServedVersion]
) -> None:
    (settings.store / "demo-2.0.mar").unlink()
    (settings.store / "demo-1.0.mar").write_bytes(b"no archive")
    repairs, torchserve = keeper(settings)
    repairs.round()
    assert torchserve.workers == {"2.0": 1, "1.0": 1}
    assert (settings.store / "demo-1.0.mar.damaged").read_bytes() == b"no archive"
    assert identity(digests(settings.store / "demo-1.0.mar")) == manifest[1].digest


def test_an_archive_without_a_good_copy_is_missing_and_says_what_to_do(
    settings: Settings, manifest: list[ServedVersion]
) -> None:
    (settings.store / "demo-2.0.mar").unlink()
    (settings.var / desired.COPIES / "demo-2.0.mar").write_bytes(b"damaged, too")
    repairs, torchserve = keeper(settings)
    repairs.round()
    assert torchserve.asked == [("register", "1.0")]
    assert "demo-2.0.mar is missing, and there is no good copy: put it" in repairs.missing[0]["why"]


@pytest.mark.parametrize("full", [Journal, None])
def test_on_a_full_disk_repairs_go_on_and_it_is_said(
    settings: Settings, manifest: list[ServedVersion], monkeypatch: pytest.MonkeyPatch, full: type | None
) -> None:
    """A journal that cannot be begun, or not be written further."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Journal, "__init__" if full else "end", refuse)
    repairs, torchserve = keeper(settings)
    repairs.round()
    assert (torchserve.current, torchserve.workers) == ("2.0", {"2.0": 1, "1.0": 1})
    assert "No space left on device: make room" in repairs.warnings["journal"]


def test_a_damaged_manifest_is_said_and_what_it_said_before_still_counts(
    settings: Settings, manifest: list[ServedVersion]
) -> None:
    repairs, torchserve = keeper(settings)
    repairs.round()
    (settings.var / desired.FILE).write_text("[{")
    torchserve.workers = {}
    repairs.round()
    assert (torchserve.workers, repairs.entries) == ({}, manifest)
    assert "is damaged" in repairs.warnings["manifest"]


class Door:
    """The served door, for one answer."""

    def __init__(self, content: dict[str, Any], status: int = 200) -> None:
        self.content, self.status, self.asked = content, status, 0

    def post(self, url: str, **_: Any) -> Any:
        self.asked += 1
        return SimpleNamespace(
            ok=self.status == 200, status_code=self.status, text=json.dumps(self.content), json=lambda: self.content
        )


def readiness(settings: Settings, repairs: Repairs, door: Door, monkeypatch: pytest.MonkeyPatch) -> Readiness:
    found = Readiness(settings, repairs)
    found.note("")
    found.session = door  # type: ignore[assignment]
    monkeypatch.setattr("deploy.supervision.readiness.read_key", lambda *_: "key")
    monkeypatch.setattr(
        "deploy.supervision.readiness.example", lambda mar: (SimpleNamespace(label="yes", own=True), {})
    )
    return found


def test_ready_is_a_right_answer_asked_for_once_a_second(
    settings: Settings, manifest: list[ServedVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    repairs, _ = keeper(settings)
    repairs.round()
    door = Door({"result": "yes", "model_version": "2.0"})
    found = readiness(settings, repairs, door, monkeypatch)
    wanted = {"ready": True, "models": [{"name": "demo", "version": "2.0"}], "missing": []}
    wanted |= {"repairing": False, "warnings": []}
    assert [found.answer() for _ in range(5)] == [wanted] * 5
    assert door.asked == 1


@pytest.mark.parametrize(("content", "status"), [({"result": "no", "model_version": "2.0"}, 200), ({}, 503)])
def test_a_wrong_answer_is_not_ready(
    settings: Settings,
    manifest: list[ServedVersion],
    monkeypatch: pytest.MonkeyPatch,
    content: dict[str, Any],
    status: int,
) -> None:
    repairs, _ = keeper(settings)
    repairs.round()
    answer = readiness(settings, repairs, Door(content, status), monkeypatch).answer()
    assert not answer["ready"]
    assert f"demo: HTTP {status}" in answer["reason"] and "to a photo of yes" in answer["reason"]


def test_nothing_to_serve_is_not_ready(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    repairs, _ = keeper(settings)
    repairs.round()
    answer = readiness(settings, repairs, Door({}), monkeypatch).answer()
    assert (answer["ready"], answer["reason"]) == (False, "var/served.json names nothing to serve")
