"""The bounds of the benchmarks: a bad result is reported, a good one is not."""

from dataclasses import replace
from typing import Any

import pytest

from benchmarks import killed, leaks, rollback
from benchmarks.harness.server import Swap
from benchmarks.swaps import WITH, WITHOUT, Run
from deploy.clients.generator import LOST, UNANSWERED, Sample
from deploy.clients.load import Result

REQUESTS = 10_000
VERSIONS = ["1.0", "1.1", "1.2"]


def samples(ms: float = 30.0, count: int = REQUESTS) -> list[Sample]:
    """A hundred requests a second, answered by the versions one after the other."""
    share = -(-count // len(VERSIONS))
    return [Sample(n / 100, n / 100, ms, 200, "disc", VERSIONS[n // share]) for n in range(count)]


def run(through: list[Sample], **seen: Any) -> Run:
    counts = {"registered": 2, "unregistered": 2}
    parts = {
        WITHOUT: Result(0, 10, 1, samples(10, 100), "disc"),
        WITH: Result(0, 100, 1, through, "disc"),
    }
    swaps = [Swap(version, n, n + 1) for n, version in enumerate(VERSIONS)]
    return Run(parts, swaps, {"journal": counts, "log": counts, "left": ["1.2"], **seen})


def test_swaps_pass_up_to_three_times_the_p99() -> None:
    assert run(samples(ms=30.0)).broken(REQUESTS) == []


BAD_SAMPLES = {
    "1 answers were not 200": Sample(100, 100, 30, 503, None, None),
    "1 request got no answer": Sample(100, 100, 10_000, UNANSWERED, None, None),
    "1 answers were wrong": Sample(100, 100, 30, 200, "cross", "1.2"),
    "1 answers came from a version that was replaced": Sample(100, 100, 30, 200, "disc", "1.0"),
}


@pytest.mark.parametrize("message", BAD_SAMPLES)
def test_one_bad_answer_is_reported(message: str) -> None:
    assert run([*samples(), BAD_SAMPLES[message]]).broken(REQUESTS) == [message]


def test_one_lost_connection_is_reported() -> None:
    assert run([*samples(), Sample(100, 100, 1, LOST, None, None)]).broken(REQUESTS) == ["1 request got no answer"]


def test_a_slow_p99_is_reported_and_a_slow_maximum_is_not() -> None:
    slow = [sample._replace(ms=30.1) for sample in samples()[-101:]]
    assert run([*samples()[:-101], *slow]).broken(REQUESTS) == ["p99 is 30.1 ms, more than 3.0 x 10 ms"]
    assert run([*samples()[:-100], *slow[1:]]).broken(REQUESTS) == []


def test_too_few_requests_are_reported() -> None:
    assert run(samples()[1:]).broken(REQUESTS) == ["9999 requests were sent, not 10000"]


def test_a_version_that_never_answered_breaks_the_swaps() -> None:
    skipped = [s._replace(version="1.0") if s.version == "1.1" else s for s in samples()]
    (message,) = run(skipped).broken(REQUESTS)
    assert message == "not every version answered in turn: ['1.0', '1.2']"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"journal": {"registered": 1, "unregistered": 2}}, "the journals say"),
        ({"journal": {"registered": 2, "unregistered": 1}}, "the journals say"),
        ({"log": {"registered": 1, "unregistered": 2}}, "the access log says"),
        ({"log": {"registered": 2, "unregistered": 1}}, "the access log says"),
        ({"left": ["1.1", "1.2"]}, "registered at the end: ['1.1', '1.2']"),
    ],
)
def test_registrations_are_counted_in_journal_and_access_log(wrong: dict[str, Any], message: str) -> None:
    (sentence,) = run(samples(), **wrong).broken(REQUESTS)
    assert sentence.startswith(message)


STEADY = leaks.Snapshot(
    swaps=1,
    java_mb=200,
    heap_mb=60,
    keeper_mb=90,
    others_mb=80,
    workers_mb=800,
    workers=1,
    threads=60,
    files=200,
    keeper_threads=4,
    keeper_files=20,
    temporary=70,
    store=400,
)


def grown(name: str, by: float, since: int = 0) -> list[leaks.Snapshot]:
    """200 snapshots in which a value grows by `by` per swap, after `since` swaps."""
    value = getattr(STEADY, name)
    return [replace(STEADY, swaps=n, **{name: value + by * max(n - since, 0)}) for n in range(1, 201)]


def missed_bounds(snapshots: list[leaks.Snapshot], repairs: int = 0) -> list[str]:
    missed: list[str] = leaks.summary(snapshots, leaks.SETTLED, repairs)["broken"]
    return missed


@pytest.mark.parametrize("name", leaks.MEMORY)
def test_memory_that_grows_by_a_tenth_of_a_megabyte_a_swap_is_a_leak(name: str) -> None:
    assert missed_bounds(grown(name, 0.11)) == [f"{name} grows by 0.11 per swap"]
    assert missed_bounds(grown(name, 0.09)) == []


@pytest.mark.parametrize("name", leaks.COUNTS)
def test_one_more_at_the_end_is_a_leak_and_one_fewer_is_not(name: str) -> None:
    one_more = grown(name, 1, since=199)
    assert missed_bounds(one_more) == [
        f"{name}: {getattr(STEADY, name)} after 50 swaps, {getattr(STEADY, name) + 1} at the end"
    ]
    assert missed_bounds(grown(name, -1, since=199)) == []


def test_growth_before_swap_50_is_not_a_leak() -> None:
    warm = [
        replace(row, java_mb=200 + min(row.swaps, 50), threads=60 + min(row.swaps, 50)) for row in grown("store", 0)
    ]
    assert missed_bounds(warm) == []


def test_repairs_by_the_keeper_are_reported() -> None:
    assert missed_bounds(grown("store", 0), repairs=1) == ["the keeper repaired 1 time what a rollout did"]


GOOD = {"case": "kill", "sent": 50, "failed": 0, "unanswered": 0, "seconds": 9.0, "ratio": 2.0, "allowed": 0}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"failed": 1}, "kill: 1 request failed, 0 may"),
        ({"failed": 2, "allowed": 1}, "kill: 2 requests failed, 1 may"),
        ({"unanswered": 1}, "kill: 1 request got no answer"),
        ({"unanswered": 1, "allowed": None}, "kill: 1 request got no answer"),
        ({"ratio": 2.01}, "kill: it took 2.01 cold starts, more than 2"),
        ({"sent": 0}, "kill: no request was sent"),
    ],
)
def test_lost_or_late_answers_after_a_kill_are_reported(wrong: dict[str, Any], message: str) -> None:
    assert killed.broken([GOOD, {**GOOD, **wrong}]) == [message]


@pytest.mark.parametrize("fine", [{}, {"failed": 1, "allowed": 1}, {"failed": 50, "allowed": None}])
def test_allowed_failures_after_a_kill_are_not_reported(fine: dict[str, Any]) -> None:
    assert killed.broken([{**GOOD, **fine}]) == []


@pytest.mark.parametrize(("may", "allowed"), [(killed.NOTHING, 0), (killed.IN_HAND, 2), (killed.UNTIL_BACK, None)])
def test_a_killed_worker_had_the_unanswered_requests_sent_before(may: str, allowed: int | None) -> None:
    at = Result(100, 10, 1, [
        Sample(1.0, 1.0, 500, 200, "disc", "1.1"),  # answered before the kill, at 2 s
        Sample(1.9, 1.9, 150, 503, None, None),  # in its worker
        Sample(1.95, 1.95, 3000, 200, "disc", "1.1"),  # in its queue
        Sample(2.1, 2.1, 10, LOST, None, None),  # sent afterwards
        Sample(2.2, 2.2, 10, 200, "cross", "1.1"),
        Sample(2.3, 2.3, 10_000, UNANSWERED, None, None),
    ], "disc")  # fmt: skip
    row = killed.row_of(killed.Case("kill", lambda node: 0.0, may), at, 102.0, 5.0, 10.0)
    assert row == {
        "case": "kill",
        "sent": 6,
        "failed": 3,
        "unanswered": 1,
        "seconds": 5,
        "ratio": 0.5,
        "allowed": allowed,
    }


def test_only_killing_a_worker_or_java_may_lose_requests() -> None:
    may = {case.name: case.may_lose for case in (*killed.CASES, killed.DISK)}
    spared = [name for name, lost in may.items() if lost == killed.NOTHING]
    assert len(spared) == 5
    assert all(any(word in name for word in ("keeper", "supervisord", "rollout")) for name in spared)


def test_a_rollback_must_be_answered_within_a_second_by_the_median() -> None:
    assert rollback.summary([(0.5, 0.6), (1.0, 1.2), (9.0, 9.5)], 100, 0)["broken"] == []
    assert rollback.summary([(0.5, 0.6), (1.01, 1.2), (9.0, 9.5)], 100, 0)["broken"] == [
        "the first answer came after 1.01 s, more than 1"
    ]
    assert rollback.summary([(0.5, 0.6)], 100, 1)["broken"] == ["1 request failed"]
