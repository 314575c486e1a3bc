"""One server in one `var`: who runs there or starts, and why a second one is refused."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from common.errors import UserError
from deploy.host.locks import LockHeld, Owner, OwnerKind, deployment_lock, server_lock
from deploy.host.processes import cmdline
from deploy.settings import Settings

FOREGROUND, BACKGROUND = OwnerKind.SERVE, OwnerKind.UP
MODULE = "deploy.supervision.supervisor"  # runs supervisord


@contextmanager
def serving(settings: Settings, mode: OwnerKind) -> Iterator[None]:
    """Hold the lock of a server.

    Raises:
        UserError: a server is running, naming who started it and how it is stopped.
    """
    try:
        with server_lock(settings.var).hold(mode):
            yield
    except LockHeld as error:
        raise running_already(error.owner) from error


def refuse_second(settings: Settings) -> None:
    """Say so before anything is prepared if a server is running already.

    Raises:
        UserError: see `serving`.
    """
    owner = server_lock(settings.var).owner()
    if owner:
        raise running_already(owner)


def running_already(owner: Owner) -> UserError:
    """Who is running, and how to stop it."""
    how = "Ctrl-C in its terminal, or make down" if owner.kind is FOREGROUND else "make down"
    return UserError(
        f"a server is running already ({owner.what}, {owner.process}): stop it with {how}, "
        "or start a second one with SERVE_VAR=FOLDER and ports of its own"
    )


@contextmanager
def starting(settings: Settings, mode: OwnerKind) -> Iterator[None]:
    """Be the only one who starts a server here; held until its supervisord has the lock of a server, so that
    `make down` finds one of both in any moment.

    Raises:
        UserError: a server is running or being started, or versions are being changed, naming by whom.
    """
    refuse_second(settings)
    with ExitStack() as stack:
        try:
            stack.enter_context(deployment_lock(settings.var).hold(mode))
        except LockHeld as error:
            raise UserError(f"{error.message}: run this again when it is over") from error
        refuse_second(settings)  # another was faster
        yield


def supervisor_of(settings: Settings) -> int | None:
    """The process id of the supervisord that holds the lock of a server.

    A full disk leaves the lock without a name, and supervisord.pid empty: then it is the one of our supervisords
    that has the lock's file open.
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
