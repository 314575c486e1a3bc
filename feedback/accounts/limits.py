"""Limits on how often somebody may do something, in memory: a restart forgets them."""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

MOST_KEYS = 10_000


class RateLimit:
    """At most `count` events in `seconds` for each key. Thread-safe.

    Args:
        clock: seconds.
    """

    def __init__(self, count: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.count, self.seconds, self.clock = count, seconds, clock
        self._events: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def allow(self, key: str) -> bool:
        """Record an event, unless that would be too many; whether it was recorded."""
        with self._lock:
            events, now = self._recent(key), self.clock()
            if len(events) >= self.count:
                return False
            events.append(now)
            return True

    def forget(self, key: str) -> None:
        """Start again with a key."""
        with self._lock:
            self._events.pop(key, None)

    def _recent(self, key: str) -> deque[float]:
        events = self._events.setdefault(key, deque())
        self._events.move_to_end(key)
        while events and events[0] <= self.clock() - self.seconds:
            events.popleft()
        while len(self._events) > MOST_KEYS:
            self._events.popitem(last=False)
        return events
