"""So many clients, each of which asks again as soon as it is answered: enough to compare settings of one server.

The benchmarks measure with a generator in a process of its own (benchmarks/harness/load.py).
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
from deploy.torchserve.management import Client


@dataclass(frozen=True)
class Load:
    """Milliseconds of the right answers, how many others there were, and how long it took (s)."""

    ms: Sequence[float]
    errors: int
    seconds: float

    @property
    def rate(self) -> float:
        """Right answers a second."""
        return len(self.ms) / self.seconds

    def percentile(self, share: float) -> float:
        """Milliseconds that a share (0 to 1) of the answers did not exceed (nearest rank); infinite without any."""
        ordered = sorted(self.ms)
        return ordered[max(math.ceil(share * len(ordered)), 1) - 1] if ordered else math.inf


Ask = Callable[[Settings, int, float], Load]


def ask_for(model: str, body: dict[str, Any], label: str) -> Ask:
    """A load of one question: (server, clients, seconds) -> what came of it. Another label is an error."""
    encoded = json.dumps(body).encode()

    def client_of(settings: Settings, until: float) -> list[float | None]:
        client = Client(settings)
        spent: list[float | None] = []
        while not spent or time.monotonic() < until:
            spent.append(_milliseconds(client, model, encoded, label))
        return spent

    def load(settings: Settings, clients: int, seconds: float) -> Load:
        begun = time.monotonic()
        with ThreadPoolExecutor(clients) as pool:
            found = list(pool.map(lambda _: client_of(settings, begun + seconds), range(clients)))
        spent = [ms for each in found for ms in each]
        right = [ms for ms in spent if ms is not None]
        return Load(right, len(spent) - len(right), time.monotonic() - begun)

    return load


def _milliseconds(client: Client, model: str, body: bytes, label: str) -> float | None:
    begun = time.perf_counter()
    headers = {"Content-Type": "application/json"}
    try:
        answer = client.ask("inference", "POST", f"/predictions/{model}", data=body, headers=headers)
        right = answer.ok and answer.json().get("result") == label
    except (UserError, ValueError):
        right = False
    return (time.perf_counter() - begun) * 1000 if right else None
