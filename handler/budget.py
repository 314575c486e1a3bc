"""The CPU time that the photos of one request may take to decode together."""

import threading
import time
from collections.abc import Iterator
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
