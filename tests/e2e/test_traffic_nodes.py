"""Two nodes of `make up` with a front as one: changes, a canary, kills, a node that was away. 1.0 serves after each."""

import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
import requests

from benchmarks.front.pair import pair_environment, second_environment
from benchmarks.harness.versions import rewrite
from deploy.clients.generator import NUMBER
from deploy.clients.load import Load
from deploy.host.locks import OwnerKind, deployment_lock, server_lock
from deploy.host.processes import cmdline, group_of_server, java_of
from deploy.store import desired
from deploy.store.journal import State, entries
from deploy.torchserve.keys import read_key
from tests.helpers.commands import command
from tests.helpers.nodes import Node, in_handle
from tests.helpers.traffic.canary import Canary, running_canary
from tests.helpers.traffic.front import needs_nginx
from tests.helpers.waiting import eventually
from traffic import record
from traffic.front import route, tokens
from traffic.front.nginx import Nginx
from traffic.record import State as CanaryState

pytestmark = needs_nginx

CLIENTS = 2


class Pair(NamedTuple):
    """Two nodes of one list, the first with the commands and the front."""

    first: Node
    second: Node

    @property
    def url(self) -> str:
        return self.first.settings.url("front") + "/predictions/shapes"

    @property
    def token(self) -> str:
        return tokens.read(self.first.var)[tokens.FIRST]

    def defaults(self) -> list[str]:
        return [node.answered_by() for node in self]

    def served(self) -> list[list[str]]:
        return [node.manifest() for node in self]

    def ask(self) -> str:
        """The version that answers through the front, or the status."""
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = requests.post(self.url, json=self.first.body, headers=headers, timeout=30)
        return str(answer.json().get("model_version", answer.status_code))

    def load(self, pause_s: float = 0.02) -> Load:
        """Clients that ask the front with short pauses, each request with an id of its own."""
        body = self.first.body | {"image_id": NUMBER}
        return Load(self.url, None, body, clients=CLIENTS, pause_s=pause_s, key=self.token)

    def both_answer(self) -> None:
        """Wait until the front sends requests to both."""
        before = [counted(node) for node in self]
        eventually(lambda: self.ask() == "1.0" and all(counted(n) > b for n, b in zip(self, before, strict=True)))

    def shares(self) -> bool:
        """Whether the candidate of a canary has answered clients."""
        found = record.read(self.first.var, "shapes")
        return bool(found and found.state is CanaryState.SHARING and found.steps)

    def canary(self, version: str, *options: str) -> AbstractContextManager[Canary]:
        return running_canary({**os.environ, **self.first.env}, f"shapes-{version}.mar", *options)


@pytest.fixture(scope="module")
def pair(light: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Started with one command; both serve 1.0, although the store has newer versions."""
    folder = tmp_path_factory.mktemp("nodes")
    first = Node(pair_environment(folder, folder / "store"), light)
    second = Node(second_environment(first.settings), light)
    first.pack("1.0", "1.1", "1.2")
    rewrite(first.store / "shapes-1.2.mar", in_handle("raise RuntimeError"))
    pair = Pair(first, second)
    try:
        first.deploy("up", "--bundle", light, "--version", "1.0")
        pair.both_answer()
        yield pair
    finally:
        first.deploy("down", "--now")


def counted(node: Node) -> int:
    """Requests that a node's handler has answered."""
    path = node.var / "logs" / "requests.log"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_a_change_is_one_change_of_both_with_one_entry_of_the_history(pair: Pair) -> None:
    assert pair.served() == [["1.0"], ["1.0"]] and pair.defaults() == ["1.0", "1.0"]
    pair.first.rollout("1.1")
    assert pair.served() == [["1.1", "1.0"]] * 2 and pair.defaults() == ["1.1", "1.1"]
    steps = [step.name for step in pair.first.last().steps]
    assert steps == ["check", "register", "goldens", "latency", "node2", "default", "drain", "keep", "node2"]
    assert entries(pair.second.var)[-1].why == f"of {pair.first.last().id}"
    assert "serves the same versions" in pair.first.deploy("status").stdout
    pair.first.deploy("rollback")
    assert pair.defaults() == ["1.0", "1.0"] and pair.served() == [["1.0", "1.1"]] * 2
    pair.first.deploy("retire", "shapes", "1.1")
    assert pair.served() == [["1.0"]] * 2 and [*pair.second.registered()] == ["1.0"]


def test_a_version_that_one_node_refuses_is_on_none(pair: Pair) -> None:
    refused = pair.first.rollout("1.2", check=False)
    assert refused.returncode == 1 and pair.served() == [["1.0"]] * 2
    assert [[*node.registered()] for node in pair] == [["1.0"], ["1.0"]]


def test_a_node_that_misses_a_version_is_named_and_brought_up_to_date(pair: Pair) -> None:
    """Its list is that of a rollout of which it missed its part, and it has a version of its own."""
    pair.first.rollout("1.1")
    with deployment_lock(pair.first.var).hold(OwnerKind.ROLLOUT, "shapes 9.9"):
        with deployment_lock(pair.second.var).hold(OwnerKind.ROLLOUT, "shapes 9.9"):
            rows = desired.read(pair.second.var)
            desired.write(pair.second.var, [replace(rows[1], default=True)])
        missing = "node2: it misses shapes 1.1: its keeper"
        eventually(lambda: missing in pair.first.deploy("status", check=False).stderr)
    eventually(lambda: pair.served() == [["1.1", "1.0"]] * 2 and pair.defaults() == ["1.1", "1.1"])
    pair.first.deploy("rollback")
    pair.first.deploy("retire", "shapes", "1.1")


def test_a_canary_walks_over_both_nodes_and_a_killed_one_goes_on(pair: Pair) -> None:
    with pair.load() as load:
        with pair.canary("1.1", "--steps", "20,50,100", "--requests", "100000", "--shadow", "0"):
            eventually(pair.shares, seconds=120)
        with pair.canary("1.1", "--steps", "20,50,100", "--requests", "40", "--shadow", "100") as again:
            code, output = again.end()
        assert code == 0, output
        pair.first.deploy("rollback")
        pair.first.deploy("retire", "shapes", "1.1")
        result = load.stop()
    assert (result.lost, result.failed, result.unanswered) == (0, 0, 0), result.as_json()
    rows = [json.loads(line) for line in (pair.first.var / "logs" / "front.log").read_text().splitlines()]
    asked = {(row["node"].rpartition("/")[2], row["arm"]) for row in rows if row["canary"]}
    assert asked == {(f"{node}.sock", arm) for node in ("node1", "node2") for arm in ("control", "candidate")}
    assert pair.served() == [["1.0"]] * 2 and [[*node.registered()] for node in pair] == [["1.0"]] * 2
    log = (pair.first.var / "logs" / "front_error.log").read_text()
    assert log.count("reconfiguring") <= 2


def test_stop_needs_neither_the_canary_nor_torchserve(pair: Pair) -> None:
    """Its process is killed, and versions cannot be changed: the next request goes to the default all the same."""
    with pair.load(), pair.canary("1.1", "--steps", "99.9,100", "--requests", "100000", "--shadow", "0") as canary:
        eventually(pair.shares, seconds=120)
        canary.process.kill()
        canary.process.wait()
    assert [pair.ask() for _ in range(5)].count("1.1") >= 4, "the share outlives the process"
    stop = ("traffic", "stop", "--why", "teachers complain")
    with deployment_lock(pair.first.var).hold(OwnerKind.ROLLOUT, "shapes 9.9"):
        done = command(*stop, env=pair.first.env, check=False)
        assert {pair.ask() for _ in range(20)} == {"1.0"}
    assert done.returncode == 1 and "run this again" in done.stderr, done.stderr
    assert route.read_all(pair.first.var) == [] and pair.served() == [["1.0", "1.1"]] * 2
    command(*stop, env=pair.first.env)
    assert pair.served() == [["1.0"]] * 2
    found = record.read(pair.first.var, "shapes")
    assert found and (found.state, found.why) == (CanaryState.STOPPED, "teachers complain")


def test_a_killed_node_and_a_killed_keeper_lose_no_request(pair: Pair) -> None:
    """Those of the first node, which starts again with new keys; another test stops the second."""
    key = read_key(pair.first.var, "inference")
    with pair.load() as load:
        for process in (java(pair.first), program(pair.first, "deploy.supervision.keeper")):
            process.kill()
            process.wait(30)
        eventually(lambda: is_ready(pair.first))
        pair.both_answer()
        result = load.stop()
    assert (result.lost, result.failed, result.unanswered) == (0, 0, 0), result.as_json()
    assert read_key(pair.first.var, "inference") != key, "it was started again"


def test_a_killed_nginx_loses_only_what_it_had(pair: Pair) -> None:
    """A kill costs a client at most one request: later connections wait at sockets that the front's program holds."""
    nginx = Nginx(pair.first.var)
    kills = (False, True)
    with pair.load() as load:
        for kill_workers in kills:
            master = nginx.master()
            assert master
            for process in (master, *(master.children() if kill_workers else ())):
                process.kill()
            eventually(partial(is_replaced, nginx, master))
            pair.both_answer()
        result = load.stop()
    assert result.lost <= CLIENTS * len(kills) and (result.failed, result.unanswered) == (0, 0), result.as_json()


def test_a_node_that_is_away_costs_no_request_and_no_switch_and_catches_up(pair: Pair, light: Path) -> None:
    """It goes while a canary shares; meanwhile the canary is stopped. So it has a version that the first has not."""
    pair.first.pack("1.3")
    with pair.load(pause_s=0.1) as load:
        with pair.canary("1.1", "--steps", "20,100", "--requests", "100000", "--shadow", "0"):
            eventually(pair.shares, seconds=120)
        pair.second.deploy("down")
        for words in (("traffic", "promote"), ("deploy", "rollout", "shapes-1.3.mar")):
            refused = command(*words, env=pair.first.env, check=False)
            assert refused.returncode == 1 and "node2: " in refused.stderr, refused.stderr
            assert pair.first.last().state is not State.DONE and pair.first.client.default("shapes") == "1.0"
        behind = pair.first.deploy("status", check=False)
        assert behind.returncode == 1 and "node2: " in behind.stderr
        command("traffic", "stop", "--why", "a node is away", env=pair.first.env)
        assert pair.served() == [["1.0"], ["1.0", "1.1"]]
        assert "node2: started again" in pair.first.deploy("up", "--bundle", light).stdout
        eventually(lambda: pair.served() == [["1.0"]] * 2 and [*pair.second.registered()] == ["1.0"])
        pair.both_answer()
        result = load.stop()
    assert (result.lost, result.failed, result.unanswered) == (0, 0, 0), result.as_json()


def test_down_stops_both_and_the_front(pair: Pair, light: Path) -> None:
    assert pair.first.deploy("down").stdout.endswith("stopped: no process is left\n")
    assert [group_of_server(node.var) for node in pair] == [None, None] and Nginx(pair.first.var).master() is None


def java(node: Node) -> psutil.Process:
    group = group_of_server(node.var)
    found = java_of(group) if group else None
    assert found
    return found


def program(node: Node, module: str) -> psutil.Process:
    owner = server_lock(node.var).owner()
    assert owner
    return next(child for child in psutil.Process(owner.pid).children() if module in cmdline(child))


def is_replaced(nginx: Nginx, former: psutil.Process) -> bool:
    return nginx.master() not in (None, former)


def is_ready(node: Node) -> bool:
    try:
        return requests.get(node.settings.url("keeper") + "/ready", timeout=20).ok
    except requests.RequestException:
        return False
