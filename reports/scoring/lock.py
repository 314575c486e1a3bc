"""The lock of a scores folder, and what lies next to the folder while it is being written."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from common.errors import Busy
from common.files import remove_unfinished, writing


def beside(folder: Path, kind: str) -> Path:
    """A hidden name next to a scores folder, for what belongs to it and is not part of it."""
    folder = folder.absolute()  # "." has no name
    return folder.parent / f".{folder.name}.{kind}"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a scores folder, and remove what a killed process began next to it.

    Raises:
        Busy: another process scores into it.
        CannotWrite: the folder that it is in cannot be written.
    """
    lock = FileLock(beside(folder, "lock"), fallback_to_soft=False)
    with writing(folder, "give another --out"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise Busy(f"another process is scoring into {folder}", "wait for it, or give another --out") from error
    try:
        remove_unfinished(folder)
        yield
    finally:
        lock.release()
