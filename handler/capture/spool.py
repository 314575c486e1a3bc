"""A folder of captured photos with a limit of bytes, written by a thread of its own.

    ID.capture      a line of JSON (why, with which probability, the answer), then the photo's bytes

A file appears under its name only when it is complete. What cannot be written is counted, and the request never knows.
"""

import contextlib
import fcntl
import json
import logging
import os
import queue
import threading
import uuid
from pathlib import Path
from typing import Any

SUFFIX, PARTIAL, LOCK = ".capture", ".partial", ".lock"
WAITING = 8
"""Photos in memory that wait to be written."""
log = logging.getLogger(__name__)


class Spool:
    """Writes into a folder that several workers share.

    Args:
        folder: created by the first write.
        most_bytes: of all files in it.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.folder, self._most = folder, most_bytes
        self._queue: queue.Queue[tuple[bytes, dict[str, Any]]] = queue.Queue(WAITING)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._lost = 0

    def offer(self, data: bytes, facts: dict[str, Any]) -> None:
        """Have a photo written; returns at once, and never raises."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="capture", daemon=True)
            self._thread.start()
        try:
            self._queue.put_nowait((data, facts))
        except queue.Full:
            self._lose("the disk is too slow")

    @property
    def lost(self) -> int:
        """Photos that were not written, in all."""
        with self._lock:
            return self._lost

    def wait(self) -> None:
        """Until everything that was offered is written or lost."""
        self._queue.join()

    def _work(self) -> None:
        while True:
            data, facts = self._queue.get()
            try:
                self._write(json.dumps(facts).encode("ascii") + b"\n" + data)
            except Exception as error:  # whatever happens here, photos are answered
                self._lose(str(error))
            finally:
                self._queue.task_done()

    def _write(self, content: bytes) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.folder / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            used = sum(entry.stat().st_size for entry in os.scandir(self.folder) if entry.is_file())
            if used + len(content) > self._most:
                self._lose(f"{self.folder} holds {used} bytes, {self._most} are allowed")
                return
            name = uuid.uuid4().hex
            partial = self.folder / f"{name}{PARTIAL}"
            try:
                partial.write_bytes(content)
                partial.rename(self.folder / f"{name}{SUFFIX}")
            except OSError:
                with contextlib.suppress(OSError):
                    partial.unlink(missing_ok=True)
                raise

    def _lose(self, why: str) -> None:
        with self._lock:
            self._lost += 1
            first = self._lost & (self._lost - 1) == 0  # 1, 2, 4, 8 ...: a full disk must not fill the log too
        if first:
            log.warning("captured photos are lost: %d so far; %s", self._lost, why)
