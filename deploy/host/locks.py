"""Locks of a `var` folder: the file names the lock's owner, and the kernel frees the lock when the owner dies.

`server_lock` is held while a server runs in `var`. `deployment_lock` is held while versions are changed (a rollout,
a rollback, a repair by the keeper) and while a server is being started or stopped.
"""

import contextlib
import datetime
import fcntl
import getpass
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from common.errors import Busy, CannotWrite
from deploy.host.var import MARK, claim

SERVER = "lock"
DEPLOYMENT = MARK
_BLINK_S = 0.5  # a reader holds the lock for a moment
_NAME_S = 0.2  # a new owner holds the lock for a moment before its name is in the file, and one that leaves after it
_POLL_S = 0.02
_SIZE = 512  # bytes of a lock file: always the same, so that a new name needs no further disk space


class OwnerKind(StrEnum):
    """What the owner of a lock does. Code branches on this, never on the text."""

    SERVE = "serve"
    UP = "up"
    DOWN = "down"
    ROLLOUT = "rollout"
    ROLLBACK = "rollback"
    RETIRE = "retire"
    REPAIR = "repair"
    UNKNOWN = "unknown"


_TEXTS = {
    OwnerKind.SERVE: "make serve",
    OwnerKind.UP: "make up",
    OwnerKind.DOWN: "make down",
    OwnerKind.REPAIR: "keeper's repair",
    OwnerKind.UNKNOWN: "an unknown process",
}


@dataclass(frozen=True)
class Owner:
    """The process that holds a lock, or that died while it held it.

    Attributes:
        what: what it does, for people: "rollout of classroom 2.0".
        who: its user.
        since: when it took the lock, ISO 8601 with time zone.
    """

    pid: int
    what: str
    who: str
    since: str
    kind: OwnerKind = OwnerKind.UNKNOWN

    def __str__(self) -> str:
        return f"{self.what} ({self.process})"

    @property
    def process(self) -> str:
        """Process id, user and time."""
        if not self.pid:
            return "its name is not in the lock file because the disk was full"
        return f"process {self.pid} of {self.who}, since {self.since}"

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> "Owner":
        """Read the JSON of a lock file; former versions wrote no `kind`.

        Raises:
            TypeError, ValueError: it is not an owner.
        """
        kind = row["kind"] if "kind" in row else _FORMER_KINDS.get(row.get("what", ""), OwnerKind.UNKNOWN)
        return cls(**{**row, "kind": OwnerKind(kind)})


_FORMER_KINDS = {text: kind for kind, text in _TEXTS.items()}
"""The text of a lock file that has no `kind` -> its kind."""

UNNAMED = Owner(0, _TEXTS[OwnerKind.UNKNOWN], "unknown", "unknown")
"""An owner whose name could not be written into the lock file."""


class LockHeld(Busy):
    """Another process holds the lock."""

    def __init__(self, owner: Owner) -> None:
        super().__init__(f"{owner} is running")
        self.owner = owner


@dataclass(frozen=True)
class Lock:
    """An exclusive lock on a file."""

    path: Path

    @contextmanager
    def hold(self, kind: OwnerKind, subject: str = "", wait_s: float = _BLINK_S) -> Iterator[Owner | None]:
        """Hold the lock while the block runs.

        Args:
            kind: what the block does.
            subject: the version that it changes: "classroom 2.0".
            wait_s: how long to wait for another owner.

        Yields:
            the owner that died while it held the lock, if there was one.

        Raises:
            LockHeld: another process still holds it.
            UserError: the file cannot be written, or the folder belongs to another program.
        """
        what = f"{kind} of {subject}" if subject else _TEXTS.get(kind, str(kind))
        with _opened(self.path) as file:
            _take(file, wait_s)
            dead = _read(file)
            _write(file, json.dumps(asdict(Owner(os.getpid(), what, user(), _now(), kind))))
            try:
                yield dead
            finally:
                _write(file, "")

    def owner(self) -> Owner | None:
        """The process that holds the lock now; `UNNAMED` if it could not write its name."""
        return _owners(self.path)[0]

    def dead_owner(self) -> Owner | None:
        """The process that died while it held the lock, if no other has taken it since."""
        return _owners(self.path)[1]


def server_lock(var: Path) -> Lock:
    """The lock that is held while a server runs in `var`."""
    return Lock(var / SERVER)


def deployment_lock(var: Path) -> Lock:
    """The lock that is held while versions are changed, or a server is started or stopped."""
    return Lock(var / DEPLOYMENT)


def user() -> str:
    """The name of the user, also under sudo."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """The file's descriptor; nothing is buffered, so closing it writes nothing and cannot fail."""
    claim(path.parent)
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise CannotWrite(path, error) from error
    try:
        yield file
    finally:
        os.close(file)


def _take(file: int, wait_s: float) -> None:
    deadline = time.monotonic() + max(wait_s, _BLINK_S)
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = _read(file)
            if time.monotonic() > deadline + (0 if owner else _NAME_S):  # its name is just being written or removed
                raise LockHeld(owner or UNNAMED) from error
            time.sleep(_POLL_S)


def _owners(path: Path) -> tuple[Owner | None, Owner | None]:
    """(the owner, None), or (None, the owner that died)."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return None, None
    deadline = time.monotonic() + _NAME_S
    try:
        while not _free(file):
            owner = _read(file)
            if owner or time.monotonic() > deadline:
                return owner or UNNAMED, None
            time.sleep(_POLL_S)
        return None, _read(file)
    finally:
        os.close(file)


def _free(file: int) -> bool:
    """Whether no process holds it. Readers take a shared lock, so that two readers do not see each other as owners."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def _read(file: int) -> Owner | None:
    try:
        return Owner.from_json(json.loads(os.pread(file, os.fstat(file).st_size, 0)))
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def _write(file: int, text: str) -> None:
    """Replace the content. On a full disk the lock is still held, without a name in the file."""
    written = 0
    with contextlib.suppress(OSError):
        written = os.pwrite(file, text.encode().ljust(_SIZE), 0)
    with contextlib.suppress(OSError):
        os.ftruncate(file, written)


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")
