"""One server a table: an advisory lock on a file beside it, which vanishes with its process, however that ends."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from common.errors import UserError
from dataset.labelling.rows import cannot_write


class _Announce:
    """Writes into a lock file who holds it."""

    def __init__(self, handle: int) -> None:
        self.handle = handle

    def __call__(self, url: str = "") -> None:
        os.ftruncate(self.handle, 0)
        os.pwrite(self.handle, f"process {os.getpid()} {url}".strip().encode(), 0)


@contextlib.contextmanager
def locked(table: Path) -> Iterator[_Announce]:
    """Keep a table from a second server, until this process ends, however it ends.

    Yields:
        what writes this server's address for the second one to name.

    Raises:
        UserError: another process labels into it, or its folder cannot be written.
    """
    path = table.with_name(f".{table.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _lock(path)
    except BlockingIOError as error:
        holder = path.read_text(encoding="utf-8", errors="replace") or "another process"
        raise UserError(
            f"{table} is being labelled by {holder}: open that page, stop it, or give another --table"
        ) from error
    except OSError as error:
        raise cannot_write(table, error) from error
    try:
        announce = _Announce(handle)
        announce()
        yield announce
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _lock(path: Path) -> int:
    """Lock a file that nobody has removed between our opening and our locking it."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.fstat(handle).st_ino == path.stat().st_ino:
                return handle
        except OSError:
            os.close(handle)
            raise
        os.close(handle)
