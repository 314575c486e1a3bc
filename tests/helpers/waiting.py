"""Wait for events with a deadline; start processes that do not depend on how the tests were started."""

import signal
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(condition: Callable[[], T], seconds: float = 60, context: Callable[[], str] = str) -> T:
    """Call `look` until its result is true, and return it.

    Args:
        context: what to show if it is not true in time.
    """
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, context()
        time.sleep(0.05)
    return result


def default_signals() -> None:
    """A `preexec_fn`: background jobs of a shell ignore SIGINT, those of nohup SIGHUP, and children inherit this."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
