"""The journal of changes: one file per action in `var/history`, written whole after every step.

An action whose process died stays `running` in its file; `entries` returns it as `interrupted`.
"""

import datetime
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from common.files import write_json
from deploy.host.locks import Owner, deployment_lock, user

FOLDER = "history"


class State(StrEnum):
    """How far an action has come, or how it ended."""

    RUNNING = "running"
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Step:
    """One step of an action.

    Attributes:
        seconds: its duration; None while it runs, or if its process died.
        note: its result, in words.
        ms, former_ms: latency of the new and of the former version, in milliseconds; of the step `latency` only.
    """

    name: str
    seconds: float | None = None
    note: str | None = None
    ms: float | None = None
    former_ms: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As in the file: without the values that this step does not have."""
        return {key: value for key, value in asdict(self).items() if value is not None or key == "seconds"}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> "Step":
        """Ignores keys that it does not know.

        Raises:
            KeyError, TypeError, AttributeError: it is not a step.
        """
        return cls(**{"name": row["name"], **_known(cls, row)})


@dataclass(frozen=True)
class JournalEntry:
    """One action: a rollout, a rollback, a retirement, or a repair by the keeper.

    Attributes:
        id: its number and action, unique in one `var`.
        action: `rollout`, `rollback`, `retire`, `restore`, `revive` or `default`.
        who: the user who ran it.
        started: ISO 8601 with time zone.
        seconds: its duration; None while it runs, or if its process died.
        previous: the version that was the default before.
        digest: identity of the archive (deploy/store/mar.py).
        why: the reason that was given.
    """

    id: str
    action: str
    name: str
    version: str
    who: str
    pid: int
    started: str
    state: State
    seconds: float | None
    steps: tuple[Step, ...]
    previous: str | None = None
    digest: str | None = None
    why: str | None = None
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As in the file: without the values that this action does not have."""
        optional = {key: getattr(self, key) for key in ("digest", "why", "error")}
        required = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in optional}
        steps = [step.to_json() for step in self.steps]
        return {**required, "steps": steps, **{key: value for key, value in optional.items() if value is not None}}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> "JournalEntry":
        """Ignores keys that it does not know.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is not an entry.
        """
        steps = tuple(Step.from_json(step) for step in row["steps"])
        return cls(**{**_known(cls, row), "state": State(row["state"]), "steps": steps})


class OpenStep:
    """A step that is running; `record` is what the journal says about it."""

    def __init__(self, name: str) -> None:
        self.record = Step(name)

    def set(self, **values: Any) -> None:
        """Set fields of the record."""
        self.record = replace(self.record, **values)


class Journal:
    """Writes the entry of one action.

    Args:
        action: as in `JournalEntry`.
        facts: further fields of the entry, for example `why`.
    """

    def __init__(self, var: Path, action: str, name: str, version: str, **facts: Any) -> None:
        now = datetime.datetime.now().astimezone()
        self.entry = JournalEntry(
            id=f"{_next_number(var):06d}-{action}",
            action=action,
            name=name,
            version=version,
            who=user(),
            pid=os.getpid(),
            started=now.isoformat(timespec="seconds"),
            state=State.RUNNING,
            seconds=None,
            steps=(),
            **facts,
        )
        self.path = var / FOLDER / f"{self.entry.id}.json"
        self._started = time.monotonic()
        self._write()

    def set(self, **values: Any) -> None:
        """Set fields of the entry; they are written with the next step."""
        self.entry = replace(self.entry, **values)

    @contextmanager
    def step(self, name: str) -> Iterator[OpenStep]:
        """Record a step: written before it begins and after it ended, with what the block has set."""
        step, before = OpenStep(name), self.entry.steps
        self._write_steps(*before, step.record)
        started = time.monotonic()
        try:
            yield step
        finally:
            step.set(seconds=round(time.monotonic() - started, 3))
            self._write_steps(*before, step.record)

    def end(self, state: State, error: str | None = None) -> None:
        """Close the action as DONE, REFUSED or FAILED."""
        self.set(state=state, seconds=round(time.monotonic() - self._started, 3), error=error or self.entry.error)
        self._write()

    def _write_steps(self, *steps: Step) -> None:
        self.set(steps=steps)
        self._write()

    def _write(self) -> None:
        write_json(self.path, self.entry.to_json())


def entries(var: Path) -> list[JournalEntry]:
    """All actions, oldest first; damaged files are ignored."""
    rows = []
    owner = deployment_lock(var).owner()
    for path in sorted((var / FOLDER).glob("*.json")):
        try:
            entry = JournalEntry.from_json(json.loads(path.read_text(encoding="utf-8")))
            if entry.state is State.RUNNING and not _is_of(owner, entry):
                entry = replace(entry, state=State.INTERRUPTED)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            continue
        rows.append(entry)
    return rows


def _is_of(owner: Owner | None, entry: JournalEntry) -> bool:
    """Whether the lock's owner wrote an entry: the same process, not an earlier one with the same process id."""
    since = datetime.datetime.fromisoformat
    return owner is not None and owner.pid == entry.pid and since(owner.since) <= since(entry.started)


def _known(record: type[Step] | type[JournalEntry], row: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(record)}
    return {key: value for key, value in row.items() if key in names}


def _next_number(var: Path) -> int:
    """One more than the highest number so far, independent of the clock."""
    numbers = (path.name.partition("-")[0] for path in (var / FOLDER).glob("*.json"))
    return 1 + max((int(number) for number in numbers if number.isdigit()), default=0)
