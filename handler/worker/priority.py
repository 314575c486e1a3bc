"""A worker starts in time that nobody else needs.

Its imports and the compiler take five seconds of computing, and beside a version that serves they would double the
median latency of two cores (docs/log.md). In the scheduler's idle class they get what the others leave. If that is too
little, the start goes on in the usual class: on a machine without idle time it would never end.

Only a process that may leave the idle class again enters it: root's, or one whose limit of nice is 20 (`ulimit -e 20`,
`LimitNICE=20` of systemd).
"""

import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

MOST_WAITING = 0.9
"""Share of PATIENCE_S: a start that waits longer for a core leaves the idle class."""
PATIENCE_S = 2.0
_WAITED = Path(f"/proc/self/task/{os.getpid()}/schedstat")  # https://docs.kernel.org/scheduler/sched-stats.html
_PASSES = 10  # a thread may start another one while they are listed
_lowered, _restored = threading.Event(), threading.Event()


def lower() -> None:
    """Enter the idle class, as long as it has time."""
    if _is_usual() and _may_return():
        _lowered.set()
        threading.Thread(target=_watch, daemon=True).start()  # has the usual class
        _enter(0, os.SCHED_IDLE)


def restore(children: Iterable[int] = ()) -> bool:
    """After `lower`: return to the usual class with all threads, and with processes that were started meanwhile.

    Returns:
        whether this process had entered the idle class.
    """
    if _lowered.is_set():
        for process in ("self", *children):
            for _ in range(_PASSES):
                if not _restore_threads(Path(f"/proc/{process}/task")):
                    break
    _restored.set()
    return _lowered.is_set()


def _watch() -> None:
    """Restore the usual class when the start waits too long for a core."""
    waited = _waited()
    while not _restored.wait(PATIENCE_S):
        if _waited() - waited > MOST_WAITING * PATIENCE_S:
            restore()
        waited = _waited()


def _waited() -> float:
    """Seconds for which the first thread could have run and got no core."""
    return int(_WAITED.read_text().split()[1]) / 1e9


def _is_usual() -> bool:
    """Whether this is a Linux that counts waiting, and nobody chose another class for this process."""
    return _WAITED.exists() and os.sched_getscheduler(0) == os.SCHED_OTHER


def _restore_threads(folder: Path) -> int:
    """How many threads left the idle class."""
    left = 0
    with suppress(OSError):  # the process has ended
        for thread in folder.iterdir():
            with suppress(OSError):  # the thread has ended
                if os.sched_getscheduler(int(thread.name)) == os.SCHED_IDLE:
                    _enter(int(thread.name), os.SCHED_OTHER)
                    left += 1
    return left


def _may_return() -> bool:
    """Whether a thread can leave the idle class: one tries it, and ends."""
    can: list[bool] = []

    def attempt() -> None:
        with suppress(OSError):  # not allowed
            _enter(0, os.SCHED_IDLE)
            _enter(0, os.SCHED_OTHER)
            can.append(True)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return bool(can)


def _enter(thread: int, policy: int) -> None:
    os.sched_setscheduler(thread, policy, os.sched_param(0))
