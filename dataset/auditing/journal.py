"""The journal of an audit, from which a run that was stopped continues."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from common.errors import Busy, CannotWrite
from common.files import writing
from dataset.auditing.inspect import Facts

Key = tuple[str, int, int]
"""A file's name, size in bytes and time of modification."""


class Journal:
    """The results of an unfinished run: one JSON line per file, next to the table. An incomplete last line is dropped.

    Use it as a context manager. It is locked meanwhile; the lock ends with the process, even after kill -9.

    Args:
        out: the table.
        settings: a journal that was written with other settings is discarded.

    Raises:
        Busy: another audit is writing the same table.
        CannotWrite: the journal, and so the table, cannot be written.
    """

    def __init__(self, out: Path, settings: dict[str, Any]) -> None:
        self.path = out.parent / f".{out.name}.partial"
        self.known: dict[Key, Facts] = {}
        self.plan: list[tuple[str, str]] = []
        self.target = ""
        self._lock = FileLock(self.path, fallback_to_soft=False)  # a soft lock would outlive a killed process
        with writing(out, "give another --out"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire(timeout=0.2, poll_interval=0.05)
            except Timeout as error:
                raise Busy(f"another audit is writing {out}", "wait for it, or give another --out") from error
            self._begin(settings)

    def _begin(self, settings: dict[str, Any]) -> None:
        kept = self._read(settings)
        self._file = self.path.open("r+b", buffering=0)
        self._file.truncate(kept)
        self._file.seek(kept)
        if not kept:
            self._write(settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._lock.release()

    def add(self, key: Key, facts: Facts) -> None:
        """Record the result for a file."""
        self.known[key] = facts
        self._write([*key, asdict(facts)])

    def add_plan(self, plan: list[tuple[str, str]], target: str = "") -> None:
        """Record which files will be moved where (source, target) in a folder `target`, before the first one is."""
        self.plan, self.target = plan, target
        self._write({"plan": plan, "target": target})

    def remove(self) -> None:
        """Delete the journal: the run is complete, or nothing is worth keeping."""
        self.path.unlink(missing_ok=True)

    def _write(self, content: Any) -> None:
        try:  # unbuffered: a killed process loses nothing, a crash of the machine a few lines
            self._file.write(json.dumps(content).encode() + b"\n")  # ASCII, so that any file name survives
        except OSError as error:
            raise CannotWrite(
                self.path, error, "free some disk space, then run the same command to continue"
            ) from error

    def _read(self, settings: dict[str, Any]) -> int:
        """Read what a run with the same settings left. Returns: the size of its complete lines in bytes."""
        data = self.path.read_bytes()
        lines = data[: data.rfind(b"\n") + 1].splitlines(keepends=True)
        if not lines or _parse(lines[0]) != settings:
            return 0
        for line in lines[1:]:
            content = _parse(line)
            if isinstance(content, dict):
                self.plan = [(source, target) for source, target in content["plan"]]
                self.target = content.get("target", "")
            elif content:
                self.known[(content[0], content[1], content[2])] = Facts(**content[3])
        return sum(map(len, lines))


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:  # a crash of the machine can leave zeros
        return None
