"""The verdict: simulated canaries with fixed seeds, properties of the evidence, and one case per rule."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betainc, betaln
from scipy.stats import beta

from traffic import evidence, verdict
from traffic.shadow.pairs import Pairs
from traffic.verdict import Counts, Decision, Step, Verdict, judge

NOTHING_WRONG = {"fails": 0.001, "slow": 0.05, "online": 0.3, "unsure": 0.02}


def drawn(
    random: np.random.Generator, requests: int, fails: float, slow: float, online: float, unsure: float
) -> Counts:
    failed = int(random.binomial(requests, fails))
    good = requests - failed
    shown = int(random.binomial(good, online))
    return Counts(
        {"ok": good, "internal_error": failed},
        server_errors=failed,
        slow=int(random.binomial(requests, slow)),
        labels={"online": shown, "offline": good - shown},
        unsure=int(random.binomial(good, unsure)),
    )


def added(total: Counts, more: Counts) -> Counts:
    def both(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
        return {key: one.get(key, 0) + other.get(key, 0) for key in {**one, **other}}

    return Counts(
        both(total.codes, more.codes),
        total.server_errors + more.server_errors,
        total.slow + more.slow,
        both(total.labels, more.labels),
        total.unsure + more.unsure,
    )


def canary(
    seed: int, candidate: dict[str, float], shares: tuple[float, ...], batch: int
) -> Iterator[tuple[int, Verdict]]:
    """A look after each `batch` requests: (requests so far, verdict), until it stops or has gone through all shares."""
    random, steps, requests = np.random.default_rng(seed), list[Step](), 0
    for share in shares:
        steps.append(Step(share))
        while True:
            given_to_it = int(random.binomial(batch, share))
            step = steps[-1]
            step.candidate = added(step.candidate, drawn(random, given_to_it, **NOTHING_WRONG | candidate))
            step.control = added(step.control, drawn(random, batch - given_to_it, **NOTHING_WRONG))
            requests += batch
            now = judge(steps)
            yield requests, now
            if now.decision is Decision.STOP:
                return
            if now.decision is Decision.GO:
                break


def last(
    seed: int, candidate: dict[str, float], shares: tuple[float, ...] = (0.05, 0.25), batch: int = 50
) -> tuple[int, Verdict]:
    *_, end = canary(seed, candidate, shares, batch)
    return end


def seen_by(now: Verdict) -> int:
    """Requests that the candidate has answered."""
    return sum(step.candidate.requests for step in now.steps)


@pytest.mark.slow
def test_of_two_hundred_canaries_of_a_version_against_itself_at_most_four_stop() -> None:
    ends = [last(seed, {}, batch=500)[1].decision for seed in range(200)]
    assert ends.count(Decision.STOP) <= 4
    assert ends.count(Decision.STOP) + ends.count(Decision.GO) == 200


@pytest.mark.slow
def test_five_percent_failures_are_stopped_within_2500_requests() -> None:
    ends = [last(seed, {"fails": 0.05}, shares=(0.05,)) for seed in range(40)]
    assert [now.decision for _, now in ends].count(Decision.STOP) >= 38
    stopped = [requests for requests, now in ends if now.decision is Decision.STOP]
    assert np.quantile(stopped, 0.9) <= 2500
    assert np.quantile([seen_by(now) for _, now in ends], 0.9) <= 150
    assert all("server errors" in now.why for _, now in ends if now.decision is Decision.STOP)


@pytest.mark.parametrize(
    ("candidate", "why"),
    [
        ({"slow": 0.5}, "slow requests"),
        ({"online": 1.0}, "photos labelled o"),
        ({"unsure": 0.3}, "unsure answers"),
        ({"fails": 1.0}, "server errors"),
    ],
)
def test_each_kind_of_harm_is_stopped_and_named(candidate: dict[str, float], why: str) -> None:
    _, now = last(1, candidate)
    assert now.decision is Decision.STOP
    assert why in now.why


COUNTS = st.integers(0, 3000).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of)))
SHARES = st.floats(0.01, 0.99)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(COUNTS, SHARES)
def test_the_evidence_is_the_formula_of_its_source(counts: tuple[int, int], share: float) -> None:
    count, of = counts
    tail = 1 - betainc(count + 1, of - count + 1, share)
    if tail < 1e-9:  # scipy's difference has no digits left
        return
    expected = betaln(count + 1, of - count + 1) + math.log(tail) - math.log1p(-share)
    expected -= count * math.log(share) + (of - count) * math.log1p(-share)
    assert evidence.more_than_its_share([(count, of, share)]) == pytest.approx(expected if of else 0, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.floats(0.01, 0.6))
def test_the_evidence_has_mean_one_if_nothing_is_wrong(of: int, share: float) -> None:
    chances = [math.comb(of, count) * share**count * (1 - share) ** (of - count) for count in range(of + 1)]
    for test in (evidence.more_than_its_share, evidence.other_than_its_share):
        values = [math.exp(test([(count, of, share)])) for count in range(of + 1)]
        assert sum(p * e for p, e in zip(chances, values, strict=True)) == pytest.approx(1, rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.floats(0.01, 0.6), st.floats(0.1, 1))
def test_the_evidence_has_mean_one_or_less_if_the_candidate_has_less_than_its_share(
    of: int, share: float, part: float
) -> None:
    less = share * part
    chances = [math.comb(of, count) * less**count * (1 - less) ** (of - count) for count in range(of + 1)]
    values = [math.exp(evidence.more_than_its_share([(count, of, share)])) for count in range(of + 1)]
    assert sum(p * e for p, e in zip(chances, values, strict=True)) <= 1 + 1e-6


@settings(max_examples=60, deadline=None)
@given(COUNTS, SHARES)
def test_more_bad_requests_of_the_candidate_are_more_evidence(counts: tuple[int, int], share: float) -> None:
    count, of = counts
    here, more = (evidence.more_than_its_share([(bad, of + 1, share)]) for bad in (count, count + 1))
    assert more > here


@settings(max_examples=40, deadline=None)
@given(COUNTS)
def test_the_upper_bound_is_that_of_clopper_and_pearson(counts: tuple[int, int]) -> None:
    count, of = counts
    expected = beta.ppf(0.95, count + 1, of - count) if count < of else 1.0
    assert evidence.upper_bound(count, of) == pytest.approx(expected, abs=1e-6)


def ok(count: int, **more: int) -> Counts:
    return Counts({"ok": count, **more}, labels={"online": count})


def test_no_traffic_is_wait_and_never_go() -> None:
    for steps in ([], [Step(0.05)], [Step(0.05, ok(10_000), Counts())][:0]):
        assert judge(steps).decision is Decision.WAIT
    now = judge([Step(0.05, ok(1900), ok(100))])
    assert (now.decision, now.why) == (
        Decision.WAIT,
        "100 of 300 requests of the candidate at 5%: 200 are missing",
    )


def test_each_step_needs_its_own_requests() -> None:
    first = Step(0.05, ok(5700), ok(300))
    assert judge([first]).decision is Decision.GO
    assert judge([first, Step(0.25)]).decision is Decision.WAIT
    assert judge([first, Step(0.25, ok(2900), ok(999))]).decision is Decision.WAIT
    assert judge([first, Step(0.25, ok(3000), ok(1000))]).decision is Decision.GO


def test_two_failures_are_too_few_for_an_alarm() -> None:
    steps = [Step(0.01, ok(1000), Counts({"ok": 10, "internal_error": 2}, 2, labels={"online": 10}))]
    assert judge(steps).decision is Decision.WAIT
    steps[0].candidate = Counts({"ok": 10, "internal_error": 3}, 3, labels={"online": 10})
    assert judge(steps).decision is Decision.STOP


def test_the_same_version_in_workers_with_fewer_requests_may_be_slow_somewhat_more_often() -> None:
    """Counts of a test on a busy machine, which had stopped a copy of the serving version."""
    same = [Step(0.2, Counts({"ok": 150}, slow=1), Counts({"ok": 38}, slow=8))]
    assert judge(same).decision is Decision.WAIT
    slower = [Step(0.2, Counts({"ok": 150}, slow=8), Counts({"ok": 38}, slow=30))]
    assert judge(slower).why == "slow requests: 30 of 38 were the candidate's, at 20% of the requests"


def test_refusals_of_clients_photos_are_compared_by_code() -> None:
    steps = [Step(0.05, ok(5000, corrupt_image=50), ok(250, corrupt_image=30))]
    now = judge(steps, client_codes=("corrupt_image", "invalid_json", "too_costly"))
    assert now.decision is Decision.STOP
    assert now.why.startswith("requests refused as corrupt_image: 30 of 80 were the candidate's, at 5% of the requests")


def test_a_share_that_is_not_the_one_that_was_set_is_wait() -> None:
    now = judge([Step(0.05, ok(1000), ok(1000))], needed=lambda share: 1)
    assert now.decision is Decision.WAIT
    assert "the candidate got 1000 of 2000 requests" in now.why


def test_pairs_decide_before_the_first_client() -> None:
    assert judge([], Pairs(1000, disagreements=500)).decision is Decision.STOP
    few = judge([Step(0.05, ok(5700), ok(300))], Pairs(1000, disagreements=15))
    assert (few.decision, "15 of 1000 photos got two labels" in few.why) == (Decision.WAIT, True)
    assert judge([Step(0.05, ok(5700), ok(300))], Pairs(1000, 1, slower=500, ratio=1.0)).decision is Decision.GO
    slow = judge([], Pairs(1000, slower=1000, ratio=1.8))
    assert (slow.decision, slow.why) == (Decision.STOP, "pairs in which the candidate is slower: 1000 of 1000")
    assert judge([Step(0.05, ok(5700), ok(300))], Pairs(1000, 1, slower=1000, ratio=1.2)).decision is Decision.GO


def test_every_count_is_in_the_json_and_can_be_read_again() -> None:
    steps = [Step(0.05, ok(5700, corrupt_image=2), ok(300))]
    row = judge(steps).as_json()
    assert [verdict.from_json(step) for step in row["steps"]] == steps
    assert {finding["name"] for finding in row["findings"]} >= {"server errors", "slow requests", "unsure answers"}
