"""A canary with a real nginx and a node that stands in: its steps, its end, and what a killed one leaves."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.front.pair import pair_environment
from common.errors import UserError
from deploy.change.session import Refused
from deploy.settings import HOST, Settings, read_settings
from deploy.store import desired
from deploy.store.desired import ServedVersion
from deploy.supervision.metrics import Metrics
from tests.helpers.traffic.front import bearer, following, needs_nginx, running_front
from tests.helpers.traffic.node import standin
from tests.helpers.waiting import eventually
from traffic import canary, observed, record
from traffic.canary import Canary, Expired, edge_of, percentages, seconds
from traffic.front import route
from traffic.front.nodes import nodes
from traffic.front.program import Front
from traffic.record import State
from traffic.verdict import Counts, Decision, Step, judge

LOOK_S = canary.LOOK_S
NEW: Any = SimpleNamespace(name="shapes", version="1.1", mar=Path("shapes-1.1.mar"))


@pytest.fixture(autouse=True)
def manifest_only(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """What deploy does to TorchServe, done to the manifest alone: the node stands in."""
    row = ServedVersion("shapes", "1.1", "shapes-1.1.mar", "e", left=True)

    def add(*_: object, **__: object) -> None:
        desired.write(settings.var, [*desired.read(settings.var), row])

    def take_out(*_: object, **__: object) -> None:
        assert route.read_all(settings.var) == [], "its share ends before anything that takes time"
        desired.write(settings.var, [entry for entry in desired.read(settings.var) if entry.version != "1.1"])

    def promote(*_: object, **__: object) -> None:
        entries = desired.read(settings.var)
        desired.write(settings.var, desired.switched(entries, row, desired.default_of(entries, "shapes")))

    for name, action in (("add_candidate", add), ("take_out", take_out), ("promote_candidate", promote)):
        monkeypatch.setattr(canary, name, action)
    monkeypatch.setattr(canary, "LOOK_S", 0.05)
    monkeypatch.setattr(observed, "BURST_S", 0.05)


@contextmanager
def clients(
    settings: Settings,
    fails: Callable[[str, int], bool] = lambda path, number: False,
    labels: Callable[[str], str] = lambda path: "disc",
    seconds: Callable[[str], float] = lambda path: 0.0,
    failing: Collection[str] = ("node1", "node2"),
    failure: int = 500,
) -> Iterator[tuple[Front, list[int]]]:
    """A front before nodes that stand in, and a client that asks all the time; the statuses that it got."""
    statuses: list[int] = []
    over = threading.Event()
    with running_front(settings, rate=100_000) as front, ExitStack() as stack:
        for node in nodes(settings):
            bad = fails if node.name in failing else lambda path, number: False
            stack.enter_context(standin(node, f"key-{node.name}", bad, labels, seconds, failure))

        def ask() -> None:
            while not over.is_set():
                connection = HTTPConnection(HOST, front.settings.ports["front_port"], timeout=10)
                with contextlib.suppress(OSError), contextlib.closing(connection):
                    connection.request("POST", "/predictions/shapes", b"photo", bearer(front))
                    answer = connection.getresponse()
                    answer.read()
                    statuses.append(answer.status)

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            with following(front):
                yield front, statuses
        finally:
            over.set()
            thread.join()


def started(
    settings: Settings, steps: str = "20,50,100", deadline_s: float = 60, needed: int = 20, shadow: int = 0
) -> Canary:
    return Canary(settings, NEW, percentages(steps), deadline_s, lambda share: needed, "test", shadow)


@needs_nginx
@pytest.mark.slow
def test_a_version_like_the_serving_one_becomes_the_default(settings: Settings) -> None:
    with clients(settings):
        started(settings).run()
    found = record.read(settings.var, "shapes")
    assert found and (found.state, [step.share for step in found.steps]) == (State.PROMOTED, [0.2, 0.5])
    assert all(step.candidate.requests >= 20 and step.candidate.labels for step in found.steps)
    default = desired.default_of(desired.read(settings.var), "shapes")
    assert default and default.version == "1.1"
    assert route.read_all(settings.var) == []


@needs_nginx
@pytest.mark.slow
def test_a_version_that_fails_is_stopped_and_taken_out(settings: Settings) -> None:
    said = r"was stopped: server errors: \d+ of \d+ were the candidate's, at 20%"
    with (
        clients(settings, lambda path, number: path.endswith("/1.1") and number % 2 == 0),
        pytest.raises(Refused, match=said),
    ):
        started(settings, needed=10_000).run()
    found = record.read(settings.var, "shapes")
    assert found and found.state is State.STOPPED
    assert [entry.version for entry in desired.read(settings.var)] == ["1.0"]
    assert route.read_all(settings.var) == []


@needs_nginx
@pytest.mark.slow
def test_failures_count_although_the_other_node_answers_the_client(settings: Settings, tmp_path: Path) -> None:
    """TorchServe answers 503 when the handler raises, and nginx asks the next node."""
    (tmp_path / "pair").mkdir()
    listed = read_settings(pair_environment(tmp_path / "pair", settings.store)).nodes
    with (
        clients(
            replace(settings, nodes=listed),
            lambda path, number: path.endswith("/1.1"),
            failing=("node2",),
            failure=503,
        ) as (front, statuses),
        pytest.raises(Refused, match=r"was stopped: server errors: (\d+) of \1 were the candidate's, at 20%"),
    ):
        started(front.settings, needed=10_000).run()
    assert {*statuses} <= {200, 503} and statuses[statuses.index(200) :].count(503) == 0, "a client noticed"


def test_the_share_ends_at_the_first_look_after_an_alarm(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look comes each half second. The answers that fail have no line of the handler, which is not waited for."""
    log, looks = settings.var / "logs" / "front.log", list[bool]()
    log.parent.mkdir()
    log.touch()
    before = [line() for _ in range(canary.MEASURED)]
    going = [line(share="5") for _ in range(19)] + [line("candidate", share="5")]
    failing = [line("candidate", status=503, share="5") for _ in range(3)]
    logged = iter([before, going, going, going, failing])

    def sleep(seconds: float) -> None:
        looks.append(route.read(settings.var, "shapes") is not None)
        with log.open("a") as file:
            file.writelines(next(logged, ()))

    monkeypatch.setattr(canary, "time", SimpleNamespace(sleep=sleep, time=time.time))
    with pytest.raises(Refused, match="was stopped: server errors: 3 of 3 were the candidate's, at 5% of the requests"):
        started(settings, "5,100", needed=10_000).run()
    assert looks == [True] * 5 and route.read(settings.var, "shapes") is None
    assert LOOK_S <= 0.5


def line(arm: str = "control", status: int = 200, share: str = "") -> str:
    """A line of the front's log."""
    row = {"status": status, "seconds": 0.01, "node": "unix:/front/node1.sock", "node_status": str(status)}
    row |= {"request_id": "x" if status == 503 else "", "canary": "shapes/1.1", "arm": arm, "share": share}
    return json.dumps(row) + "\n"


@needs_nginx
@pytest.mark.slow
def test_a_version_that_answers_otherwise_is_stopped_before_a_client_sees_it(settings: Settings) -> None:
    other = "square"
    with (
        clients(settings, labels=lambda path: other if path.endswith("/1.1") else "disc"),
        pytest.raises(Refused, match="was stopped: pairs with two labels: "),
    ):
        started(settings, shadow=100).run()
    found = record.read(settings.var, "shapes")
    assert found and found.state is State.STOPPED and found.steps == ()
    assert found.shadow["disagreements"] == found.shadow["answered"] > 0
    rows = [json.loads(line) for line in (settings.var / "logs" / "front.log").read_text().splitlines()]
    assert {row["arm"] for row in rows if row["canary"]} == {"control"}, "a client saw it"
    assert 'outcome="different"} 0.0' not in record.as_metrics([found]).decode()


@needs_nginx
@pytest.mark.slow
@pytest.mark.parametrize(("shadow", "said"), [(10, "pairs in which the candidate is slower: "), (0, "slow requests: ")])
def test_a_version_that_takes_much_longer_is_stopped(settings: Settings, shadow: int, said: str) -> None:
    """By the shadow before a client sees it; without a shadow by the first share."""
    with (
        clients(settings, seconds=lambda path: 0.3 if path.endswith("/1.1") else 0.0),
        pytest.raises(Refused, match=f"was stopped: {said}"),
    ):
        started(settings, needed=10_000, shadow=shadow).run()
    found = record.read(settings.var, "shapes")
    assert found and found.state is State.STOPPED and bool(found.steps) is not bool(shadow)


@needs_nginx
@pytest.mark.slow
def test_without_a_decision_nothing_has_changed_at_the_deadline(settings: Settings) -> None:
    with (
        running_front(settings) as front,
        following(front),
        pytest.raises(Expired, match="no decision before the deadline"),
    ):
        started(settings, deadline_s=1).run()
    found = record.read(settings.var, "shapes")
    assert found and found.state is State.EXPIRED
    assert [entry.version for entry in desired.read(settings.var)] == ["1.0"]


@needs_nginx
@pytest.mark.slow
def test_a_killed_canary_keeps_its_share_and_counts_and_the_same_command_goes_on(settings: Settings) -> None:
    """Killed at 20 %: the same command goes on there; `stop` works without its process."""
    with clients(settings):
        first = started(settings, needed=10_000)
        dying = threading.Thread(target=run_until_killed, args=(first,))
        dying.start()
        eventually(lambda: (r := record.read(settings.var, "shapes")) and r.steps)
        first.needed = killing
        dying.join()
        left = record.read(settings.var, "shapes")
        assert left and (left.state, left.percent) == (State.SHARING, 20)
        following = route.read(settings.var, "shapes")
        assert following and route.share(settings.var, following) == 20
        again = started(settings)
        assert again.record.steps == left.steps and again.record.edge == left.edge
        again.run()
    assert (record.read(settings.var, "shapes") or left).state is State.PROMOTED


class Killed(BaseException):
    """Stands for kill -9: nothing after it runs."""


def killing(share: float) -> int:
    raise Killed


def run_until_killed(first: Canary) -> None:
    with contextlib.suppress(Killed):
        first.run()


@needs_nginx
@pytest.mark.slow
def test_a_stop_from_outside_ends_a_running_canary(settings: Settings) -> None:
    with clients(settings):
        running = started(settings, needed=10_000)
        ended: list[UserError] = []

        def run() -> None:
            try:
                running.run()
            except UserError as error:
                ended.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        eventually(lambda: (r := record.read(settings.var, "shapes")) and r.steps)
        found = record.the_active(settings.var)
        record.write(settings.var, found.changed(state=State.STOPPED, why="teachers complain"))
        route.end(settings.var, "shapes")
        thread.join()
    assert "was stopped" in ended[0].message
    assert [entry.version for entry in desired.read(settings.var)] == ["1.0"]


def test_a_request_is_slow_from_one_and_a_half_times_the_usual_on_or_later() -> None:
    """If nearly all take the same time, a tenth more is not slow."""
    assert edge_of([0.02] * 90 + [0.022] * 10) == pytest.approx(0.03)
    assert edge_of([0.02] * 90 + [0.1] * 10) == pytest.approx(0.1)


@pytest.mark.parametrize(("later", "decision"), [(0.03, Decision.STOP), (0.002, Decision.WAIT)])
def test_a_version_that_takes_30_ms_longer_is_stopped_by_its_slow_requests(later: float, decision: Decision) -> None:
    """Durations as of the shipped model on two nodes (docs/benchmarks.md): p50 25 ms, p99 47 ms. 1,000 at 5 %."""
    random = np.random.default_rng(3)

    def durations(count: int) -> list[float]:
        return [*(0.025 * np.exp(random.normal(0, 0.27, count)))]

    edge = edge_of(durations(canary.MEASURED))
    slow = [sum(one + more > edge for one in durations(count)) for count, more in ((950, 0), (50, later))]
    step = Step(0.05, Counts({"ok": 950}, slow=slow[0]), Counts({"ok": 50}, slow=slow[1]))
    assert judge([step], needed=lambda share: 10_000).decision is decision


def test_durations_and_percentages_are_read() -> None:
    assert [seconds(text) for text in ("30s", "5m", "24h", "7d")] == [30, 300, 86400, 604800]
    assert percentages("0.5,25,100") == (0.5, 25, 100)
    with pytest.raises(UserError, match="--deadline 'soon' is not a duration"):
        seconds("soon")
    with pytest.raises(UserError, match="--steps '1;5': not percentages"):
        percentages("1;5")


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = record.Record("a", "1.1", "a-1.1.mar", State.SHARING, 5, 0.02, 10.0, "why")
    record.write(tmp_path, made)
    assert record.read(tmp_path, "a") == record.the_active(tmp_path) == made
    assert (
        b'classifier_canary_share{model="a",version="1.1"} 0.05'
        in Metrics(read_settings({"SERVE_VAR": str(tmp_path)})).text()
    )
    record.write(tmp_path, made.changed(state=State.PROMOTED))
    with pytest.raises(UserError, match="no canary is in progress"):
        record.the_active(tmp_path)
    assert json.loads((route.place(tmp_path, "a") / "verdict.json").read_text())["percent"] == 5
