"""Who is at work: a lock file whose holder is visible, and which the kernel frees when the holder dies.

Two of them lie in `var`: `SERVER` is held as long as a server runs there, `DEPLOYMENT` while
versions are changed (a rollout, a rollback, the keeper's repairs) and while a server is being started or stopped.
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
from pathlib import Path

from common.errors import UserError
from deploy.host.var import MARK, claim

SERVER = "lock"
DEPLOYMENT = MARK
_BLINK_S = 0.5  # whoever looks at a lock holds it for a moment
_NAME_S = 0.2  # whoever takes a lock holds it for a moment without a name
_POLL_S = 0.02
_SIZE = 512  # of a lock file, in bytes: always the same, so that a name needs no room that the file has not


@dataclass(frozen=True)
class Holder:
    """Who holds a lock, or left it when it died: `what` it does, as a person would say it."""

    pid: int
    what: str
    who: str
    since: str

    def __str__(self) -> str:
        return f"{self.what} ({self.facts})"

    @property
    def facts(self) -> str:
        """Which process, of whom and since when."""
        known = f"process {self.pid} of {self.who}, since {self.since}"
        return known if self.pid else "the lock file holds no name, for the disk was full"


UNNAMED = Holder(0, "somebody", "unknown", "unknown")
"""Holds a lock and could not write down who it is."""


class Held(UserError):
    """Another holds the lock."""

    def __init__(self, holder: Holder) -> None:
        super().__init__(f"{holder} is at work")
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
        UserError: the file cannot be written, or the folder is not ours.
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
    """Who holds a lock now; `UNNAMED` if it could not write its name."""
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


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """The file's descriptor: nothing of ours is buffered, so closing writes nothing and cannot fail."""
    claim(path.parent)
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
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
            if time.monotonic() > deadline:
                raise Held(_read(file) or UNNAMED) from error
            time.sleep(_POLL_S)


def _look(path: Path) -> tuple[Holder | None, Holder | None]:
    """(the holder, None), or (None, whoever died holding it)."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return None, None
    deadline = time.monotonic() + _NAME_S
    try:
        while not _free(file):
            found = _read(file)
            if found or time.monotonic() > deadline:
                return found or UNNAMED, None
            time.sleep(_POLL_S)
        return None, _read(file)
    finally:
        os.close(file)


def _free(file: int) -> bool:
    """Whether nobody holds it; two who look, each with a shared lock, do not take one another for its holder."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def _read(file: int) -> Holder | None:
    try:
        return Holder(**json.loads(os.pread(file, os.fstat(file).st_size, 0)))
    except (OSError, ValueError, TypeError):
        return None


def _write(file: int, text: str) -> None:
    """Write over what is there; what cannot be written (a full disk) leaves the lock held, only unnamed."""
    written = 0
    with contextlib.suppress(OSError):
        written = os.pwrite(file, text.encode().ljust(_SIZE), 0)
    with contextlib.suppress(OSError):
        os.ftruncate(file, written)


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")
