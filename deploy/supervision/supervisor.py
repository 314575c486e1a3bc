"""The process that runs supervisord, and the lock that allows one server per `var` folder.

    python -m deploy.supervision.supervisor up

takes the server lock and runs config/supervisord.conf in the same process: the lock is held exactly as long as
supervisord lives, because the programs that it starts close its files.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import click
import psutil

from common.cli import command
from common.errors import Busy
from deploy.host.locks import LockHeld, Owner, OwnerKind, deployment_lock, server_lock
from deploy.host.processes import SUPERVISOR, cmdline, signal_when_parent_dies, signals_wait
from deploy.host.var import claim
from deploy.settings import ROOT, Settings, read_settings
from deploy.supervision import front
from deploy.supervision.torchserve_program import STOPPING

MODULE = "deploy.supervision.supervisor"
CONF = ROOT / "config" / "supervisord.conf"
CONSOLE = "supervisord-console.log"
CONSOLE_BYTES = 20_000_000
MODE = "DEPLOY_MODE"  # in the environment of the programs: "serve" or "up"
FOREGROUND, BACKGROUND = OwnerKind.SERVE, OwnerKind.UP


@command(epilog="Example: python -m deploy.supervision.supervisor up")
@click.argument("mode", type=click.Choice([FOREGROUND.value, BACKGROUND.value]))
def main(mode: str) -> None:
    """Hold the server lock of var and run supervisord, until SIGTERM."""
    settings = read_settings()
    os.umask(0o077)
    with serving(settings, OwnerKind(mode)):
        run(settings, OwnerKind(mode))


def run(settings: Settings, mode: OwnerKind) -> None:
    """Run supervisord in this process; returns when it was stopped and all its programs have ended."""
    from supervisor import supervisord  # here: the other importers of this module do not need it

    from deploy.supervision import supervisord_patches

    (settings.var / "logs").mkdir(exist_ok=True)
    supervisord_patches.apply(
        {
            "DEPLOY_PYTHON": sys.executable,
            "DEPLOY_ROOT": str(ROOT),
            "DEPLOY_VAR": str(settings.var),
            SUPERVISOR: str(os.getpid()),
            MODE: mode.value,
            "DEPLOY_WEB": str(settings.web_port > 0).lower(),
            "DEPLOY_FRONT": str(front.starts(settings)).lower(),
        }
    )
    supervisord.main(["-c", str(CONF)])


def spawn(settings: Settings, mode: OwnerKind) -> subprocess.Popen[bytes]:
    """Start supervisord in a new session; in the foreground it stops when this process dies, even by `kill -9`."""
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


def open_console(logs: Path) -> BinaryIO:
    """Open the file for what supervisord prints before it has a log, or when it cannot write it.

    The file is emptied first if it has more than CONSOLE_BYTES.
    """
    logs.mkdir(exist_ok=True)
    path = logs / CONSOLE
    too_long = path.exists() and path.stat().st_size > CONSOLE_BYTES
    return open(path, "wb" if too_long else "ab", opener=_private)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextmanager
def serving(settings: Settings, mode: OwnerKind) -> Iterator[None]:
    """Hold the server lock.

    Raises:
        Busy: a server is running, naming who started it and how to stop it.
    """
    try:
        with server_lock(settings.var).hold(mode):
            yield
    except LockHeld as error:
        raise running_already(error.owner) from error


@contextmanager
def starting(settings: Settings, mode: OwnerKind) -> Iterator[None]:
    """Hold the deployment lock while a server starts, until its supervisord holds the server lock.

    So `make down` finds the owner of one of the two locks at any moment.

    Raises:
        Busy: a server is running or starting, or versions are being changed, naming by whom.
    """
    refuse_second(settings)
    with ExitStack() as stack:
        try:
            stack.enter_context(deployment_lock(settings.var).hold(mode))
        except LockHeld as error:
            raise Busy(error.problem, "run this again when it is over") from error
        refuse_second(settings)  # one may have started before we had the lock
        yield


def refuse_second(settings: Settings) -> None:
    """Refuse to start if a server is running.

    Raises:
        Busy: see `serving`.
    """
    owner = server_lock(settings.var).owner()
    if owner:
        raise running_already(owner)


def running_already(owner: Owner) -> Busy:
    """The error that names the running server and how to stop it."""
    stop = "Ctrl-C in its terminal, or make down" if owner.kind is FOREGROUND else "make down"
    return Busy(
        f"a server is running already ({owner.what}, {owner.process})",
        f"stop it with {stop}, or start a second one with SERVE_VAR=FOLDER and different ports",
    )


def supervisor_of(settings: Settings) -> int | None:
    """The process id of the supervisord that holds the server lock.

    On a full disk neither the lock file nor supervisord.pid names it. Then it is the process of this module that has
    the lock file open.
    """
    lock = server_lock(settings.var)
    owner = lock.owner()
    if owner is None or owner.pid:
        return owner.pid if owner else None
    return next((p.pid for p in psutil.process_iter() if MODULE in cmdline(p) and _has_open(p, lock.path)), None)


def _has_open(process: psutil.Process, path: Path) -> bool:
    try:
        return any(file.path == str(path) for file in process.open_files())
    except psutil.Error:
        return False


if __name__ == "__main__":
    main(prog_name=f"python -m {MODULE}")
