"""The latency check of a rollout, while clients keep the serving version busy."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from deploy.torchserve import probes
from deploy.torchserve.management import Client
from deploy.torchserve.probes import Latency, Question
from handler.requestlog import TIMING, timing

LIMIT = 1.5


class Machine:
    """A client of two versions, and a clock that only their requests move."""

    def __init__(self, latencies: dict[str, Latency]) -> None:
        self.latencies, self.now = latencies, 0.0

    def predict(self, model: str, _body: Any) -> SimpleNamespace:
        latency = self.latencies[model]
        self.now += latency.ms / 1000
        headers = {} if latency.cpu_ms is None else {TIMING: timing(latency.cpu_ms)}
        return SimpleNamespace(ok=True, headers=headers)


@pytest.mark.parametrize(
    ("new", "old", "refused"),
    [
        pytest.param(Latency(28.0, 15.0), Latency(17.0, 14.0), False, id="equal, but it shares the cores with clients"),
        pytest.param(Latency(28.0, 24.0), Latency(17.0, 14.0), True, id="more work"),
        pytest.param(Latency(19.0, 24.0), Latency(17.0, 14.0), False, id="more work on more cores, and not slower"),
        pytest.param(Latency(60.0, 14.0), Latency(17.0, 14.0), True, id="it waits, more than sharing cores explains"),
        pytest.param(Latency(28.0, 15.0), Latency(17.0, None), True, id="the serving one is an older archive"),
        pytest.param(Latency(18.0, None), Latency(17.0, None), False, id="two older archives"),
    ],
)
def test_a_version_is_refused_if_sharing_the_cores_does_not_explain_that_it_is_slower(
    new: Latency, old: Latency, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine({"new": new, "old": old})
    monkeypatch.setattr(probes, "time", SimpleNamespace(perf_counter=lambda: machine.now, sleep=lambda _seconds: None))
    question = cast(Question, SimpleNamespace(body=None))
    measured = probes.latencies(cast(Client, machine), question, ("new", "old"), LIMIT)
    assert [one.ms for one in measured] == pytest.approx([new.ms, old.ms])
    assert [one.cpu_ms for one in measured] == [new.cpu_ms, old.cpu_ms]
    assert measured[0].exceeds(measured[1], LIMIT) == refused


def test_a_refusal_says_both_ratios() -> None:
    new, old = Latency(28.0, 21.0), Latency(17.5, 14.0)
    assert f"{new}: {new.compared(old)}" == "28.0 ms (21.0 ms of CPU time): 1.60 x, CPU time 1.50 x"
    assert f"{Latency(28.0, None)}: {Latency(28.0, None).compared(old)}" == "28.0 ms: 1.60 x"
