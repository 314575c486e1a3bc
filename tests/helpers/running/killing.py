"""Kill a process at every step of its work: before each change of a file, and before and after each transaction.

The process is a fork of this one, and the signal is a real SIGKILL. Steps are counted by an audit hook of Python and,
for transactions, by SQLAlchemy's events.
"""

import itertools
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

CHANGES = frozenset({"os.rename", "os.remove", "os.truncate", "subprocess.Popen"})
LIMIT_S = 120
MOST_STEPS = 400


def killed_at_each_step(work: Callable[[int], object]) -> Iterator[int]:
    """Yields after each kill the number of the step; ends when the work was done before the next step.

    Args:
        work: gets the number of the step before which it will be killed, from 1 on.
    """
    for step in range(1, MOST_STEPS):
        child = os.fork()
        if not child:
            _die_at(step, work)
        status = os.waitpid(child, 0)[1]
        assert status in (0, signal.SIGKILL), f"step {step}: {os.waitstatus_to_exitcode(status)}"
        if status == 0:
            assert step > 2, "there was nothing to kill"
            return
        yield step
    raise AssertionError(f"not done after {MOST_STEPS} steps")


def _die_at(step: int, work: Callable[[int], object]) -> None:
    signal.alarm(LIMIT_S)
    try:
        count = itertools.count(1)

        def die(*_: object) -> None:
            if next(count) == step:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(lambda name, arguments: die() if _changes(name, arguments) else None)
        event.listen(Engine, "commit", die)
        event.listen(Session, "after_commit", die)
        work(step)
        die()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _changes(name: str, arguments: tuple[Any, ...]) -> bool:
    """Whether an audit event is a change on disk, or the start of another process."""
    if name == "open":
        path, _, flags = arguments
        return isinstance(path, str | bytes) and bool(flags & (os.O_WRONLY | os.O_RDWR))
    return name in CHANGES
