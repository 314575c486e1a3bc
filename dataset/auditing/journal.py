"""The journal of an audit: what lets a run that was stopped go on where it was."""

import fcntl
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common.errors import UserError
from dataset.auditing.inspect import Facts


class Journal:
    """What an unfinished run knows already: JSON, one line a file, beside the table; a torn last line is dropped.

    Args:
        out: the table.
        settings: a journal of other settings is of no use and is begun anew.

    Raises:
        UserError: it cannot be written, so neither could the table.
    """

    def __init__(self, out: Path, settings: dict[str, Any]) -> None:
        self.path = out.parent / f".{out.name}.partial"
        self.known: dict[tuple[str, int, int], Facts] = {}
        self.plan: list[tuple[str, str]] = []
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            kept = self._read(settings)
            self.file = self.path.open("r+b" if self.path.exists() else "w+b", buffering=0)
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.file.truncate(kept)
            self.file.seek(kept)
            if not kept:
                self._write(settings)
        except BlockingIOError as error:
            self.file.close()
            raise UserError(f"{out}: another audit is writing it: wait for it, or give another --out") from error
        except OSError as error:
            raise UserError(f"{out} cannot be written: {error.strerror}: give another --out") from error

    def add(self, key: tuple[str, int, int], facts: Facts) -> None:
        """Remember a file by its name, bytes and time of change."""
        self.known[key] = facts
        self._write([*key, asdict(facts)])

    def add_plan(self, plan: list[tuple[str, str]]) -> None:
        """Remember what will be moved where, before anything is."""
        self.plan = plan
        self._write({"plan": plan})

    def close(self) -> None:
        self.file.close()

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def _write(self, content: Any) -> None:
        try:  # unbuffered: a killed process loses nothing, a lost machine a few lines
            self.file.write(json.dumps(content).encode() + b"\n")  # ASCII: any name survives
        except OSError as error:
            raise UserError(f"{self.path}: {error.strerror}: make room, then run again to go on") from error

    def _read(self, settings: dict[str, Any]) -> int:
        """Returns: how many bytes are whole lines of a run with these settings."""
        data = self.path.read_bytes() if self.path.is_file() else b""
        lines = data[: data.rfind(b"\n") + 1].splitlines(keepends=True)
        if not lines or _parsed(lines[0]) != settings:
            return 0
        for line in lines[1:]:
            content = _parsed(line)
            if isinstance(content, dict):
                self.plan = [(source, target) for source, target in content["plan"]]
            elif content:
                self.known[(content[0], content[1], content[2])] = Facts(**content[3])
        return sum(map(len, lines))


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:  # a lost machine can leave zeros
        return None
