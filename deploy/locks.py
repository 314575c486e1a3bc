"""Who is at work: a lock file whose holder is visible, and which the kernel frees when the holder dies.

Two of them lie in `var`: `SERVER` is held as long as a server runs there, `DEPLOYMENT` while
versions are changed (a rollout, a rollback, the keeper's repairs).
"""

import datetime
import fcntl
import getpass
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import click

SERVER = "lock"
DEPLOYMENT = "deploying.lock"
_BLINK_S = 0.5  # whoever looks at a lock holds it for a moment
_POLL_S = 0.02


@dataclass(frozen=True)
class Holder:
    """Who holds a lock, or left it when it died: `what` it does, as a person would say it."""

    pid: int
    what: str
    who: str
    since: str

    def __str__(self) -> str:
        return f"{self.what} (process {self.pid} of {self.who}, since {self.since})"


class Held(click.ClickException):
    """Another holds the lock."""

    def __init__(self, holder: Holder | None) -> None:
        super().__init__(f"{holder or 'another process'} is at work")
        self.holder = holder


@contextmanager
def held(path: Path, what: str, wait_s: float = _BLINK_S) -> Iterator[Holder | None]:
    """Hold a lock for as long as the block runs.

    Args:
        what: what is being done, for whoever is refused: "rollout of classroom 2.0".
        wait_s: how long to wait for another holder.

    Yields:
        who died with the lock in hand, if somebody did.

    Raises:
        Held: another holds it still, with its `holder`.
        click.ClickException: the file cannot be written.
    """
    with _opened(path) as file:
        _take(file, wait_s)
        left = _read(file)
        _write(file, json.dumps(asdict(Holder(os.getpid(), what, user(), _now()))))
        try:
            yield left
        finally:
            _write(file, "")


def holder(path: Path) -> Holder | None:
    """Who holds a lock now."""
    return _look(path)[0]


def left_over(path: Path) -> Holder | None:
    """Who died with the lock in hand, if nobody has taken it since."""
    return _look(path)[1]


def user() -> str:
    """The name of the person at work, through sudo too."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _opened(path: Path) -> IO[str]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.chmod(0o700)
        return path.open("a+")
    except OSError as error:
        raise click.ClickException(
            f"{path.parent} cannot be written: {error.strerror}: give another with SERVE_VAR=FOLDER"
        ) from error


def _take(file: IO[str], wait_s: float) -> None:
    deadline = time.monotonic() + max(wait_s, _BLINK_S)
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise Held(_read(file)) from error
            time.sleep(_POLL_S)


def _look(path: Path) -> tuple[Holder | None, Holder | None]:
    """(the holder, None), or (None, whoever died holding it)."""
    try:
        file = path.open("r+")
    except OSError:
        return None, None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read(file), None
        return None, _read(file)


def _read(file: IO[str]) -> Holder | None:
    file.seek(0)
    try:
        return Holder(**json.loads(file.read()))
    except (ValueError, TypeError):
        return None


def _write(file: IO[str], text: str) -> None:
    """What cannot be written (a full disk) leaves the lock held, only unnamed."""
    try:
        file.truncate(0)
        file.write(text)
        file.flush()
    except OSError:
        pass


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")
