"""The record of a canary, var/front/canary/NAME/verdict.json: its state, its counts, and the last verdict."""

import json
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from common.errors import NotFound
from common.files import write_json, writing
from deploy.host.locks import Lock
from traffic.front import route
from traffic.verdict import Step, from_json


class State(StrEnum):
    """How far a canary has come, or how it ended."""

    PROVING = "proving"
    MEASURING = "measuring"
    SHARING = "sharing"
    PROMOTING = "promoting"
    PROMOTED = "promoted"
    STOPPED = "stopped"
    EXPIRED = "expired"


ENDED = (State.PROMOTED, State.STOPPED, State.EXPIRED)


@dataclass(frozen=True)
class Record:
    """One canary.

    Attributes:
        version, archive: of the candidate.
        percent: the share that it gets.
        edge: seconds from which a request is slow; 0: not yet known.
        ends: seconds since 1970; at this time a canary without a decision ends, and nothing has changed.
        why: the sentence of the last verdict, or why it was stopped.
        steps: counts by share.
        findings: of the last verdict.
    """

    name: str
    version: str
    archive: str
    state: State = State.PROVING
    percent: float = 0.0
    edge: float = 0.0
    ends: float = 0.0
    why: str = ""
    steps: tuple[Step, ...] = ()
    findings: tuple[dict[str, Any], ...] = field(default=())

    def changed(self, **values: Any) -> "Record":
        """A copy with other values."""
        return replace(self, **values)


def write(var: Path, record: Record) -> None:
    """Write it, completely or not at all."""
    path = _path(var, record.name)
    with writing(path):
        write_json(path, asdict(record))


def read(var: Path, name: str) -> Record | None:
    """The record of the last canary of a model; None if there was none, or it cannot be read."""
    try:
        row = json.loads(_path(var, name).read_text(encoding="utf-8"))
        steps = tuple(from_json(step) for step in row["steps"])
        return Record(**{**row, "state": State(row["state"]), "steps": steps, "findings": tuple(row["findings"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def read_all(var: Path) -> list[Record]:
    """The records of all models."""
    names = sorted(path.parent.name for path in route.place(var, "NAME").parent.glob("*/verdict.json"))
    return [record for name in names if (record := read(var, name))]


def the_active(var: Path) -> Record:
    """The canary that has not ended. Raises: NotFound: there is none."""
    for record in read_all(var):
        if record.state not in ENDED:
            return record
    raise NotFound("no canary is in progress", "start one with python -m traffic canary ARCHIVE")


def lock(var: Path, name: str) -> Lock:
    """Held by the process of a model's canary."""
    return Lock(var / f"canary-{name}.lock")


def _path(var: Path, name: str) -> Path:
    return route.place(var, name) / "verdict.json"
