"""How long a call takes here and now: to be read beside another figure of the same minute."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch


def milliseconds(call: Callable[[], Any], rounds: int = 10) -> float:
    """Median of so many calls after two that are not counted."""
    return alternating([call], rounds)[0]


@torch.no_grad()
def alternating(calls: Sequence[Callable[[], Any]], rounds: int = 10) -> list[float]:
    """Medians of calls that take turns, so that what else the machine does strikes all alike."""
    taken: list[list[float]] = [[] for _ in calls]
    for turn in range(rounds + 2):
        for call, times in zip(calls, taken, strict=True):
            started = time.perf_counter()
            call()
            if turn >= 2:
                times.append(time.perf_counter() - started)
    return [round(statistics.median(times) * 1000, 2) for times in taken]
