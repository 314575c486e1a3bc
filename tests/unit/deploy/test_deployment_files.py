"""The files that a deployment leaves in var: locks, the manifest of what is served, the journal."""

import datetime
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from common.errors import UserError
from deploy.host import locks
from deploy.host.locks import Lock, LockHeld, Owner, OwnerKind, deployment_lock
from deploy.host.var import claim
from deploy.settings import ROOT
from deploy.store import copies, desired, journal
from deploy.store.desired import ServedVersion
from deploy.store.journal import Journal, State
from deploy.store.mar import find_archive, read_manifest, write_manifest

HOLD = """
import sys, time
from pathlib import Path
from deploy.host.locks import Lock, OwnerKind
with Lock(Path(sys.argv[1])).hold(OwnerKind.ROLLOUT, "a 1"):
    print("held", flush=True)
    time.sleep(60)
"""


def hold(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_lock_names_its_owner(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "lock")
    with hold(lock.path) as process:
        owner = lock.owner()
        assert owner is not None
        assert (owner.pid, owner.kind, owner.what) == (process.pid, OwnerKind.ROLLOUT, "rollout of a 1")
        with (
            pytest.raises(LockHeld, match=rf"rollout of a 1 \(process {process.pid} of .*, since .*\) is running"),
            lock.hold(OwnerKind.DOWN),
        ):
            pass
        assert lock.dead_owner() is None
        process.kill()


def test_the_kernel_frees_a_lock_and_the_next_owner_learns_who_died(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "lock")
    with hold(lock.path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        dead = lock.dead_owner()
        assert dead is not None
        assert dead.pid == process.pid
        assert lock.owner() is None
        with lock.hold(OwnerKind.ROLLBACK, "a 1") as left:
            assert left == dead
            assert lock.dead_owner() is None
        assert lock.owner() is lock.dead_owner() is None


def test_an_owner_without_a_name_is_waited_for_because_it_is_just_leaving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keeper has removed its name and not yet closed the file: a rollout must not call it an unknown process."""
    monkeypatch.setattr(locks, "_BLINK_S", 0.0)
    monkeypatch.setattr(locks, "_NAME_S", 30.0)
    lock = Lock(tmp_path / "lock")
    owners: list[Owner | None] = []

    def take() -> None:
        with lock.hold(OwnerKind.ROLLOUT, "a 1", 0):
            owners.append(lock.owner())

    claim(tmp_path)
    lock.path.touch()
    with lock.path.open() as leaving:
        fcntl.flock(leaving, fcntl.LOCK_EX)
        taking = threading.Thread(target=take)
        taking.start()
        taking.join(0.3)
        assert taking.is_alive()
    taking.join(10)
    assert [owner and owner.kind for owner in owners] == [OwnerKind.ROLLOUT]


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        ("make serve", OwnerKind.SERVE),
        ("make up", OwnerKind.UP),
        ("make down", OwnerKind.DOWN),
        ("keeper's repair", OwnerKind.REPAIR),
        ("rollout of a 1", OwnerKind.UNKNOWN),
    ],
)
def test_a_lock_file_of_the_former_version_is_read(tmp_path: Path, what: str, kind: OwnerKind) -> None:
    row = f'{{"pid": 7, "what": "{what}", "who": "ann", "since": "2026-11-01T12:00:00+01:00"}}'
    (tmp_path / "lock").write_text(row.ljust(512))
    assert Lock(tmp_path / "lock").dead_owner() == Owner(7, what, "ann", "2026-11-01T12:00:00+01:00", kind)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"pid": 1}', '{"pid": 1, "kind": "nap"}'])
def test_a_damaged_lock_file_has_no_owner(tmp_path: Path, text: str) -> None:
    (tmp_path / "lock").write_text(text)
    assert Lock(tmp_path / "lock").dead_owner() is None


def test_reading_a_lock_never_makes_an_owner_fail(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "lock")
    code = f"""
from pathlib import Path
from deploy.host.locks import Lock
while True:
    Lock(Path({str(lock.path)!r})).owner()
"""
    with lock.hold(OwnerKind.UP):
        pass
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as reader:
        for _ in range(200):
            with lock.hold(OwnerKind.UP):
                pass
        reader.kill()


def test_only_their_owner_can_read_runtime_files(tmp_path: Path) -> None:
    with Lock(tmp_path / "var" / "lock").hold(OwnerKind.UP):
        assert (tmp_path / "var").stat().st_mode & 0o077 == 0


A = ServedVersion("a", "1.0", "a-1.0.mar", "d1", default=True)
B = ServedVersion("a", "2.0", "a-2.0.mar", "d2")
OTHER = ServedVersion("b", "1.0", "b-1.0.mar", "d3", default=True)


def test_a_switch_keeps_the_former_default_first_and_leaves_other_names_alone(tmp_path: Path) -> None:
    desired.write(tmp_path, desired.switched([A, OTHER], B, A))
    entries = desired.read(tmp_path)
    assert [(entry.name, entry.version) for entry in entries if entry.default] == [("a", "2.0"), ("b", "1.0")]
    back = desired.switched(
        entries, next(entry for entry in entries if entry.version == "1.0" and entry.name == "a"), B
    )
    default = desired.default_of(back, "a")
    assert default is not None
    assert default.version == "1.0"
    assert [entry.version for entry in back if entry.name == "a"] == ["1.0", "2.0"]


@pytest.mark.parametrize("text", ["", "{", '[{"name": "a"}]', "7", "[7]"])
def test_a_damaged_manifest_is_an_error_and_not_an_empty_manifest(tmp_path: Path, text: str) -> None:
    assert desired.read(tmp_path) == []
    (tmp_path / desired.FILE).write_text(text)
    with pytest.raises(UserError, match=r"served\.json is damaged: remove it"):
        desired.read(tmp_path)


def test_an_archive_is_restored_from_its_copy(tmp_path: Path) -> None:
    store, var = tmp_path / "store", tmp_path / "var"
    store.mkdir()
    for suffix in (".mar", ".json"):
        (store / f"a-1.0{suffix}").write_bytes(suffix.encode())
    copies.keep_copy(var, store / "a-1.0.mar")
    for path in store.iterdir():
        path.unlink()
    assert copies.put_back(var, "a-1.0.mar", store)
    assert {path.name: path.read_bytes() for path in store.iterdir()} == {"a-1.0.mar": b".mar", "a-1.0.json": b".json"}
    copies.drop_copies(var, [B])
    assert not copies.put_back(var, "a-1.0.mar", store)


def test_an_action_whose_process_died_is_interrupted(tmp_path: Path) -> None:
    with deployment_lock(tmp_path).hold(OwnerKind.ROLLOUT, "a 1.0"):
        work = Journal(tmp_path, "rollout", "a", "1.0")
        with work.step("check"):
            (running,) = journal.entries(tmp_path)
            assert (running.state, running.pid) == (State.RUNNING, os.getpid())
    (entry,) = journal.entries(tmp_path)  # it was never ended, and nobody is at work
    assert entry.state == State.INTERRUPTED
    assert (entry.steps[0].seconds or 0) >= 0
    work.end(State.DONE)
    assert journal.entries(tmp_path)[0].state == State.DONE


@pytest.mark.parametrize("text", ["{", "[]", "7", '{"state": "done"}', '{"state": "running"}'])
def test_a_damaged_journal_entry_is_ignored(tmp_path: Path, text: str) -> None:
    Journal(tmp_path, "rollout", "a", "1.0").end(State.DONE)
    (tmp_path / journal.FOLDER / "000009-rollout.json").write_text(text)
    assert [entry.version for entry in journal.entries(tmp_path)] == ["1.0"]


FORMER = {
    "id": "000002-rollout",
    "action": "rollout",
    "name": "classroom",
    "version": "1.1",
    "why": "corrections of May",
    "who": "ann",
    "pid": 4711,
    "started": "2026-11-01T12:00:00+01:00",
    "state": "done",
    "seconds": 9.5,
    "steps": [
        {"name": "check", "seconds": 0.2, "note": "13 contents as packed"},
        {"name": "latency", "seconds": 1.5, "ms": 7.1, "former_ms": 7.4, "note": "7.1 ms, 1.0 7.4 ms"},
        {"name": "keep", "seconds": None},
    ],
    "previous": "1.0",
    "digest": "97c92eb76b",
}


def test_a_journal_entry_of_the_former_version_is_read_and_written_alike(tmp_path: Path) -> None:
    (tmp_path / journal.FOLDER).mkdir()
    (tmp_path / journal.FOLDER / "000002-rollout.json").write_text(json.dumps(FORMER))
    (entry,) = journal.entries(tmp_path)
    assert (entry.state, entry.steps[1].former_ms, entry.previous) == (State.DONE, 7.4, "1.0")
    assert entry.to_json() == FORMER


def test_keys_of_a_later_version_are_ignored(tmp_path: Path) -> None:
    (tmp_path / journal.FOLDER).mkdir()
    later = {**FORMER, "node": "b", "steps": [{"name": "check", "seconds": 1, "cores": 2}]}
    (tmp_path / journal.FOLDER / "000002-rollout.json").write_text(json.dumps(later))
    assert [entry.steps[0].name for entry in journal.entries(tmp_path)] == ["check"]


def test_entries_stay_in_order_when_the_clock_goes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version, hour in (("1.0", 3), ("2.0", 2)):
        now = datetime.datetime(2026, 10, 25, hour, tzinfo=datetime.UTC)
        monkeypatch.setattr(journal, "datetime", SimpleNamespace(datetime=SimpleNamespace(now=lambda now=now: now)))
        Journal(tmp_path, "rollout", "a", version)
    monkeypatch.undo()
    assert [entry.version for entry in journal.entries(tmp_path)] == ["1.0", "2.0"]


def test_a_process_with_the_id_of_a_dead_one_does_not_own_its_journal_entry(tmp_path: Path) -> None:
    claim(tmp_path)
    died = Journal(tmp_path, "rollout", "a", "1.0")
    died.set(started="2026-01-01T00:00:00+00:00")
    died.end(State.RUNNING)
    with deployment_lock(tmp_path).hold(OwnerKind.ROLLOUT, "a 2.0"):
        Journal(tmp_path, "rollout", "a", "2.0")
        assert [entry.state for entry in journal.entries(tmp_path)] == [State.INTERRUPTED, State.RUNNING]


def test_a_switch_leaves_one_default_even_if_another_version_was_answering(tmp_path: Path) -> None:
    """1.0 was answering instead of 2.0, which had lost its workers; 3.0 is rolled out."""
    new = ServedVersion("a", "3.0", "a-3.0.mar", "d4", default=True)
    entries = desired.switched([replace(B, default=True), replace(A, default=False), OTHER], new, A)
    assert [(entry.name, entry.version, entry.default) for entry in entries] == [
        ("a", "3.0", True),
        ("a", "1.0", False),
        ("a", "2.0", False),
        ("b", "1.0", True),
    ]


FORMER_MANIFEST = {
    "name": "classroom",
    "version": "1.1",
    "digest": "97c92eb76b",
    "contents": {"model.onnx": "d1"},
    "run": "20261101-120000",
    "parent": None,
    "commit": "0ed6013",
    "metrics": {"accuracy": {"calling": 1.0}},
    "gate": {"passed": True},
    "recipe": {"name": "classroom"},
    "runtime": {"engine": "onnxruntime", "precision": "f32", "version": "1.23.2"},
    "weights": "int8",
    "goldens_difference": 0.0,
    "packed": "2026-11-01T11:00:00+00:00",
    "cpu_flags": ["avx2", "fma"],
}


def test_an_archive_manifest_of_the_former_version_is_read_and_written_alike(tmp_path: Path) -> None:
    mar = tmp_path / "classroom-1.1.mar"
    mar.with_suffix(".json").write_text(json.dumps(FORMER_MANIFEST))
    manifest = read_manifest(mar)
    assert (str(manifest), manifest.gate["passed"], manifest.cpu_flags) == ("classroom 1.1", True, ("avx2", "fma"))
    write_manifest(mar, manifest)
    assert json.loads(mar.with_suffix(".json").read_text()) == FORMER_MANIFEST


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "{}", '{"name": "a", "version": "1.0"}'])
def test_a_damaged_archive_manifest_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "a-1.0.json").write_text(text)
    with pytest.raises(UserError, match=r"a-1\.0\.json is missing or damaged: pack the archive again"):
        read_manifest(tmp_path / "a-1.0.mar")


def test_served_json_of_the_former_version_is_read_and_written_alike(tmp_path: Path) -> None:
    row = {"name": "a", "version": "1.0", "archive": "a-1.0.mar", "digest": "d1"}
    rows = [{**row, "default": True, "workers": 2, "left": False}]
    (tmp_path / desired.FILE).write_text(json.dumps(rows))
    assert desired.read(tmp_path) == [ServedVersion("a", "1.0", "a-1.0.mar", "d1", default=True, workers=2)]
    desired.write(tmp_path, desired.read(tmp_path))
    assert json.loads((tmp_path / desired.FILE).read_text()) == rows


def test_an_archive_that_the_store_lacks_is_refused_with_those_that_it_has(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"classroom-1.0.mar does not exist: {tmp_path} is empty; scripts/archive.sh"):
        find_archive(Path("classroom-1.0.mar"), tmp_path)
    for version in ("1.0", "1.10", "1.9"):
        (tmp_path / f"classroom-{version}.mar").touch()
    has = f"{tmp_path} has classroom-1.0.mar, classroom-1.9.mar, classroom-1.10.mar"
    with pytest.raises(UserError, match=rf"clasroom-1.0.mar does not exist: did you mean classroom-1.0.mar\? {has}; "):
        find_archive(Path("clasroom-1.0.mar"), tmp_path)
    with pytest.raises(UserError, match=f"1.0 is not an archive: give NAME-VERSION.mar; {has}"):
        find_archive(Path("1.0"), tmp_path)
