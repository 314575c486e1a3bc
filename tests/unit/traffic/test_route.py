"""Shares of a candidate with a real nginx: how many keys, always the same ones, nested, and without a reload."""

import json
import re
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from common.errors import UserError
from deploy.settings import HOST, Settings
from tests.helpers.traffic.front import bearer, needs_nginx, running_front
from tests.helpers.traffic.node import standin
from tests.helpers.waiting import eventually
from traffic.front import route
from traffic.front.nodes import nodes
from traffic.front.program import Front
from traffic.front.route import Route

IDS = [f"photo-{number}" for number in range(600)]
NAME = "shapes"


@pytest.fixture(scope="module")
def front(settings_of_module: Settings) -> Iterator[Front]:
    (node,) = nodes(settings_of_module)
    with running_front(settings_of_module, rate=100_000) as running, standin(node, "key"):
        eventually(lambda: ask(running, ["a"]) != [""])
        yield running


def ask(front: Front, keys: list[str], path: str = f"/predictions/{NAME}") -> list[str]:
    """The paths that the node saw, one for each key."""
    connection = HTTPConnection(HOST, front.settings.ports["front_port"], timeout=10)
    seen = []
    for key in keys:
        connection.request("POST", path, b"photo", {**bearer(front), "X-Image-Id": key})
        answer = json.loads(connection.getresponse().read())
        seen.append(str(answer.get("path", "")))
    connection.close()
    return seen


def on_candidate(front: Front, ids: list[str] = IDS) -> set[str]:
    """The ids that the candidate got."""
    paths = ask(front, ids)
    return {key for key, path in zip(ids, paths, strict=True) if path == f"/predictions/{NAME}/1.1"}


def begun(front: Front) -> Route:
    return route.begin(front.settings.var, NAME, "1.1", (1, 5, 25, 100))


@needs_nginx
@pytest.mark.slow
def test_shares_of_keys_are_right_sticky_nested_and_salted(front: Front) -> None:
    var = front.settings.var
    first = begun(front)
    assert on_candidate(front) == set()
    log = front.nginx.logs / "front_error.log"
    seen = {}
    for percent in (5, 25):
        route.set_share(var, first, percent)
        assert route.share(var, first) == percent
        seen[percent] = on_candidate(front)
    assert abs(len(seen[5]) - 30) < 20 and abs(len(seen[25]) - 150) < 40
    assert seen[5] < seen[25]
    assert on_candidate(front, IDS[:100]) == seen[25] & set(IDS[:100]), "the same keys again"
    route.set_share(var, first, 0)
    assert on_candidate(front, IDS[:50]) == set()
    route.end(var, NAME)
    second = begun(front)
    route.set_share(var, second, 25)
    again = on_candidate(front)
    assert len(again & seen[25]) < 2 * 0.25 * 0.25 * len(IDS), "another candidate picks others"
    named = f"/predictions/{NAME}/1.0"
    assert ask(front, [min(again)], named) == [named], "a version that is named is answered"
    route.end(var, NAME)
    assert on_candidate(front, IDS[:50]) == set()
    assert not re.search(r"\[(error|crit)\]|reconfiguring", log.read_text()), "no reload"
    lines = [json.loads(line) for line in (front.nginx.logs / "front.log").read_text().splitlines()]
    arms = {(line["share"], line["arm"]) for line in lines if line["canary"] == f"{NAME}/1.1"}
    assert arms >= {("", "control"), ("5", "control"), ("5", "candidate"), ("25", "control"), ("25", "candidate")}


@pytest.mark.parametrize("steps", [(), (5, 1), (5, 5), (0,), (101,), (0.05,)])
def test_steps_that_do_not_rise_are_refused(tmp_path: Path, steps: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match="are not steps: give rising percentages"):
        route.begin(tmp_path, NAME, "1.1", steps)


def test_a_route_is_read_as_it_was_written_and_a_damaged_one_is_none(tmp_path: Path) -> None:
    made = route.begin(tmp_path, "a.b", "1.1", (0.5, 5, 100))
    assert route.read_all(tmp_path) == [made]
    for percent in (5, 0.5, 100):
        route.set_share(tmp_path, made, percent)
        now = route.place(tmp_path, "a.b") / "now"
        assert (route.share(tmp_path, made), len([*now.iterdir()])) == (percent, percent * 10)
    (route.place(tmp_path, "a.b") / "route.json").write_text("{")
    assert route.read_all(tmp_path) == []
