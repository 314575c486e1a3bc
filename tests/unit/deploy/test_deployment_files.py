"""The files that a deployment leaves in var: locks, the manifest of what is served, the journal."""

import datetime
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from common.errors import UserError
from deploy import status
from deploy.host.locks import DEPLOYMENT, Held, held, holder, left_over
from deploy.host.var import claim
from deploy.settings import ROOT, read_settings
from deploy.store import desired, journal
from deploy.store.desired import Entry
from deploy.store.journal import Journal

HOLD = """
import sys, time
from pathlib import Path
from deploy.host.locks import held
with held(Path(sys.argv[1]), "rollout of a 1"):
    print("held", flush=True)
    time.sleep(60)
"""


def hold(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_who_holds_a_lock_is_seen_and_told(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with hold(path) as process:
        found = holder(path)
        assert found is not None
        assert (found.pid, found.what) == (process.pid, "rollout of a 1")
        with (
            pytest.raises(Held, match=rf"rollout of a 1 \(process {process.pid} of .*, since .*\) is at work"),
            held(path, ""),
        ):
            pass
        assert left_over(path) is None
        process.kill()


def test_the_kernel_frees_it_and_the_next_one_is_told_who_died(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with hold(path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        died = left_over(path)
        assert died is not None
        assert died.pid == process.pid
        assert holder(path) is None
        with held(path, "next") as left:
            assert left == died
            assert left_over(path) is None
        assert holder(path) is left_over(path) is None


def test_looking_at_a_lock_never_costs_its_taker(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    look = f"from pathlib import Path; from deploy.host.locks import holder\nwhile True: holder(Path({str(path)!r}))"
    with held(path, "first"):
        pass
    with subprocess.Popen([sys.executable, "-c", look], cwd=ROOT) as looker:
        for _ in range(200):
            with held(path, "again"):
                pass
        looker.kill()


def test_runtime_files_are_the_owners_alone(tmp_path: Path) -> None:
    with held(tmp_path / "var" / "lock", ""):
        assert (tmp_path / "var").stat().st_mode & 0o077 == 0


A = Entry("a", "1.0", "a-1.0.mar", "d1", default=True)
B = Entry("a", "2.0", "a-2.0.mar", "d2")
OTHER = Entry("b", "1.0", "b-1.0.mar", "d3", default=True)


def test_a_switch_keeps_what_was_default_first_and_other_names_as_they_are(tmp_path: Path) -> None:
    desired.write(tmp_path, desired.switched([A, OTHER], B, A))
    found = desired.read(tmp_path)
    assert [(entry.name, entry.version) for entry in found if entry.default] == [("a", "2.0"), ("b", "1.0")]
    back = desired.switched(found, next(entry for entry in found if entry.version == "1.0" and entry.name == "a"), B)
    default = desired.default_of(back, "a")
    assert default is not None
    assert default.version == "1.0"
    assert [entry.version for entry in back if entry.name == "a"] == ["1.0", "2.0"]


@pytest.mark.parametrize("text", ["", "{", '[{"name": "a"}]', "7", "[7]"])
def test_a_damaged_manifest_is_told_and_not_taken_for_an_empty_one(tmp_path: Path, text: str) -> None:
    assert desired.read(tmp_path) == []
    (tmp_path / desired.FILE).write_text(text)
    with pytest.raises(UserError, match=r"served\.json is damaged: remove it"):
        desired.read(tmp_path)


def test_a_copy_brings_an_archive_back(tmp_path: Path) -> None:
    store, var = tmp_path / "store", tmp_path / "var"
    store.mkdir()
    for suffix in (".mar", ".json"):
        (store / f"a-1.0{suffix}").write_bytes(suffix.encode())
    desired.keep_copy(var, store / "a-1.0.mar")
    for path in store.iterdir():
        path.unlink()
    assert desired.put_back(var, "a-1.0.mar", store)
    assert {path.name: path.read_bytes() for path in store.iterdir()} == {"a-1.0.mar": b".mar", "a-1.0.json": b".json"}
    desired.drop_copies(var, [B])
    assert not desired.put_back(var, "a-1.0.mar", store)


def test_an_action_whose_process_died_is_interrupted(tmp_path: Path) -> None:
    with held(tmp_path / DEPLOYMENT, "rollout of a 1.0"):
        work = Journal(tmp_path, "rollout", "a", "1.0")
        with work.step("check"):
            (running,) = journal.entries(tmp_path)
            assert (running["state"], running["pid"]) == (journal.RUNNING, os.getpid())
    (found,) = journal.entries(tmp_path)  # it was never ended, and nobody is at work
    assert found["state"] == journal.INTERRUPTED
    assert found["steps"][0]["seconds"] >= 0
    work.end(journal.DONE)
    assert journal.entries(tmp_path)[0]["state"] == journal.DONE


@pytest.mark.parametrize("text", ["{", "[]", "7", '{"state": "done"}', '{"state": "running"}'])
def test_a_damaged_entry_is_passed_over(tmp_path: Path, text: str) -> None:
    Journal(tmp_path, "rollout", "a", "1.0").end(journal.DONE)
    (tmp_path / journal.FOLDER / "000009-rollout.json").write_text(text)
    assert [entry["version"] for entry in journal.entries(tmp_path)] == ["1.0"]


def test_entries_stay_in_order_when_the_clock_goes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version, hour in (("1.0", 3), ("2.0", 2)):
        now = datetime.datetime(2026, 10, 25, hour, tzinfo=datetime.UTC)
        monkeypatch.setattr(journal, "datetime", SimpleNamespace(datetime=SimpleNamespace(now=lambda now=now: now)))
        Journal(tmp_path, "rollout", "a", version)
    monkeypatch.undo()
    assert [entry["version"] for entry in journal.entries(tmp_path)] == ["1.0", "2.0"]


def test_a_process_that_got_the_number_of_a_dead_one_is_not_it(tmp_path: Path) -> None:
    claim(tmp_path)
    died = Journal(tmp_path, "rollout", "a", "1.0")
    died.entry["started"] = "2026-01-01T00:00:00+00:00"
    died.end(journal.RUNNING)
    with held(tmp_path / DEPLOYMENT, "rollout of a 2.0"):
        Journal(tmp_path, "rollout", "a", "2.0")
        assert [entry["state"] for entry in journal.entries(tmp_path)] == [journal.INTERRUPTED, journal.RUNNING]


def test_one_default_a_name_even_where_another_than_the_default_answered(tmp_path: Path) -> None:
    """1.0 stood in for 2.0, which had lost its workers; 3.0 comes."""
    new = Entry("a", "3.0", "a-3.0.mar", "d4", default=True)
    found = desired.switched([replace(B, default=True), replace(A, default=False), OTHER], new, A)
    assert [(entry.name, entry.version, entry.default) for entry in found] == [
        ("a", "3.0", True),
        ("a", "1.0", False),
        ("a", "2.0", False),
        ("b", "1.0", True),
    ]


@pytest.mark.parametrize(
    ("default", "workers", "registered", "why"),
    [
        (True, 1, True, None),
        (True, 0, True, r"a 1\.0 has no worker: .* rollback a goes back"),
        (False, 1, True, r"a 1\.0 should be the default: .* history .*"),
        (False, 0, False, r"a 1\.0 should be served and is not registered: .*keeper\.log"),
    ],
)
def test_status_says_what_is_wrong_with_a_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, default: bool, workers: int, registered: bool, why: str | None
) -> None:
    """Another version, 2.0, is kept and able in each case."""
    settings = read_settings({"SERVE_VAR": str(tmp_path), "SERVE_KEEPER_PORT": "1"})
    desired.write(tmp_path, [A, B])
    ready = [{"status": "READY", "pid": 1}]
    rows = [{"modelName": "a", "modelVersion": "2.0", "workers": ready, "default": not default}]
    if registered:
        rows.append({"modelName": "a", "modelVersion": "1.0", "workers": ready * workers, "default": default})
    monkeypatch.setattr("deploy.status.Client", lambda _: SimpleNamespace(models=lambda: rows))
    found = status.look(settings)
    assert found["serving"] is (why is None)
    assert re.fullmatch(why or "None", str(found["reason"]))
