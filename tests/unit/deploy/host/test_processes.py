"""Only processes of this folder's TorchServe are recognised and ended."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.host.processes import LOGS, group_file, group_of_server
from deploy.torchserve.process import stop_left_over

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a process that only sleeps, with a command line and an environment that look like TorchServe's."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*words: object, **environment: str) -> subprocess.Popen[bytes]:
        code = "import time; print(flush=True); time.sleep(60)"
        command = [sys.executable, "-c", code, *map(str, words)]
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, start_new_session=True, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_an_editor_of_the_configuration_is_not_a_torchserve(start: Start, tmp_path: Path) -> None:
    editor = start("vim", tmp_path / "config.properties")
    viewer = start("tail", "-f", tmp_path / "logs" / "torchserve")
    assert group_of_server(tmp_path) is None
    stop_left_over(tmp_path)
    assert editor.poll() is viewer.poll() is None


def test_a_process_group_that_now_belongs_to_another_program_is_left_alone(start: Start, tmp_path: Path) -> None:
    """As after a reboot: the group in the file is that of a program which has a log of the folder open."""
    other = start("less", tmp_path / "logs" / "ts_log.log")
    group_file(tmp_path).write_text(str(other.pid))
    assert group_of_server(tmp_path) is None
    stop_left_over(tmp_path)
    assert other.poll() is None
    assert not group_file(tmp_path).exists()


@pytest.mark.parametrize(
    "words",
    [
        ("org.pytorch.serve.ModelServer", "-f", "config.properties"),
        ("/somewhere/bin/torchserve", "--start", "--ts-config", "config.properties"),
        ("/somewhere/ts/model_service_worker.py", "--sock-name", "/tmp/serve-1/.ts.sock.9000"),
    ],
)
def test_launcher_java_and_workers_are_found_with_and_without_the_group_file_and_ended(
    start: Start, tmp_path: Path, words: tuple[str, ...]
) -> None:
    mine = start(*words, **{LOGS: str(tmp_path / "mine" / "logs")})
    other = start(*words, **{LOGS: str(tmp_path / "other" / "logs")})
    (tmp_path / "mine").mkdir()
    for written in (None, str(mine.pid), str(other.pid), "none"):
        if written:
            group_file(tmp_path / "mine").write_text(written)
        assert group_of_server(tmp_path / "mine") == mine.pid
    stop_left_over(tmp_path / "mine")
    assert ended(mine)
    assert other.poll() is None


def ended(process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return process.poll() is not None
