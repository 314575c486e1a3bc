"""How much CPU time photos may take to decode: those of one request together, and refused ones over time."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from handler.errors import TooLarge


class Budget:
    """What is left of a request's CPU seconds. Thread-safe.

    Args:
        seconds: `limits.request_seconds` of the recipe.
    """

    def __init__(self, seconds: float) -> None:
        self._limit = self._left = seconds
        self._lock = threading.Lock()

    def left(self) -> float:
        """CPU seconds, above 0.

        Raises:
            RequestError: `too_costly`; nothing is left.
        """
        if self._left <= 0:
            raise TooLarge(
                "too_costly",
                f"the photos before this one took {self._limit:g} s to decode, the limit for one request: "
                "send fewer photos in one request, or smaller ones",
            )
        return self._left

    def spend(self, seconds: float) -> None:
        """Note the CPU seconds of a photo."""
        with self._lock:
            self._left -= seconds

    @contextmanager
    def in_this_thread(self) -> Iterator[None]:
        """Note the CPU time that this thread uses in the block.

        Raises:
            RequestError: as `left`.
        """
        self.left()
        begun = time.thread_time()
        try:
            yield
        finally:
            self.spend(time.thread_time() - begun)


class Patience:
    """CPU seconds that uncommon photos may still waste. Not thread-safe.

    A photo that is refused after it was decoded for long has wasted what it used, and other clients waited. When
    nothing is left, every uncommon photo gets only `LEAST` seconds, until time has refilled it. So a client that keeps
    sending costly files delays others by little, and a common photo is answered as ever.

    Args:
        seconds: when it is full.
        clock: seconds of a clock that never goes back.
    """

    LEAST = 0.1
    REFILL = 0.01
    """CPU seconds that come back in a second."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._full = self._left = seconds
        self._clock, self._seen = clock, clock()

    def left(self) -> float:
        """CPU seconds that the next uncommon photo may use."""
        now = self._clock()
        self._left = min(self._full, self._left + (now - self._seen) * self.REFILL)
        self._seen = now
        return max(self.LEAST, self._left)

    def waste(self, seconds: float) -> None:
        """Note what a refused photo has used."""
        if seconds >= self.LEAST / 2:
            self._left = max(0.0, self.left() - seconds)
