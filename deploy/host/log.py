"""Logs: JSON lines of our background programs, which supervisord writes and rotates; a reader that follows a log."""

import contextlib
import datetime
import json
import os
from pathlib import Path
from typing import Any, BinaryIO


def log(event: str, **facts: Any) -> None:
    """Write a line. If that fails (closed pipe, full disk), the line is lost and the program goes on."""
    now = datetime.datetime.now().astimezone().isoformat(timespec="milliseconds")
    with contextlib.suppress(OSError):
        print(json.dumps({"time": now, "event": event, **facts}, ensure_ascii=False), flush=True)


def one_line(text: str) -> str:
    """Join several lines into one."""
    return " | ".join(line.strip() for line in text.splitlines() if line.strip())


class Tail:
    """Returns the lines that were added to a file since the last call.

    Lines that exist when the object is created are skipped. After a rotation, the rest of the old file comes first. A
    truncated file is read from its start; a missing file has no lines until it appears. Incomplete lines wait for
    their end.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._half = b""
        self._file = self._opened()
        if self._file:
            self._file.seek(0, os.SEEK_END)

    def lines(self) -> list[bytes]:
        """The lines that were added, without line ends."""
        lines = self._read()
        successor = self._successor()
        if successor:
            lines += self._read()  # what was written between the first read and the rename
            self.close()
            self._file = successor
            lines += self._read()
        return lines

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()
        self._file, self._half = None, b""

    def _read(self) -> list[bytes]:
        if self._file is None:
            return []
        if os.fstat(self._file.fileno()).st_size < self._file.tell():
            self._file.seek(0)
            self._half = b""
        *whole, self._half = (self._half + self._file.read()).split(b"\n")
        return whole

    def _successor(self) -> BinaryIO | None:
        """The file that is at the path now, if it is not the one that we read."""
        try:
            now = self.path.stat()
        except OSError:
            return None
        if self._file and os.path.samestat(now, os.fstat(self._file.fileno())):
            return None
        return self._opened()

    def _opened(self) -> BinaryIO | None:
        try:
            return self.path.open("rb", buffering=0)
        except OSError:
            return None
