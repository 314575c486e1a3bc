"""Wait for events with a deadline, and for other processes; start processes as a shell does by default."""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

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


Once = Callable[[str, Callable[[Path], object]], Path]


def once_in(base: Path) -> Once:
    """Return a function that makes a folder below `base` on its first call; other processes wait for it."""

    def make_once(name: str, make: Callable[[Path], object]) -> Path:
        folder, done = base / name, base / f"{name}.done"
        with FileLock(base / f"{name}.lock"):
            if not done.exists():
                make(folder)
                done.touch()
        return folder

    return make_once
