"""Follow a log file that another process writes and rotates."""

import os
from pathlib import Path
from typing import BinaryIO


class Tail:
    """The lines that were added to a file since it was last asked.

    Lines that are there already when it is made are passed over. When the file is renamed and begun anew, what was
    added to the old one comes first; a file that was cut short is read from its start; one that is not there has no
    lines until it comes. A line counts when its end is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._half = b""
        self._file = self._opened()
        if self._file:
            self._file.seek(0, os.SEEK_END)

    def lines(self) -> list[bytes]:
        """What was added, line by line, without line ends."""
        found = self._read()
        following = self._successor()
        if following:
            found += self._read()  # what was written between the look above and the rename
            self.close()
            self._file = following
            found += self._read()
        return found

    def close(self) -> None:
        """Let the file go."""
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
        """The file that stands at the path now, if it is not the one that we read."""
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
