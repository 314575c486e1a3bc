"""The shadow with a real nginx and a node that stands in: what it asks and writes, and that nobody waits for it."""

import json
import os
import signal
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest

from deploy.settings import HOST, Settings
from tests.helpers.traffic.front import bearer, needs_nginx, running_front
from tests.helpers.traffic.node import standin
from tests.helpers.waiting import eventually
from traffic.front import route
from traffic.front.nodes import nodes
from traffic.front.program import Front
from traffic.shadow import pairs
from traffic.shadow.pairs import Answer, Tally
from traffic.shadow.program import QUEUE_BYTES, Copy, Shadow

NAME, PHOTO = "shapes", b"photo-of-a-client" * 1000


@pytest.fixture
def front(settings: Settings) -> Iterator[Front]:
    (node,) = nodes(settings)
    with running_front(settings, rate=100_000) as running, standin(node, "key"):
        eventually(lambda: ask(running) == 200)
        yield running


def ask(front: Front) -> int:
    connection = HTTPConnection(HOST, front.settings.ports["front_port"], timeout=30)
    connection.request("POST", f"/predictions/{NAME}", PHOTO, bearer(front))
    status = connection.getresponse().status
    connection.close()
    return status


@needs_nginx
@pytest.mark.slow
def test_both_versions_are_asked_and_neither_photo_nor_client_notices(front: Front) -> None:
    var = front.settings.var
    found = route.begin(var, NAME, "1.1", (5, 100))
    route.set_share(var, found, 0, shadow=100)
    front.once()

    def some_pairs() -> bool:
        assert ask(front) == 200
        return pairs.read(var, NAME, found.salt).answered >= 20

    eventually(some_pairs)
    rows = [json.loads(line) for line in (var / "logs" / "shadow.log").read_text().splitlines()]
    assert {(row["model"], row["control_label"], row["candidate_label"]) for row in rows} == {(NAME, "disc", "disc")}
    assert all(row["control_ms"] > 0 and row["candidate_confidence"] == 0.9 for row in rows)
    written = [path for path in var.rglob("*") if path.is_file() and path.name not in ("nginx", "nginx.conf")]
    assert not [path for path in written if b"photo-of-a-client" in path.read_bytes()]
    lines = [json.loads(line) for line in (var / "logs" / "front.log").read_text().splitlines()]
    assert {(line["client"], line["arm"]) for line in lines if line["canary"]} == {("default", "control")}
    child = front._shadow
    assert child is not None and child.poll() is None
    route.set_share(var, found, 0)
    front.once()
    assert child.poll() is not None, "no candidate, no shadow"


@needs_nginx
@pytest.mark.slow
def test_a_killed_shadow_is_started_again_and_goes_on_counting(front: Front) -> None:
    var = front.settings.var
    found = route.begin(var, NAME, "1.1", (5, 100))
    route.set_share(var, found, 0, shadow=100)

    def more_pairs(than: int) -> int:
        front.once()
        assert ask(front) == 200, "no client notices"
        answered = pairs.read(var, NAME, found.salt).answered
        return answered if answered > than else 0

    before = eventually(lambda: more_pairs(0))
    assert front._shadow is not None
    front._shadow.kill()
    front._shadow.wait()
    assert eventually(lambda: more_pairs(before + 5)) > before


@needs_nginx
@pytest.mark.slow
def test_nobody_waits_twice_for_a_shadow_that_hangs(front: Front) -> None:
    """A client with a kept connection: nginx waits once, then not for half a minute. It is counted, not timed."""
    var = front.settings.var
    found = route.begin(var, NAME, "1.1", (5, 100))
    route.set_share(var, found, 0, shadow=100)
    front.once()
    eventually(lambda: ask(front) == 200 and pairs.read(var, NAME, found.salt).answered)
    assert front._shadow is not None
    os.kill(front._shadow.pid, signal.SIGSTOP)
    connection = HTTPConnection(HOST, front.settings.ports["front_port"], timeout=30)
    for _ in range(200):
        connection.request("POST", f"/predictions/{NAME}", PHOTO, bearer(front))
        answer = connection.getresponse()
        assert answer.status == 200 and answer.read()
    connection.close()
    log = front.nginx.logs / "front_error.log"
    assert 1 <= log.read_text().count("upstream timed out") <= 3


def test_what_does_not_fit_into_64_megabytes_is_dropped_and_counted(settings: Settings) -> None:
    shadow = Shadow(settings)
    megabyte = Copy(NAME, {}, bytes(1_000_000))
    assert [shadow.put(megabyte) for _ in range(70)] == [True] * 64 + [False] * 6
    assert (shadow.queued_bytes, shadow.dropped) == (QUEUE_BYTES, 6)


def test_pairs_are_counted_and_another_canary_begins_at_nothing(settings: Settings) -> None:
    tally = Tally("salt")
    tally.add(Answer("a", 0.9, 10.0), Answer("a", 0.8, 30.0))
    tally.add(Answer("a", 0.9, 10.0), Answer("b", 0.8, 5.0))
    tally.add(Answer(None, None, 10.0), Answer("b", 0.8, 5.0))
    assert (tally.answered, tally.disagreements, tally.slower, tally.failed) == (2, 1, 1, 1)
    assert (tally.ratio, tally.labels) == (1.75, {"a -> b": 1})
    pairs.write(settings.var, NAME, tally)
    assert pairs.read(settings.var, NAME, "salt").pairs() == tally.pairs()
    assert pairs.read(settings.var, NAME, "other") == Tally("other")
