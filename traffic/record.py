"""The record of a canary, var/front/canary/NAME/verdict.json: its state, its counts, and the last verdict.

Every change is also written to var/metrics/traffic.prom, which the keeper adds to its /metrics:

classifier_canary_state{model,version,state}      1 for the state of the last canary of a model, 0 for the others
classifier_canary_share{model,version}            share of the requests that the candidate gets, 0 to 1
classifier_canary_requests{model,version,arm}     requests that were counted for the candidate and the control
classifier_canary_errors{model,version,arm}       those of them that were answered with 5xx
classifier_shadow_pairs{model,version,outcome}    photos that both versions were asked: same, different, failed
classifier_shadow_dropped{model,version}          copies of requests that found the shadow's queue full
classifier_shadow_queue_bytes{model,version}      size of that queue
classifier_canary_evidence{model,version,finding} e-value of each comparison: an alarm from 500 on
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from common.errors import NotFound
from common.files import write_json, write_whole, writing
from deploy.host.locks import Lock
from deploy.host.var import METRICS
from traffic import history
from traffic.front import route
from traffic.verdict import Step, from_json


class State(StrEnum):
    """How far a canary has come, or how it ended."""

    PROVING = "proving"
    MEASURING = "measuring"
    SHADOWING = "shadowing"
    SHARING = "sharing"
    PROMOTING = "promoting"
    PROMOTED = "promoted"
    STOPPING = "stopping"
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
        shadow: counts of the shadow: answered, disagreements, slower, ratio, failed, dropped, queue_bytes.
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
    shadow: dict[str, float] = field(default_factory=dict)

    def changed(self, **values: Any) -> "Record":
        """A copy with other values."""
        return replace(self, **values)


def write(var: Path, record: Record) -> None:
    """Write it, completely or not at all."""
    path = _path(var, record.name)
    with writing(path):
        write_json(path, asdict(record))
        history.add(var, record.name, _moment(record), first=record.state is State.PROVING)
        write_whole(var / METRICS / "traffic.prom", as_metrics(read_all(var)))


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


def _moment(record: Record) -> history.Row:
    control, candidate = [step.control for step in record.steps], [step.candidate for step in record.steps]
    return history.Row(
        time.time(),
        record.state.value,
        record.percent,
        sum(counts.requests for counts in control),
        sum(counts.requests for counts in candidate),
        sum(counts.server_errors for counts in control),
        sum(counts.server_errors for counts in candidate),
        max((float(finding["e"]) for finding in record.findings), default=0.0),
    )


def as_metrics(records: Sequence[Record]) -> bytes:
    """The text for Prometheus."""
    registry, of = CollectorRegistry(), ("model", "version")
    state = Gauge("classifier_canary_state", "State of the last canary.", (*of, "state"), registry=registry)
    share = Gauge("classifier_canary_share", "Share of the requests.", of, registry=registry)
    requests = Gauge("classifier_canary_requests", "Requests that were compared.", (*of, "arm"), registry=registry)
    errors = Gauge("classifier_canary_errors", "Those answered with 5xx.", (*of, "arm"), registry=registry)
    evidence = Gauge("classifier_canary_evidence", "E-values.", (*of, "finding"), registry=registry)
    pairs = Gauge("classifier_shadow_pairs", "Photos that both were asked.", (*of, "outcome"), registry=registry)
    dropped = Gauge("classifier_shadow_dropped", "Copies that were dropped.", of, registry=registry)
    queued = Gauge("classifier_shadow_queue_bytes", "Bytes of copies that wait.", of, registry=registry)
    for found in records:
        which = (found.name, found.version)
        for one in State:
            state.labels(*which, one.value).set(found.state is one)
        share.labels(*which).set(found.percent / 100 if found.state is not State.PROMOTED else 0)
        for arm in ("control", "candidate"):
            counts = [getattr(step, arm) for step in found.steps]
            requests.labels(*which, arm).set(sum(count.requests for count in counts))
            errors.labels(*which, arm).set(sum(count.server_errors for count in counts))
        counts_of = found.shadow.get
        different = counts_of("disagreements", 0)
        pairs.labels(*which, "same").set(counts_of("answered", 0) - different)
        pairs.labels(*which, "different").set(different)
        pairs.labels(*which, "failed").set(counts_of("failed", 0))
        dropped.labels(*which).set(counts_of("dropped", 0))
        queued.labels(*which).set(counts_of("queue_bytes", 0))
        for finding in found.findings:
            evidence.labels(*which, finding["name"]).set(finding["e"])
    return generate_latest(registry)


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
