"""supervisord in a process of ours, and how `up`, `serve` and the keeper start, await and stop it.

    python -m deploy.supervision.supervisor up

takes the lock of `var` and runs config/supervisord.conf, so that the lock is held exactly as long as supervisord
lives: it is one process, and the programs that it starts close its files.
"""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO

import click
import psutil
import requests

from common.cli import command
from common.errors import UserError
from deploy.host.locks import LockHeld, OwnerKind, server_lock
from deploy.host.processes import (
    SUPERVISOR,
    alive,
    group_of_server,
    members,
    signal_when_parent_dies,
    signals_wait,
    wait_until_gone,
)
from deploy.host.var import claim
from deploy.settings import ROOT, Settings, read_settings
from deploy.supervision.single import BACKGROUND, FOREGROUND, MODULE, refuse_second, serving, supervisor_of
from deploy.supervision.torchserve_program import NOT_STARTED, STOPPING
from deploy.torchserve.process import stop_left_over

CONF = ROOT / "config" / "supervisord.conf"
CONSOLE = "supervisord-console.log"
CONSOLE_BYTES = 20_000_000
MODE = "DEPLOY_MODE"  # in the environment of the programs: "serve" or "up"
READY_S = 300  # a version's worker may take 120 s to start (config.properties), and several are started in turn
GONE_S = 90  # a stopping TorchServe is killed after 30 s
_POLL_S = 0.1


@command(epilog="Example: python -m deploy.supervision.supervisor up")
@click.argument("mode", type=click.Choice([FOREGROUND.value, BACKGROUND.value]))
def main(mode: str) -> None:
    """Hold the lock of var and run supervisord, until SIGTERM."""
    settings = read_settings()
    os.umask(0o077)
    with serving(settings, OwnerKind(mode)):
        run(settings, OwnerKind(mode))


def run(settings: Settings, mode: OwnerKind) -> None:
    """Run supervisord here; returns when it was told to stop and everything has stopped."""
    from supervisor import supervisord  # here: nobody else needs it

    (settings.var / "logs").mkdir(exist_ok=True)
    os.environ |= {
        "DEPLOY_PYTHON": sys.executable,
        "DEPLOY_ROOT": str(ROOT),
        "DEPLOY_VAR": str(settings.var),
        SUPERVISOR: str(os.getpid()),
        MODE: mode.value,
    }
    sys.stderr = Forgiving()
    _lose_no_signal()
    supervisord.main(["-c", str(CONF)])


def _lose_no_signal() -> None:
    """Between fork and exec a program has supervisord's handlers, and a signal would go with them: `make down` would
    wait for stopwaitsecs. So signals are held back during a fork, and end a program that is not yet one."""

    def begin() -> None:
        for number in STOPPING:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)

    os.register_at_fork(
        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING),
        after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING),
        after_in_child=begin,
    )


class Forgiving(io.TextIOBase):
    """A standard error that never fails: on a full disk supervisord complains there that it cannot write, and
    would end of it."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            os.write(2, text.encode("utf-8", "replace"))
        return len(text)


def spawn(settings: Settings, mode: OwnerKind) -> subprocess.Popen[bytes]:
    """Start supervisord in a session of its own; in the foreground it stops when we die, be it of `kill -9`."""
    claim(settings.var)
    with signals_wait(*STOPPING) as restore, open_console(settings.var / "logs") as console:

        def prepare() -> None:
            restore()
            if mode is FOREGROUND:
                signal_when_parent_dies(signal.SIGTERM)

        return subprocess.Popen(
            [sys.executable, "-m", MODULE, mode.value],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            start_new_session=True,
            preexec_fn=prepare,
        )


def launch(settings: Settings, mode: OwnerKind) -> subprocess.Popen[bytes]:
    """Start supervisord, and return when it holds the lock of a server.

    Raises:
        UserError: it ended, or another was faster.
    """
    supervisor = spawn(settings, mode)
    while supervisor_of(settings) != supervisor.pid:
        _refuse_ended(settings, supervisor)
        time.sleep(_POLL_S)
    return supervisor


def wait_until_ready(settings: Settings, supervisor: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Wait until real predictions are right, telling what is waited for.

    Returns:
        the keeper's answer.

    Raises:
        UserError: why it will not become ready, in one line.
    """
    log = settings.var / "logs" / "torchserve.log"
    seen, told = log.stat().st_size if log.exists() else 0, ""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        answer = ask_keeper(settings)
        if answer.get("ready") and supervisor_of(settings) == supervisor.pid:
            return answer
        _refuse_to_wait(settings, supervisor, answer, _not_started(log, seen))
        reason = answer.get("reason", "the programs are starting")
        if reason != told:
            click.echo(f"  {reason} ...", err=True)
        told = reason
        time.sleep(_POLL_S)
    raise UserError(f"not ready after {READY_S} s: {told} (see {settings.var}/logs)")


def ask_keeper(settings: Settings) -> dict[str, Any]:
    """The keeper's /ready, empty where it does not answer."""
    with requests.Session() as session:
        session.trust_env = False  # no proxy between two programs on one machine
        try:
            answer: dict[str, Any] = session.get(settings.url("keeper") + "/ready", timeout=(1, 20)).json()
        except (requests.RequestException, ValueError):
            return {}
    return answer


def stop(settings: Settings, supervisor: int | None) -> None:
    """Tell supervisord to stop all; returns when no process is left, Java and workers included."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(supervisor) if supervisor else None
        if process and alive(process):
            group = group_of_server(settings.var)
            below = process.children(recursive=True)
            process.send_signal(signal.SIGTERM)
            wait_until_gone([process, *below, *(members(group) if group else [])], GONE_S)
    with contextlib.suppress(LockHeld), server_lock(settings.var).hold(OwnerKind.DOWN):
        stop_left_over(settings.var)  # where the lock is held it is another's


def stop_children(settings: Settings) -> None:
    """Stop the supervisord that we have started, also in the moment when nobody has written down which it is."""
    for child in psutil.Process().children():
        stop(settings, child.pid)


def open_console(logs: Path) -> BinaryIO:
    """What supervisord says before it has a log and when it cannot write it; begun anew when it has become long."""
    logs.mkdir(exist_ok=True)
    path = logs / CONSOLE
    long = path.exists() and path.stat().st_size > CONSOLE_BYTES
    return open(path, "wb" if long else "ab", opener=_private)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _refuse_to_wait(
    settings: Settings, supervisor: subprocess.Popen[bytes], answer: dict[str, Any], not_started: str | None
) -> None:
    _refuse_ended(settings, supervisor)
    if not_started:
        raise UserError(not_started)
    if answer.get("missing") and not answer["repairing"]:  # else another version may still take its place
        raise UserError("; ".join(str(row["why"]) for row in answer["missing"]))


def _refuse_ended(settings: Settings, supervisor: subprocess.Popen[bytes]) -> None:
    if supervisor.poll() is not None:
        refuse_second(settings)  # another was faster
        if supervisor.returncode in (0, -signal.SIGTERM):
            raise UserError("it was stopped while it was starting, as make down does: start it again")
        raise UserError(f"supervisord ended: see {settings.var / 'logs' / CONSOLE}")


def _not_started(log: Path, seen: int) -> str | None:
    """Why TorchServe did not start, if that is written down after the first `seen` bytes."""
    try:
        lines = log.read_bytes()[seen:].splitlines()
    except OSError:
        return None
    for line in lines:
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            if row.get("event") == NOT_STARTED:
                return str(row["why"])
    return None


if __name__ == "__main__":
    main(prog_name=f"python -m {MODULE}")
