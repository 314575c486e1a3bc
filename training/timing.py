"""How long a call takes here and now: to be read beside another figure of the same minute."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch


@torch.no_grad()
def milliseconds(call: Callable[[], Any], rounds: int = 10) -> float:
    """Median of so many calls after two that are not counted."""
    call(), call()
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return round(statistics.median(taken) * 1000, 2)
