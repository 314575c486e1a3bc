"""What the service calls: decide about each answered photo, and hand copies to the spool."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from handler.capture.sampling import Sampler
from handler.capture.spool import Spool
from handler.spec import Capture

SPOOL = "CLASSIFIER_SPOOL"
"""Environment variable of a worker: the spool's folder, from deploy/torchserve/process.py."""


class Capturing:
    """Captures photos of one worker.

    Args:
        capture: of the recipe.
        folder: of the spool.
    """

    def __init__(self, capture: Capture, folder: Path) -> None:
        self.sampler = Sampler(capture)
        self.spool = Spool(folder, capture.megabytes * 10**6)
        self._told = 0

    def offer(self, data: bytes, unsure: bool, outside: bool, facts: Callable[[], dict[str, Any]]) -> None:
        """Capture a photo if it is chosen.

        Args:
            facts: about the answer; called only if the photo is captured.
        """
        chosen = self.sampler.choose(unsure, outside)
        if chosen:
            row = {"reason": chosen.reason, "probability": chosen.probability}
            self.spool.offer(data, row | facts())

    def newly_lost(self) -> int:
        """Photos that were lost since the last call."""
        lost = self.sampler.lost + self.spool.lost
        told, self._told = self._told, lost
        return lost - told


def capturing(capture: Capture) -> Capturing | None:
    """None if the recipe does not capture, or if this machine has no spool."""
    folder = os.environ.get(SPOOL)
    return Capturing(capture, Path(folder)) if capture.on and folder else None
