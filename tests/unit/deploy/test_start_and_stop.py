"""`up`, `serve` and `down` without a TorchServe: two at once, a full disk, the folder of another program."""

import json
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from common.errors import UserError
from deploy.host.locks import DEPLOYMENT, UNNAMED, Lock, LockHeld, OwnerKind, deployment_lock, server_lock
from deploy.host.var import claim
from deploy.settings import ROOT, Settings, read_settings, separate_environment
from deploy.supervision import torchserve_program
from deploy.supervision.supervisor import BACKGROUND, MODULE, refuse_second, starting, supervisor_of
from deploy.up import down
from tests.helpers.commands import SHIPPED, command

HOLD = """
import sys, time
from pathlib import Path
from deploy.host.locks import Lock, OwnerKind
with Lock(Path(sys.argv[1])).hold(OwnerKind.UP):
    print("held", flush=True)
    sys.stdin.read()
print("freed", flush=True)
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return read_settings(separate_environment(tmp_path / "var", tmp_path / "store"))


@contextmanager
def holding(path: Path, *words: str, full: bool = False) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a lock until its standard input ends; on a `full` disk it can write no file."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), *words],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))) if full else None,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_full_disk_leaves_a_lock_held_and_unnamed(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "lock")
    with holding(lock.path, full=True) as process:
        assert lock.owner() == UNNAMED
        unnamed = r"an unknown process \(its name is not in the lock file because the disk was full\) is running"
        with pytest.raises(LockHeld, match=unnamed) as refused, lock.hold(OwnerKind.ROLLOUT):
            pass
        assert refused.value.owner == UNNAMED
        assert process.communicate(timeout=20) == ("freed\n", "")
    assert lock.owner() is None


def test_a_lock_file_keeps_its_size(tmp_path: Path) -> None:
    """So a new owner can write its name on a full disk."""
    lock = Lock(tmp_path / "lock")
    with lock.hold(OwnerKind.DOWN):
        size = lock.path.stat().st_size
    with lock.hold(OwnerKind.ROLLOUT, "a longer name " * 20):
        assert lock.path.stat().st_size == size
    assert lock.path.stat().st_size == size
    with lock.hold(OwnerKind.ROLLOUT, "a name that has no room " * 40):
        pass
    with lock.hold(OwnerKind.ROLLBACK, "a 1"):
        owner = lock.owner()
        assert owner is not None
        assert (owner.what, lock.path.stat().st_size) == ("rollback of a 1", size)


def test_two_readers_do_not_see_each_other_as_owners(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "lock")
    with lock.hold(OwnerKind.UP):
        pass
    owners: list[object] = []

    def read_owner() -> None:
        owners.extend(lock.owner() for _ in range(500))

    threads = [threading.Thread(target=read_owner) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(owners) == {None}


def test_down_finds_and_stops_a_server_whose_lock_is_unnamed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim(settings.var)
    with holding(server_lock(settings.var).path, MODULE, full=True) as server:
        with pytest.raises(UserError, match=r"running already \(an unknown process, its name is not"):
            refuse_second(settings)
        assert supervisor_of(settings) == server.pid
        monkeypatch.setattr("deploy.up.read_settings", lambda: settings)
        monkeypatch.setattr("deploy.supervision.lifecycle.GONE_S", 5)
        waiting = threading.Thread(target=server.wait)  # else the dead process stays a zombie
        waiting.start()
        done = CliRunner().invoke(down)
        waiting.join()
    assert (done.exit_code, done.stdout) == (0, "stopped: no process is left\n"), done.output


def test_down_waits_for_a_server_that_is_being_started(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.up.read_settings", lambda: settings)
    monkeypatch.setattr("deploy.up.START_S", 1)
    with starting(settings, BACKGROUND):
        done = CliRunner().invoke(down)
        assert done.exit_code == 1
        assert "make up (process" in done.output and "still preparing to start: run this again" in done.output
    done = CliRunner().invoke(down)
    assert (done.exit_code, done.stdout) == (0, f"nothing is running in {settings.var}\n")


def test_a_second_start_is_refused_and_the_message_names_the_first(settings: Settings) -> None:
    claim(settings.var)
    with holding(deployment_lock(settings.var).path) as first:
        message = rf"make up \(process {first.pid} of .*\) is running: run this again when it is over"
        with pytest.raises(UserError, match=message), starting(settings, BACKGROUND):
            pass
    with starting(settings, BACKGROUND):
        assert not (settings.var / "tmp").exists()


@pytest.mark.parametrize("start", ["up", "serve", "rollout"])
def test_the_folder_of_another_program_is_not_changed(tmp_path: Path, start: str) -> None:
    folder = tmp_path / "srv"
    (folder / "tmp").mkdir(parents=True)
    (folder / "lock").mkdir()  # as in /var
    (folder / "tmp" / "precious").write_text("x")
    folder.chmod(0o755)
    words = ["classroom-1.0.mar"] if start == "rollout" else ["--bundle", SHIPPED]
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "classroom-1.0.mar").touch()
    done = command("deploy", start, *words, env=separate_environment(folder, tmp_path / "store"), check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("Error: ")
    assert start == "rollout" or "SERVE_VAR=FOLDER" in done.stderr
    assert folder.stat().st_mode & 0o777 == 0o755
    assert {path.name for path in folder.rglob("*")} == {"tmp", "lock", "precious"}


@pytest.mark.parametrize(
    "left",
    [[], ["lost+found"], ["deploying.lock", "notes.txt"], ["served.json", "archives"], ["key_file.json", "lock"]],
)
def test_a_new_or_empty_folder_and_one_of_an_earlier_version_are_accepted(tmp_path: Path, left: list[str]) -> None:
    for name in left:
        (tmp_path / name).touch()
    claim(tmp_path)
    claim(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o700
    claim(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b" / DEPLOYMENT).is_file()


def test_a_transient_problem_is_retried_and_logged_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    problems = iter([UserError("port 8080 is taken"), UserError("port 8080 is taken"), OSError(28, "disk full")])

    def start() -> None:
        if problem := next(problems, None):
            raise problem

    monkeypatch.setattr(torchserve_program, "RETRY_S", 0)
    server: Any = SimpleNamespace(adopt=lambda: False, start=start, group=7)
    torchserve_program.attach_or_start(server)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["event"], row.get("why")) for row in rows] == [
        ("not started", "port 8080 is taken"),
        ("not started", "[Errno 28] disk full"),
        ("TorchServe answers", None),
    ]
