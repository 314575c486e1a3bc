"""What is counted of the front's log, line by line as nginx writes it."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from traffic import observed
from traffic.front.gate import Gate
from traffic.front.nodes import Node
from traffic.front.route import Route
from traffic.observed import Observer

ROUTE = Route("shapes", "1.1", "salt", (20, 100))
USUAL = {"canary": "shapes/1.1", "arm": "candidate", "share": "20", "seconds": 0.01, "request_id": "", "status": 200}


def counted(var: Path, *rows: dict[str, object]) -> tuple[int, int]:
    """Requests and server errors of the candidate."""
    (var / "logs").mkdir(exist_ok=True)
    log = var / "logs" / "front.log"
    log.touch()
    observer = Observer(var / "logs", [var / "logs"], ROUTE)
    with log.open("a") as file:
        file.writelines(json.dumps({**USUAL, **row}) + "\n" for row in rows)
    observer.read()
    observer.close()
    (step,) = observer.steps
    return step.candidate.requests, step.candidate.server_errors


def test_of_a_burst_of_slow_requests_one_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that pauses delays all requests that wait for it."""
    moment = 100.0
    monkeypatch.setattr(observed, "time", SimpleNamespace(monotonic=lambda: moment))
    (tmp_path / "logs").mkdir()
    log = tmp_path / "logs" / "front.log"
    log.touch()
    observer = Observer(tmp_path / "logs", [], ROUTE)
    observer.edge = 0.05
    for later, rows in ((0.0, [0.01, 2.0, 2.0, 2.0]), (0.5, [2.0, 2.0]), (0.6, [0.01, 2.0, 2.0])):
        moment += later
        with log.open("a") as file:
            file.writelines(json.dumps({**USUAL, "seconds": seconds}) + "\n" for seconds in rows)
        observer.read()
    observer.close()
    assert (observer.steps[0].candidate.requests, observer.steps[0].candidate.slow) == (9, 2)


def tries(*nodes_and_statuses: str) -> dict[str, object]:
    nodes, statuses = nodes_and_statuses[::2], nodes_and_statuses[1::2]
    return {"node": ", ".join(f"unix:/v/front/{name}.sock" for name in nodes), "node_status": ", ".join(statuses)}


def opened(var: Path, name: str) -> Gate:
    gate = Gate(var, Node(name, "127.0.0.1:1", "127.0.0.1:2", var / name), lambda node: True)
    gate.open("key")
    return gate


def test_each_try_of_a_request_counts_but_not_those_of_a_closed_node(tmp_path: Path) -> None:
    first, _ = opened(tmp_path, "node1"), opened(tmp_path, "node2")
    hidden = tries("node1", "503", "node2", "200")
    missing = tries("node1", "404", "node2", "200")
    assert counted(tmp_path, hidden, tries("node2", "200"), missing, {"node": None, "node_status": "-"}) == (4, 1)
    assert counted(tmp_path, {"status": 503, **tries("node1", "503 : 503")}) == (1, 1)
    first.close()
    assert counted(tmp_path, hidden, tries("node2", "503", "node1", "503") | {"status": 503}) == (2, 1)
    assert counted(tmp_path, tries("node2", "503", "node1", "200")) == (1, 1)
