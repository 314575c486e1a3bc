"""Two nodes on this machine as one: one change with one journal, and no switch while a node cannot follow."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
import requests

from deploy.host.nodes import PORTS, others
from deploy.settings import separate_environment
from deploy.store.journal import State, entries
from tests.helpers.nodes import Node, in_handle, rewrite
from tests.helpers.traffic.front import bearer, needs_nginx, running_front
from tests.helpers.waiting import eventually


class Pair(NamedTuple):
    """Two nodes of one list, the first with the commands."""

    first: Node
    second: Node

    def defaults(self) -> list[str]:
        return [node.answered_by() for node in self]

    def served(self) -> list[list[str]]:
        return [node.manifest() for node in self]


@pytest.fixture(scope="module")
def pair(light: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both serve 1.0."""
    folder = tmp_path_factory.mktemp("nodes")
    environments = [separate_environment(folder / name / "var", folder / "store") for name in ("first", "second")]
    names = {"grpc_inference": "GRPC_INFERENCE", "grpc_management": "GRPC_MANAGEMENT"}
    ports = {name: int(environments[1][f"SERVE_{names.get(name, name.upper())}_PORT"]) for name in PORTS}
    rows = [{"name": "node1"}, {"name": "node2", "var": str(folder / "second" / "var"), "ports": ports}]
    (folder / "nodes.yaml").write_text(json.dumps({"nodes": rows}))
    first = Node({**environments[0], "SERVE_NODES": str(folder / "nodes.yaml")}, light)
    second = Node({**environments[1], "SERVE_NODES": "none"}, light)
    with ExitStack() as stack:
        for node in (first, second):
            stack.enter_context(node.server)
        first.pack("1.0", "1.1", "1.2")
        rewrite(first.store / "shapes-1.2.mar", in_handle("raise RuntimeError"))
        first.rollout("1.0", "--why", "the first")
        yield Pair(first, second)


def test_a_change_is_one_change_of_both_with_one_entry_of_the_history(pair: Pair) -> None:
    assert (
        others(pair.first.settings)[0].settings.ports["inference_address"]
        == (pair.second.settings.ports["inference_address"])
    )
    assert pair.served() == [["1.0"], ["1.0"]] and pair.defaults() == ["1.0", "1.0"]
    pair.first.rollout("1.1")
    assert pair.served() == [["1.1", "1.0"]] * 2 and pair.defaults() == ["1.1", "1.1"]
    steps = [step.name for step in pair.first.last().steps]
    assert steps == ["check", "register", "goldens", "latency", "node2", "default", "drain", "keep", "node2"]
    assert entries(pair.second.var)[-1].why == f"of {pair.first.last().id}"
    assert "node2" in pair.first.deploy("status").stdout
    pair.first.deploy("rollback")
    assert pair.defaults() == ["1.0", "1.0"] and pair.served() == [["1.0", "1.1"]] * 2
    pair.first.deploy("retire", "shapes", "1.1")
    assert pair.served() == [["1.0"]] * 2 and [*pair.second.registered()] == ["1.0"]


def test_a_version_that_one_node_refuses_is_on_none(pair: Pair) -> None:
    refused = pair.first.rollout("1.2", check=False)
    assert refused.returncode == 1 and pair.served() == [["1.0"]] * 2
    assert [[*node.registered()] for node in pair] == [["1.0"], ["1.0"]]


@needs_nginx
def test_the_front_asks_both_and_one_that_is_away_costs_no_request_and_no_switch(pair: Pair) -> None:
    with running_front(pair.first.settings, rate=10_000) as front:
        url, headers = front.settings.url("front") + "/predictions/shapes", bearer(front)

        def ask() -> str:
            answer = requests.post(url, json=pair.first.body, headers=headers, timeout=30)
            return str(answer.json().get("model_version", answer.status_code))

        eventually(lambda: ask() == "1.0")
        before = [counted(node) for node in pair]
        eventually(lambda: ask() == "1.0" and all(counted(n) > b for n, b in zip(pair, before, strict=True)))
        pair.second.server.stop()
        assert {ask() for _ in range(20)} == {"1.0"}
        refused = pair.first.rollout("1.1", check=False)
        assert refused.returncode == 1 and "node2: " in refused.stderr, refused.stderr
        assert pair.first.last().state is not State.DONE and pair.first.manifest() == ["1.0"]
        assert [*pair.first.registered()] == ["1.0"] and ask() == "1.0"
        behind = pair.first.deploy("status", "--json", check=False)
        assert behind.returncode == 1 and json.loads(behind.stdout)["nodes"]["node2"]


def counted(node: Node) -> int:
    """Requests that a node's handler has answered."""
    return len((node.var / "logs" / "requests.log").read_text().splitlines())
