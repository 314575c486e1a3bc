"""What the front and the handler logged about a canary, counted by share and version.

The front's log says which request had which share and which version; the handler's log, joined by TorchServe's request
id, has the error code, labels and confidence. Requests that clients sent to a version by its name have no share and do
not count, nor do the keeper's golden photos, which do not come through the front.

With several nodes nginx asks another one if a node answers 503, as TorchServe does when the handler raises. The client
notices nothing, but for its version the request failed: each try has its status in the front's log, and each counts.
Those of a node that the front has closed do not: they say nothing of a version.
"""

import json
import re
import time
from collections import OrderedDict
from collections.abc import Container, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from deploy.host.log import Tail
from traffic.front.gate import closed_nodes
from traffic.front.route import Route
from traffic.verdict import Counts, Step

WAIT_S = 2.0
"""How long a line of the front waits for that of the handler, which TorchServe writes. A 5xx does not wait: it may have
none, and an alarm should not come later for that."""
BURST_S = 1.0
"""Of slow requests within this time only the first counts: a worker that pauses delays all that wait for it. They are
one event, not many independent ones as the evidence assumes."""
REMEMBERED = 10_000
"""Lines of the handler that wait for that of the front."""


class Observer:
    """Follows both logs from their ends. Requests that took longer than `edge` seconds are slow.

    Args:
        logs: the folder of the front's log.
        of_nodes: the folders of the handlers' logs.
        steps: counts so far, of former runs of the canary.
    """

    def __init__(self, logs: Path, of_nodes: Sequence[Path], route: Route, steps: Sequence[Step] = ()) -> None:
        self.edge, self.steps = 0.0, list(steps)
        self.seconds: list[float] = []
        self._canary = f"{route.name}/{route.version}"
        self._var = logs.parent
        self._front = Tail(logs / "front.log")
        self._handlers = [Tail(folder / "requests.log") for folder in of_nodes]
        self._results: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._waiting: list[tuple[float, dict[str, Any]]] = []
        self._slow_until = 0.0

    def close(self) -> None:
        """Close both logs."""
        for tail in (self._front, *self._handlers):
            tail.close()

    def read(self) -> None:
        """Count what was logged since the last call; `seconds` collects the durations before the first share."""
        now = time.monotonic()
        new = [(now, row) for row in _rows(self._front) if row.get("canary") == self._canary]
        for tail in self._handlers:  # after the front's, which writes its line of a request last
            for row in _rows(tail):
                self._results[str(row.get("request_id"))] = row
        while len(self._results) > REMEMBERED:
            self._results.popitem(last=False)
        rows, self._waiting, closed = [*self._waiting, *new], [], closed_nodes(self._var)
        for since, row in rows:
            result, refused = self._results.pop(str(row["request_id"]), None), _is_error(str(row["status"]))
            if result is None and row["request_id"] and not refused and now - since < WAIT_S:
                self._waiting.append((since, row))
            elif row["share"]:
                self._count(row, result or {}, refused or _failed_once(row, closed), self._is_slow(since, row))
            else:
                self.seconds.append(float(row["seconds"]))

    def _is_slow(self, since: float, row: dict[str, Any]) -> bool:
        """Whether it is slow, and the first of a burst."""
        slow = float(row["seconds"]) > self.edge and since >= self._slow_until
        if slow:
            self._slow_until = since + BURST_S
        return slow

    def _count(self, row: dict[str, Any], result: dict[str, Any], failed: bool, slow: bool) -> None:
        counts, status = self._counts(float(row["share"]) / 100, row["arm"] == "candidate"), int(row["status"])
        code = str(result.get("code") or ("ok" if status < HTTPStatus.BAD_REQUEST else f"http_{status}"))
        counts.codes[code] = counts.codes.get(code, 0) + 1
        counts.server_errors += failed
        counts.slow += slow
        counts.unsure += int(result.get("unsure", 0))
        for label, _ in result.get("results", ()):
            counts.labels[label] = counts.labels.get(label, 0) + 1

    def _counts(self, share: float, candidate: bool) -> Counts:
        step = next((step for step in self.steps if step.share == share), None)
        if step is None:
            step = Step(share)
            self.steps.append(step)
        return step.candidate if candidate else step.control


def _failed_once(row: dict[str, Any], closed: Container[str]) -> bool:
    """Whether a node that is not closed answered with a 5xx, so that nginx asked another one."""
    tries = zip(_tries(row.get("node")), _tries(row.get("node_status")), strict=False)
    return any(_is_error(status) for node, status in tries if Path(node).stem not in closed)


def _is_error(status: str) -> bool:
    return status.isdigit() and int(status) >= HTTPStatus.INTERNAL_SERVER_ERROR


def _tries(text: str | None) -> list[str]:
    """nginx's list of several tries: "a, b", and "a : b" after a redirect inside it."""
    return re.split(r" ?[,:] ", text or "")


def _rows(tail: Tail) -> list[dict[str, Any]]:
    """The lines that are JSON objects."""
    rows = []
    for line in tail.lines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows
