"""The latency check of a rollout, while clients keep the serving version busy."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from deploy.torchserve import probes
from deploy.torchserve.management import Client
from deploy.torchserve.probes import Question

LIMIT = 1.5
ALONE = {"new": 28.0, "old": 17.0}
"""Milliseconds: measured under load with two equal versions. Requests to `new` shared the cores with clients' ones."""


class Machine:
    """A client of two versions, and a clock that only their requests and pauses move."""

    def __init__(self, beside: dict[str, float]) -> None:
        self.ms, self.beside, self.now = ALONE, beside, 0.0
        self.settings = None

    def predict(self, model: str, _body: Any) -> SimpleNamespace:
        self.now += self.ms[model] / 1000
        return SimpleNamespace(ok=True)

    def kept_busy(self, _settings: Any) -> SimpleNamespace:
        """The client of the thread that asks the other version."""
        self.ms = self.beside
        return SimpleNamespace(predict=lambda _model, _body: None)


def ratio(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(probes, "Client", machine.kept_busy)
    monkeypatch.setattr(probes, "time", SimpleNamespace(perf_counter=lambda: machine.now, sleep=lambda _seconds: None))
    question = cast(Question, SimpleNamespace(body=None))
    new_ms, old_ms = probes.latencies(cast(Client, machine), question, ("new", "old"), LIMIT)
    return new_ms / old_ms


def test_an_equal_version_passes_although_it_shares_the_cores_with_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine({"new": 35.0, "old": 34.0})
    assert ratio(machine, monkeypatch) == pytest.approx(35 / 34)


def test_a_version_that_is_slower_under_the_same_conditions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine({"new": 60.0, "old": 35.0})
    assert ratio(machine, monkeypatch) > LIMIT
