"""A closed-loop load: each client sends its next request as soon as the last one is answered.

That is enough to compare options of one server. The benchmarks use a generator in a separate process
(deploy/clients/load.py).
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from common.errors import UserError
from deploy.settings import Settings
from deploy.torchserve.management import PROBE, Client
from handler.requestlog import HEADER


@dataclass(frozen=True)
class Load:
    """The result of one load.

    Attributes:
        ms: duration of each correct answer, in milliseconds.
        errors: wrong and missing answers.
        seconds: duration of the load.
    """

    ms: Sequence[float]
    errors: int
    seconds: float

    @property
    def rate(self) -> float:
        """Correct answers per second."""
        return len(self.ms) / self.seconds

    def percentile(self, share: float) -> float:
        """The duration that a share (0 to 1) of the answers did not exceed (nearest rank); infinite without answers."""
        ordered = sorted(self.ms)
        return ordered[max(math.ceil(share * len(ordered)), 1) - 1] if ordered else math.inf


def load_of(model: str, body: dict[str, Any], label: str) -> Callable[[Settings, int, float], Load]:
    """A function (settings, clients, seconds) that sends one request again and again.

    Args:
        label: the correct answer; any other is an error.
    """
    encoded = json.dumps(body).encode()

    def durations(settings: Settings, until: float) -> list[float | None]:
        client = Client(settings)
        results: list[float | None] = []
        while not results or time.monotonic() < until:
            results.append(_milliseconds(client, model, encoded, label))
        return results

    def load(settings: Settings, clients: int, seconds: float) -> Load:
        started = time.monotonic()
        with ThreadPoolExecutor(clients) as pool:
            per_client = list(pool.map(lambda _: durations(settings, started + seconds), range(clients)))
        results = [ms for results in per_client for ms in results]
        correct = [ms for ms in results if ms is not None]
        return Load(correct, len(results) - len(correct), time.monotonic() - started)

    return load


def _milliseconds(client: Client, model: str, body: bytes, label: str) -> float | None:
    started = time.perf_counter()
    headers = {"Content-Type": "application/json", HEADER: PROBE}
    try:
        answer = client.ask("inference", "POST", f"/predictions/{model}", data=body, headers=headers)
        correct = answer.ok and answer.json().get("result") == label
    except (UserError, ValueError):
        correct = False
    return (time.perf_counter() - started) * 1000 if correct else None
