"""What was done to versions: one file an action in `var/history`, written whole after every step.

An action whose process died stays `running` in its file; `entries` tells it as `interrupted`.
"""

import datetime
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.files import write_json
from deploy.host.locks import Owner, deployment_lock, user

FOLDER = "history"
DONE, REFUSED, FAILED, RUNNING, INTERRUPTED = "done", "refused", "failed", "running", "interrupted"
_COLUMNS = frozenset(("id", "action", "name", "version", "who", "pid", "started", "state", "seconds", "steps"))


class Journal:
    """One action: a rollout, a rollback, a retirement, a repair of the keeper's.

    Args:
        action: `rollout`, `rollback`, `retire`, `restore`, `revive`.
        facts: further columns, for example `previous`, `digest`, `why`.
    """

    def __init__(self, var: Path, action: str, name: str, version: str, **facts: Any) -> None:
        now = datetime.datetime.now().astimezone()
        self.entry: dict[str, Any] = {
            "id": f"{_number(var):06d}-{action}",
            "action": action,
            "name": name,
            "version": version,
            **facts,
            "who": user(),
            "pid": os.getpid(),
            "started": now.isoformat(timespec="seconds"),
            "state": RUNNING,
            "seconds": None,
            "steps": [],
        }
        self.path = var / FOLDER / f"{self.entry['id']}.json"
        self._begun = time.monotonic()
        self._write()

    @contextmanager
    def step(self, name: str) -> Iterator[dict[str, Any]]:
        """Record a step: written before it begins and when it has ended; what the block adds to the dict is kept."""
        step: dict[str, Any] = {"name": name, "seconds": None}
        self.entry["steps"].append(step)
        self._write()
        begun = time.monotonic()
        try:
            yield step
        finally:
            step["seconds"] = round(time.monotonic() - begun, 3)
            self._write()

    def end(self, state: str, error: str | None = None) -> None:
        """Close the action as DONE, REFUSED or FAILED."""
        self.entry |= {"state": state, "seconds": round(time.monotonic() - self._begun, 3)}
        if error:
            self.entry["error"] = error
        self._write()

    def _write(self) -> None:
        write_json(self.path, self.entry)


def entries(var: Path) -> list[dict[str, Any]]:
    """All actions, oldest first; files that are damaged are passed over."""
    found = []
    owner = deployment_lock(var).owner()
    for path in sorted((var / FOLDER).glob("*.json")):
        try:
            entry: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if not entry.keys() >= _COLUMNS:
                continue
            if entry["state"] == RUNNING and not _is_of(owner, entry):
                entry["state"] = INTERRUPTED
        except (OSError, ValueError, TypeError, AttributeError):
            continue
        found.append(entry)
    return found


def _is_of(owner: Owner | None, entry: dict[str, Any]) -> bool:
    """Whether who is at work wrote an entry: the same process, and not an earlier one that had its number."""
    since = datetime.datetime.fromisoformat
    return owner is not None and owner.pid == entry["pid"] and since(owner.since) <= since(entry["started"])


def _number(var: Path) -> int:
    """The next action's: one more than any before, whatever the clock says."""
    numbers = (path.name.partition("-")[0] for path in (var / FOLDER).glob("*.json"))
    return 1 + max((int(number) for number in numbers if number.isdigit()), default=0)
