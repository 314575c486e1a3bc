"""The repairs that are due, as a table: manifest, state of TorchServe, state of earlier rounds, actions."""

import pytest

from deploy.store.desired import ServedVersion
from deploy.supervision.repair_plan import LOST_S, RETRY_S, Failure, ModelState, Observed, plan

NOW = 1000.0
LONG = NOW - LOST_S - 1  # short of workers since then: long enough to be revived
ONE = ServedVersion("demo", "1.0", "demo-1.0.mar", "")
TWO = ServedVersion("demo", "2.0", "demo-2.0.mar", "", default=True)
PAIR = ServedVersion("demo", "2.0", "demo-2.0.mar", "", default=True, workers=2)
OTHER = ServedVersion("other", "1.0", "other-1.0.mar", "", default=True)

Case = tuple[list[ServedVersion], dict[str, int], str | None, dict[str, float], dict[str, float], list[str]]
CASES: dict[str, Case] = {
    # manifest, ready workers, default, short of workers since, failed and retried at, actions
    "nothing to serve": ([], {}, None, {}, {}, []),
    "all as it must be": ([TWO, ONE], {"2.0": 1, "1.0": 1}, "2.0", {}, {}, []),
    "after a restart": ([TWO, ONE], {}, None, {}, {}, ["restore 2.0", "restore 1.0"]),
    "one is not registered": ([TWO, ONE], {"2.0": 1}, "2.0", {}, {}, ["restore 1.0"]),
    "a version registered by hand": ([TWO], {"2.0": 1, "3.0": 1}, "2.0", {}, {}, []),
    "another is the default": ([TWO, ONE], {"2.0": 1, "1.0": 1}, "1.0", {}, {}, ["default 2.0"]),
    "one registered by hand is the default": ([TWO], {"2.0": 1, "3.0": 1}, "3.0", {}, {}, ["default 2.0"]),
    "workers just lost": ([TWO, ONE], {"2.0": 0, "1.0": 1}, "2.0", {"2.0": NOW}, {}, []),
    "workers lost for long": ([TWO, ONE], {"2.0": 0, "1.0": 1}, "2.0", {"2.0": LONG}, {}, ["revive 2.0"]),
    "one of two workers lost for long": ([PAIR], {"2.0": 1}, "2.0", {"2.0": LONG}, {}, ["revive 2.0"]),
    "more workers than needed": ([TWO], {"2.0": 3}, "2.0", {}, {}, []),
    "failed, too early to retry": ([TWO, ONE], {"1.0": 1}, "1.0", {}, {"2.0": NOW + 1}, []),
    "failed, time to retry": ([TWO, ONE], {"1.0": 1}, "1.0", {}, {"2.0": NOW}, ["restore 2.0"]),
    "default failed, the kept one takes its place": (
        [TWO, ONE],
        {"2.0": 0, "1.0": 1},
        "2.0",
        {},
        {"2.0": NOW + 1},
        ["default 1.0"],
    ),
    "default without workers, the kept one answers": ([TWO, ONE], {"2.0": 0, "1.0": 1}, "1.0", {}, {}, []),
    "default without workers, not failed yet": ([TWO, ONE], {"2.0": 0, "1.0": 0}, "1.0", {}, {}, ["default 2.0"]),
    "nothing can answer": ([TWO, ONE], {"2.0": 0, "1.0": 0}, "2.0", {}, {"2.0": NOW + 1}, []),
    "default is back": ([TWO, ONE], {"2.0": 1, "1.0": 1}, "1.0", {}, {"2.0": NOW + 1}, ["default 2.0"]),
    "manifest without a default": ([ONE], {"1.0": 1}, None, {}, {}, ["default 1.0"]),
}


@pytest.mark.parametrize("case", CASES)
def test_due_repairs(case: str) -> None:
    desired, ready, default, short_since, failed, expected = CASES[case]
    observed = Observed(
        {"demo": ModelState(ready, dict.fromkeys(ready, 0), default)},
        {("demo", version): since for version, since in short_since.items()},
        {("demo", version): Failure("no worker", RETRY_S[0], at) for version, at in failed.items()},
    )
    assert [f"{action.name} {action.entry.version}" for action in plan(desired, observed, NOW)] == expected


def test_names_are_independent() -> None:
    observed = Observed({"demo": ModelState({"2.0": 1}, {"2.0": 0}, "2.0")})
    assert [(action.name, action.entry) for action in plan([TWO, OTHER], observed, NOW)] == [("restore", OTHER)]


def test_the_pause_doubles_up_to_a_limit() -> None:
    pauses, failure = [], None
    for _ in range(8):
        failure = Failure.after(failure, "no worker", NOW)
        assert failure.retry_at == NOW + failure.pause
        pauses.append(failure.pause)
    assert pauses == [10, 20, 40, 80, 160, 320, 600, 600]
