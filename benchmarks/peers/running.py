"""Start a system, wait until it answers, and end every process that it started, even one that left its group."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psutil
import requests

from benchmarks.peers import work
from benchmarks.peers.systems import Place, System
from common.errors import Busy, Unreachable
from deploy.host.processes import alive, end_group, signal_when_parent_dies, wait_until_gone
from deploy.settings import HOST, ROOT

START_S = 180.0
POLL_S = 0.05
ANSWER_S = 60.0
GONE_S = 10.0
SETTLE_S, SETTLE_POLL_S = 60.0, 0.3
IDLE = 0.15  # share of one core
MARK = "BENCH_RUN"  # environment variable of every process that a system starts


@dataclass
class Running:
    """The processes of a system, and their address."""

    system: System
    place: Place
    url: str = ""
    key: str | None = None
    start_s: float = 0.0
    archive_mb: float | None = None
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def ask(self, photo: str, **more: Any) -> dict[str, Any]:
        """The answer to one photo.

        Raises:
            requests.RequestException: there is no answer, or its status is an error.
            ValueError: the answer is not JSON.
        """
        body = {**self.system.request(photo), **more}
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        with requests.Session() as session:
            session.trust_env = False  # ignore proxy settings: both programs run on this machine
            answer = session.post(self.url, json=body, headers=headers, timeout=ANSWER_S)
        answer.raise_for_status()
        content: dict[str, Any] = answer.json()
        return content

    def family(self) -> list[psutil.Process]:
        """All processes that it started: its descendants, and those with its mark in their environment."""
        descendants = {p for process in self.processes for p in _descendants(process.pid)}
        return [p for p in {*descendants, *(p for p in psutil.process_iter() if self._marked(p))} if alive(p)]

    def memory_mb(self) -> float:
        """Resident memory of all its processes in megabytes; shared pages are divided among them (PSS)."""
        total = 0
        for process in self.family():
            with contextlib.suppress(psutil.Error):
                total += process.memory_full_info().pss
        return round(total / 1e6, 1)

    def settle(self) -> None:
        """Wait until its processes are idle, at most a minute: requests of the last load may still be queued."""
        deadline = time.monotonic() + SETTLE_S
        before = self._cpu_s()
        while time.monotonic() < deadline:
            time.sleep(SETTLE_POLL_S)
            before, spent = (now := self._cpu_s()), now - before
            if spent < IDLE * SETTLE_POLL_S:
                return

    def _cpu_s(self) -> float:
        spent = 0.0
        for process in self.family():
            with contextlib.suppress(psutil.Error):
                spent += sum(process.cpu_times()[:2])
        return spent

    def start(self) -> None:
        """Start all processes."""
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("SERVE_", "BENCH_"))},
            "PYTHONPATH": str(ROOT),
            MARK: self.mark,
            work.FORM: self.system.form,
            work.MODELS: str(self.place.models),
            work.BUNDLE: str(self.place.bundle),
            **self.system.variables(self.place),
        }
        with (self.place.folder / "console.log").open("a") as console:
            for words in self.system.commands(self.system, self.place):
                self.processes.append(
                    subprocess.Popen(
                        [str(word) for word in words],
                        cwd=ROOT,
                        env=environment,
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.PIPE if self.system.prints_address else console,
                        stderr=console,
                        text=True,
                        start_new_session=True,
                        preexec_fn=lambda: signal_when_parent_dies(signal.SIGTERM),
                    )
                )

    def wait(self, photo: str) -> None:
        """Wait until it answers a photo with status 200.

        Raises:
            Unreachable: it ended, or did not answer in time; the message has the end of its console.
        """
        begun, last = time.monotonic(), "nothing listens"
        if self.system.prints_address:
            self._read_address()
        while time.monotonic() < begun + START_S:
            self._require_alive()
            try:
                label(self.ask(photo))
            except (requests.RequestException, ValueError) as error:
                last = str(error)
                time.sleep(POLL_S)
            else:
                return
        raise Unreachable(f"{self.system.name} did not answer within {START_S:.0f} s: {last}{self.last_words()}")

    def stop(self) -> None:
        """End every process: by SIGTERM, then by SIGKILL."""
        family = self.family()
        for first in reversed(self.processes):
            end_group(first.pid)
        left = [*family, *self.family()]
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(number)
            left = wait_until_gone(left, GONE_S)
        for started in self.processes:
            started.wait()
            if started.stdout:
                started.stdout.close()

    def last_words(self, lines: int = 12) -> str:
        """The last lines of its console, for an error message."""
        try:
            text = (self.place.folder / "console.log").read_text(errors="replace").splitlines()
        except OSError:
            text = []
        return "".join(f"\n  {line[:300]}" for line in text[-lines:])

    def _read_address(self) -> None:
        stdout = self.processes[-1].stdout
        assert stdout
        line = stdout.readline()
        if not line:
            self.processes[-1].wait()
            raise Unreachable(f"{self.system.name} ended while starting:{self.last_words()}")
        address = json.loads(line)
        self.url, self.key, self.archive_mb = address["url"], address["key"], address["archive_mb"]

    def _require_alive(self) -> None:
        for process in self.processes:
            if process.poll() is not None:
                raise Unreachable(f"{self.system.name} ended while starting:{self.last_words()}")

    def _marked(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(MARK) == self.mark
        except psutil.Error:
            return False


@contextmanager
def running(system: System, place: Place, photo: str) -> Iterator[Running]:
    """Start a system, yield it once it answers, and stop it in every case.

    Raises:
        Unreachable: it does not start.
    """
    server = Running(system, place, url=place.url + system.path)
    begun = time.monotonic()
    try:
        server.start()
        server.wait(photo)
        server.start_s = round(time.monotonic() - begun, 2)
        yield server
    finally:
        server.stop()


def label(answer: dict[str, Any]) -> str:
    """The label of an answer, in the form of the classroom document or of the V2 protocol.

    Raises:
        ValueError: it has none.
    """
    try:
        return str(answer["result"] if "result" in answer else answer["outputs"][0]["data"][0])
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"no label in {json.dumps(answer)[:200]}") from error


def free_ports(count: int = 5) -> int:
    """The first of `count` consecutive free ports, below the range that the kernel gives to clients.

    Raises:
        Busy: there are none.
    """
    for _ in range(200):
        first = random.randrange(20_000, 32_000)
        with contextlib.ExitStack() as taken, contextlib.suppress(OSError):
            for port in range(first, first + count):
                taken.enter_context(socket.socket()).bind((HOST, port))
            return first
    raise Busy(f"there are no {count} consecutive free ports between 20000 and 32000", "stop a program that uses them")


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    except psutil.Error:
        return []
