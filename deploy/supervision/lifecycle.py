"""How `up`, `serve`, `down` and `status` start, wait for, query and stop a server."""

import contextlib
import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import requests

from common.console import note
from common.errors import UserError
from deploy.host.locks import LockHeld, OwnerKind, server_lock
from deploy.host.processes import alive, group_of_server, members, wait_until_gone
from deploy.settings import Settings
from deploy.supervision.supervisor import CONSOLE, refuse_second, spawn, supervisor_of
from deploy.supervision.torchserve_program import NOT_STARTED
from deploy.torchserve.management import local_session
from deploy.torchserve.process import stop_left_over

READY_S = 300  # a worker may take 120 s to start (config.properties), and several versions start one after the other
GONE_S = 90  # a TorchServe that does not stop is killed after 30 s
_POLL_S = 0.1


def launch(settings: Settings, mode: OwnerKind) -> subprocess.Popen[bytes]:
    """Start supervisord; returns when it holds the server lock.

    Raises:
        UserError: it ended, or another server started first.
    """
    supervisor = spawn(settings, mode)
    while supervisor_of(settings) != supervisor.pid:
        _refuse_ended(settings, supervisor)
        time.sleep(_POLL_S)
    return supervisor


def wait_until_ready(settings: Settings, supervisor: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Wait until predictions are correct, and print what is waited for.

    Returns:
        the keeper's answer.

    Raises:
        UserError: why it will not become ready.
    """
    log = settings.var / "logs" / "torchserve.log"
    old_bytes, printed = log.stat().st_size if log.exists() else 0, ""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        answer = ask_keeper(settings)
        if answer.get("ready") and supervisor_of(settings) == supervisor.pid:
            return answer
        _refuse_to_wait(settings, supervisor, answer, _not_started(log, old_bytes))
        reason = answer.get("reason", "the programs are starting")
        if reason != printed:
            note(f"  {reason} ...")
        printed = reason
        time.sleep(_POLL_S)
    raise UserError(f"not ready after {READY_S} s: {printed}", f"see {settings.var}/logs")


def ask_keeper(settings: Settings) -> dict[str, Any]:
    """The keeper's /ready; empty if it does not answer."""
    with local_session() as session:
        try:
            answer: dict[str, Any] = session.get(settings.url("keeper") + "/ready", timeout=(1, 20)).json()
        except (requests.RequestException, ValueError):
            return {}
    return answer


def stop(settings: Settings, supervisor: int | None) -> None:
    """Stop supervisord and all its programs; returns when no process is left, Java and workers included."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(supervisor) if supervisor else None
        if process and alive(process):
            group = group_of_server(settings.var)
            below = process.children(recursive=True)
            process.send_signal(signal.SIGTERM)
            wait_until_gone([process, *below, *(members(group) if group else [])], GONE_S)
    with contextlib.suppress(LockHeld), server_lock(settings.var).hold(OwnerKind.DOWN):
        stop_left_over(settings.var)  # under the lock, so that it does not belong to a running server


def stop_children(settings: Settings) -> None:
    """Stop the supervisord that this process has started, even if it is not in the lock file yet."""
    for child in psutil.Process().children():
        stop(settings, child.pid)


def _refuse_to_wait(
    settings: Settings, supervisor: subprocess.Popen[bytes], answer: dict[str, Any], not_started: str | None
) -> None:
    _refuse_ended(settings, supervisor)
    if not_started:
        raise UserError(not_started)
    if answer.get("missing") and not answer["repairing"]:  # while it is repairing, a kept version may replace it
        raise UserError("; ".join(str(row["why"]) for row in answer["missing"]))


def _refuse_ended(settings: Settings, supervisor: subprocess.Popen[bytes]) -> None:
    if supervisor.poll() is None:
        return
    refuse_second(settings)  # another server started first
    if supervisor.returncode in (0, -signal.SIGTERM):
        raise UserError("the server was stopped while it was starting, for example by make down", "start it again")
    raise UserError("supervisord ended", f"see {settings.var / 'logs' / CONSOLE}")


def _not_started(log: Path, old_bytes: int) -> str | None:
    """Why TorchServe did not start, if its log says so after the first `old_bytes` bytes."""
    try:
        lines = log.read_bytes()[old_bytes:].splitlines()
    except OSError:
        return None
    for line in lines:
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            if row.get("event") == NOT_STARTED:
                return str(row["why"])
    return None
