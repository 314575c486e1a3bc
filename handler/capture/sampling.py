"""Which photos are captured, and with which probability."""

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from handler.spec import Capture

RANDOM, UNSURE, OUTSIDE = "random", "unsure", "outside"
_HOUR_S = 3600


@dataclass(frozen=True)
class Chosen:
    """Why a photo is captured, and with which probability, above 0 to 1."""

    reason: str
    probability: float


class Sampler:
    """Chooses photos of one worker. Not thread-safe.

    The random sample is drawn first and from all photos, so that it stays one, whatever the other reasons take. If the
    hour before had so many photos that the share would exceed the cap, the share is lowered; each photo says which
    share it was drawn with.

    Args:
        clock: seconds.
        draw: a uniform number, 0 to 1.
    """

    def __init__(
        self, capture: Capture, clock: Callable[[], float] = time.time, draw: Callable[[], float] = random.random
    ) -> None:
        self._capture, self._clock, self._draw = capture, clock, draw
        self._hour, self._seen, self._taken = 0, 0, Counter[str]()
        self.share = capture.random
        self.lost = 0
        """Photos that a cap has left out, in all."""

    def choose(self, unsure: bool, outside: bool) -> Chosen | None:
        """Whether to capture a photo that was answered."""
        self._turn()
        self._seen += 1
        if self._draw() < self.share:
            return self._under_cap(Chosen(RANDOM, self.share))
        if unsure or outside:
            return self._under_cap(Chosen(UNSURE if unsure else OUTSIDE, 1.0))
        return None

    def _under_cap(self, chosen: Chosen) -> Chosen | None:
        if self._taken[chosen.reason] >= self._capture.photos_per_hour:
            self.lost += 1
            return None
        self._taken[chosen.reason] += 1
        return chosen

    def _turn(self) -> None:
        """Begin a new hour: what the hour before has seen gives the share."""
        hour = int(self._clock() // _HOUR_S)
        if hour == self._hour:
            return
        if self._hour:
            self.share = min(self._capture.random, self._capture.photos_per_hour / max(self._seen, 1))
        self._hour, self._seen, self._taken = hour, 0, Counter()
