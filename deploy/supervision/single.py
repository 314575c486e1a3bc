"""One server in one `var`: who runs there or starts, and why a second one is refused."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from common.errors import UserError
from deploy.host import locks
from deploy.host.processes import cmdline
from deploy.settings import Settings

FOREGROUND, BACKGROUND = "make serve", "make up"
MODULE = "deploy.supervision.supervisor"  # runs supervisord


@contextmanager
def serving(settings: Settings, mode: str) -> Iterator[None]:
    """Hold the lock of a server.

    Raises:
        UserError: a server is running, naming who started it and how it is stopped.
    """
    try:
        with locks.held(settings.var / locks.SERVER, mode):
            yield
    except locks.Held as error:
        raise running_already(error.holder) from error


def refuse_second(settings: Settings) -> None:
    """Say so before anything is prepared if a server is running already.

    Raises:
        UserError: see `serving`.
    """
    holder = locks.holder(settings.var / locks.SERVER)
    if holder:
        raise running_already(holder)


def running_already(holder: locks.Holder) -> UserError:
    """Who is running, and how to stop it."""
    how = "Ctrl-C in its terminal, or make down" if holder.what == FOREGROUND else "make down"
    return UserError(
        f"a server is running already ({holder.what}, {holder.facts}): stop it with {how}, "
        "or start a second one with SERVE_VAR=FOLDER and ports of its own"
    )


@contextmanager
def starting(settings: Settings, mode: str) -> Iterator[None]:
    """Be the only one who starts a server here; held until its supervisord has the lock of a server, so that
    `make down` finds one of both in any moment.

    Raises:
        UserError: a server is running or being started, or versions are being changed, naming by whom.
    """
    refuse_second(settings)
    with ExitStack() as stack:
        try:
            stack.enter_context(locks.held(settings.var / locks.DEPLOYMENT, mode))
        except locks.Held as error:
            raise UserError(f"{error.message}: run this again when it is over") from error
        refuse_second(settings)  # another was faster
        yield


def supervisor_of(settings: Settings) -> int | None:
    """The process id of the supervisord that holds the lock of a server.

    A full disk leaves the lock without a name, and supervisord.pid empty: then it is the one of our supervisords
    that has the lock's file open.
    """
    path = settings.var / locks.SERVER
    holder = locks.holder(path)
    if holder is None or holder.pid:
        return holder.pid if holder else None
    return next((p.pid for p in psutil.process_iter() if MODULE in cmdline(p) and _has_open(p, path)), None)


def _has_open(process: psutil.Process, path: Path) -> bool:
    try:
        return any(file.path == str(path) for file in process.open_files())
    except psutil.Error:
        return False
