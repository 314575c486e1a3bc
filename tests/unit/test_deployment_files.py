"""The files that a deployment leaves in var: locks, the manifest of what is served, the journal."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from deploy import journal, served
from deploy.journal import Journal
from deploy.locks import DEPLOYMENT, Held, held, holder, left_over
from deploy.served import Entry
from deploy.settings import ROOT

HOLD = """
import sys, time
from pathlib import Path
from deploy.locks import held
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
    look = f"from pathlib import Path; from deploy.locks import holder\nwhile True: holder(Path({str(path)!r}))"
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
    served.write(tmp_path, served.switched([A, OTHER], B, A))
    found = served.read(tmp_path)
    assert [(entry.name, entry.version) for entry in found if entry.default] == [("a", "2.0"), ("b", "1.0")]
    back = served.switched(found, next(entry for entry in found if entry.version == "1.0" and entry.name == "a"), B)
    default = served.default_of(back, "a")
    assert default is not None
    assert default.version == "1.0"
    assert [entry.version for entry in back if entry.name == "a"] == ["1.0", "2.0"]


@pytest.mark.parametrize("text", ["", "{", '[{"name": "a"}]', "7", "[7]"])
def test_a_damaged_manifest_is_told_and_not_taken_for_an_empty_one(tmp_path: Path, text: str) -> None:
    assert served.read(tmp_path) == []
    (tmp_path / served.FILE).write_text(text)
    with pytest.raises(click.ClickException, match=r"served\.json is damaged: remove it"):
        served.read(tmp_path)


def test_a_copy_brings_an_archive_back(tmp_path: Path) -> None:
    store, var = tmp_path / "store", tmp_path / "var"
    store.mkdir()
    for suffix in (".mar", ".json"):
        (store / f"a-1.0{suffix}").write_bytes(suffix.encode())
    served.keep_copy(var, store / "a-1.0.mar")
    for path in store.iterdir():
        path.unlink()
    assert served.put_back(var, "a-1.0.mar", store)
    assert {path.name: path.read_bytes() for path in store.iterdir()} == {"a-1.0.mar": b".mar", "a-1.0.json": b".json"}
    served.drop_copies(var, [B])
    assert not served.put_back(var, "a-1.0.mar", store)


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
    (tmp_path / journal.FOLDER / "0.json").write_text("{")
    assert len(journal.entries(tmp_path)) == 1
