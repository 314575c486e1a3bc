"""How long the remaining photos will take, from the time between decisions."""

import statistics
from collections import defaultdict, deque
from collections.abc import Callable

PAUSE = 120.0
"""Seconds without a decision that are a pause, not work on one photo."""
FEWEST = 5
"""Decisions before there is an estimate."""
_REMEMBERED = 50


class Pace:
    """The pace of all clients together; not kept over a restart.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._last: dict[str, float] = {}
        self._gaps: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_REMEMBERED))

    def decided(self, client: str) -> None:
        """Count a decision."""
        now = self.clock()
        if now - self._last.get(client, now - PAUSE) < PAUSE:
            self._gaps[client].append(now - self._last[client])
        self._last[client] = now

    def seconds(self, photos: int) -> float | None:
        """For so many photos, at the median pace of the clients at work; None if that is not known yet."""
        now = self.clock()
        working = [gaps for client, gaps in self._gaps.items() if now - self._last[client] < PAUSE]
        if sum(len(gaps) for gaps in working) < FEWEST:
            return None
        rate = sum(1 / max(statistics.median(gaps), 0.1) for gaps in working if gaps)  # photos per second
        return photos / rate
