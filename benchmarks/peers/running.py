"""A system that runs: started in process groups of its own, asked until it answers rightly, and ended with all that it
started, also what left its group."""

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
from common.errors import UserError
from deploy.host.processes import alive, end_group, signal_when_parent_dies, wait_until_gone
from deploy.settings import HOST, ROOT

START_S = 180.0
POLL_S = 0.05
ANSWER_S = 60.0
GONE_S = 10.0
SETTLE_S, LOOK_S = 60.0, 0.3
IDLE = 0.15  # of one core
MARK = "BENCH_RUN"  # in the environment of everything that a system starts


@dataclass
class Running:
    """Processes and where they answer."""

    system: System
    place: Place
    url: str = ""
    key: str | None = None
    start_s: float = 0.0
    archive_mb: float | None = None
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def ask(self, photo: str, **more: Any) -> dict[str, Any]:
        """One photo's answer.

        Raises:
            requests.RequestException: no answer, or none of status 200. ValueError: no JSON.
        """
        body = {**self.system.request(photo), **more}
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        with requests.Session() as session:
            session.trust_env = False  # no proxy between two programs on one machine
            answer = session.post(self.url, json=body, headers=headers, timeout=ANSWER_S)
        answer.raise_for_status()
        told: dict[str, Any] = answer.json()
        return told

    def family(self) -> list[psutil.Process]:
        """All processes that it started, by descent or by the mark in their environment."""
        found = {p for process in self.processes for p in _descent(process.pid)}
        return [p for p in {*found, *(p for p in psutil.process_iter() if self._marked(p))} if alive(p)]

    def memory_mb(self) -> float:
        """Resident memory of all its processes in megabytes; a page that n of them share counts 1/n in each (PSS)."""
        total = 0
        for process in self.family():
            with contextlib.suppress(psutil.Error):
                total += process.memory_full_info().pss
        return round(total / 1e6, 1)

    def settle(self) -> None:
        """Return when its processes are idle, after a minute at the latest: a load that ends leaves what it had asked
        in the queue, and the next load would wait behind it."""
        deadline = time.monotonic() + SETTLE_S
        before = self._cpu_s()
        while time.monotonic() < deadline:
            time.sleep(LOOK_S)
            before, spent = (now := self._cpu_s()), now - before
            if spent < IDLE * LOOK_S:
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
                        stdout=subprocess.PIPE if self.system.tells else console,
                        stderr=console,
                        text=True,
                        start_new_session=True,
                        preexec_fn=lambda: signal_when_parent_dies(signal.SIGTERM),
                    )
                )

    def wait(self, photo: str) -> None:
        """Return when it answers a photo by status 200.

        Raises:
            UserError: it ended, or gave no answer in time; with its last words.
        """
        begun, last = time.monotonic(), "nothing listens"
        if self.system.tells:
            self._hear()
        while time.monotonic() < begun + START_S:
            self._alive()
            try:
                label(self.ask(photo))
            except (requests.RequestException, ValueError) as error:
                last = str(error)
                time.sleep(POLL_S)
            else:
                return
        raise UserError(f"{self.system.name} did not answer within {START_S:.0f} s: {last}{self.last_words()}")

    def stop(self) -> None:
        """End every process, the gentle way first."""
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
        """The end of its console, for an error message."""
        try:
            said = (self.place.folder / "console.log").read_text(errors="replace").splitlines()
        except OSError:
            said = []
        return "".join(f"\n  {line[:300]}" for line in said[-lines:])

    def _hear(self) -> None:
        stdout = self.processes[-1].stdout
        assert stdout
        line = stdout.readline()
        if not line:
            self.processes[-1].wait()
            raise UserError(f"{self.system.name} ended while starting:{self.last_words()}")
        told = json.loads(line)
        self.url, self.key, self.archive_mb = told["url"], told["key"], told["archive_mb"]

    def _alive(self) -> None:
        for process in self.processes:
            if process.poll() is not None:
                raise UserError(f"{self.system.name} ended while starting:{self.last_words()}")

    def _marked(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(MARK) == self.mark
        except psutil.Error:
            return False


@contextmanager
def running(system: System, place: Place, photo: str) -> Iterator[Running]:
    """Start a system, yield it when it answers, stop it whatever happens.

    Raises:
        UserError: it does not start.
    """
    it = Running(system, place, url=place.url + system.path)
    begun = time.monotonic()
    try:
        it.start()
        it.wait(photo)
        it.start_s = round(time.monotonic() - begun, 2)
        yield it
    finally:
        it.stop()


def label(answer: dict[str, Any]) -> str:
    """The label of an answer, in the document's form or the V2 protocol's.

    Raises:
        ValueError: it has none.
    """
    try:
        return str(answer["result"] if "result" in answer else answer["outputs"][0]["data"][0])
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"no label in {json.dumps(answer)[:200]}") from error


def free_ports(count: int = 5) -> int:
    """The first of so many free ports in a row, below those that the kernel gives to clients."""
    for _ in range(200):
        first = random.randrange(20_000, 32_000)
        with contextlib.ExitStack() as taken, contextlib.suppress(OSError):
            for port in range(first, first + count):
                taken.enter_context(socket.socket()).bind((HOST, port))
            return first
    raise UserError(f"no {count} free ports in a row between 20000 and 32000: stop what listens there")


def _descent(pid: int) -> list[psutil.Process]:
    try:
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    except psutil.Error:
        return []
