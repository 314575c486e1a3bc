"""A rollout that is killed at any step: clients are answered all the time, and the same command completes it."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.settings import ROOT
from tests.helpers.nodes import Node, running_node
from tests.helpers.running.forked import run_forked

POINTS = {
    # by point: where the process kills itself: at which call, before, during or after it, with which argument
    "check begins": ("Journal.step", "before", "check"),
    "register begins": ("Journal.step", "before", "register"),
    "a worker starts": ("Client.register", "during", ""),
    "it is registered": ("Client.register", "after", ""),
    "goldens begins": ("Journal.step", "before", "goldens"),
    "latency begins": ("Journal.step", "before", "latency"),
    "before the switch": ("Client.set_default", "before", ""),
    "after the switch, before the manifest": ("desired.write", "before", ""),
    "after the manifest": ("desired.write", "after", ""),
    "drain begins": ("Journal.step", "before", "drain"),
    "keep begins": ("Journal.step", "before", "keep"),
    "before an old one is unregistered": ("Client.unregister", "before", ""),
    "after an old one is unregistered": ("Client.unregister", "after", ""),
    "before the end is written": ("Journal.end", "before", "done"),
}
CHAINS = {
    "while a worker starts": ["a worker starts"],
    "before the switch": [
        "check begins",
        "register begins",
        "it is registered",
        "goldens begins",
        "latency begins",
        "before the switch",
        "after the switch, before the manifest",
    ],
    "after the switch": [
        "after the manifest",
        "drain begins",
        "keep begins",
        "before an old one is unregistered",
        "after an old one is unregistered",
        "before the end is written",
    ],
}


@pytest.fixture(scope="module")
def node(light: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running_node(light, tmp_path_factory.mktemp("killed")) as running:
        running.pack("0.1", "0.2")
        running.rollout("0.1")
        running.rollout("0.2")
        yield running


def test_every_point_is_in_one_chain() -> None:
    assert sorted(point for chain in CHAINS.values() for point in chain) == sorted(POINTS)


@pytest.mark.parametrize("chain", CHAINS)
def test_a_rollout_that_is_killed_again_and_again_ends_in_the_same_place(node: Node, chain: str) -> None:
    """The same command is repeated: it resumes, is killed at the next point, and finally runs to its end."""
    version, former = f"1.{list(CHAINS).index(chain)}", node.manifest()[0]
    node.pack(version)
    for point in CHAINS[chain]:
        kill(node, version, point)
        assert node.last().state == "interrupted", point
        assert node.answered_by() in (former, version), point
        assert node.manifest()[0] in (former, version), point
    left = json.loads(node.deploy("status", "--json", check=False).stdout)["left_over"]
    assert left["what"] == f"rollout of shapes {version}"

    node.rollout(version)
    assert node.answered_by() == version
    assert node.manifest() == [version, former]
    assert node.registered() == {version: 1, former: 1}
    assert node.last().state == "done"


def test_the_next_rollout_cleans_up_after_a_killed_one(node: Node) -> None:
    """A newer version is rolled out instead of running the same command again."""
    node.pack("2.0", "2.1")
    kill(node, "2.0", "latency begins")
    former = node.manifest()[0]
    assert set(node.registered()) > {"2.0", former}
    node.rollout("2.1")
    assert node.registered() == {"2.1": 1, former: 1}


def kill(node: Node, version: str, point: str) -> None:
    words = ["tests.helpers.running.dying_rollout", *POINTS[point], f"shapes-{version}.mar"]
    done = run_forked(words, ROOT, {**os.environ, **node.env})
    assert done.returncode == -9, f"it was not killed at {point}: {done.stderr}"
