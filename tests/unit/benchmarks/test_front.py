"""The bounds of benchmarks.front: which requests a killed nginx had, and which figures miss a bound."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.front.alarm import Stopped, measured
from benchmarks.front.kills import NGINX, Kills
from benchmarks.front.walk import _missed
from deploy.clients.generator import LOST, Sample
from deploy.clients.load import Result
from deploy.settings import read_settings

GOOD: dict[str, Any] = {
    "sent": 10_000,
    "lost": 0,
    "unanswered": 0,
    "statuses": {200: 10_000},
    "reloads": 2,
    "p99_ratio": 3.0,
    "served": [["classroom 1.1"], ["classroom 1.1"]],
}


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("sent", 9_999, "only 9999 requests"),
        ("lost", 1, "1 requests were lost"),
        ("unanswered", 1, "1 were not answered"),
        ("statuses", {200: 9_999, 503: 1}, "answers: "),
        ("reloads", 3, "reloaded 3 times"),
        ("p99_ratio", 3.01, "p99 was 3.01 times"),
        ("served", [["classroom 1.1"], ["classroom 1.0", "classroom 1.1"]], "the nodes serve "),
    ],
)
def test_each_bound_of_a_walk_is_checked(key: str, value: object, said: str) -> None:
    assert _missed(GOOD, 10_000) == []
    (sentence,) = _missed(GOOD | {key: value}, 10_000)
    assert said in sentence


def test_only_requests_that_were_open_when_nginx_was_killed_were_in_its_hands() -> None:
    kills = Kills(read_settings({}), {}, Path("classroom-1.1.mar"), 0.0)
    kills.done = [("keeper", "sharing", 2.0), (NGINX, "sharing", 5.0)]
    open_then, before, after = (Sample(t, t, 20.0, LOST, None, None) for t in (4.99, 4.0, 5.2))
    at_the_keeper, answered = Sample(1.99, 1.99, 20.0, LOST, None, None), Sample(4.99, 4.99, 20.0, 200, "a", "1.0")
    assert kills.in_hand(Result(0.0, 10.0, 0.0, [open_then, before, after, at_the_keeper, answered])) == 1


def test_the_alarm_is_the_answer_that_suffices_for_the_verdict() -> None:
    """The third failure of three at 5 %; the requests in flight when the share ends were seen, too."""
    served = [Sample(number / 10, number / 10, 20.0, 200, "a", "1.0") for number in range(200)]
    failures = [Sample(t, t, 50.0, 503, None, None, "unavailable") for t in (5.0, 8.0, 11.0)]
    candidate = [Sample(t, t, 20.0, 200, "a", "1.1") for t in (0.5, 4.0, 6.0, 7.0, 9.0, 11.4)]
    result = Result(0.0, 20.0, 0.0, [*served, *failures, *candidate])
    assert measured(result, "1.1", 1.0, 11.45) == Stopped(requests=113, seen=8, failed=3, seconds=0.4)
