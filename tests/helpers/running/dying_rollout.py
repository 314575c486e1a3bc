"""`python -m tests.helpers.running.dying_rollout WHERE WHEN WHAT ARCHIVE`: `deploy rollout`, which kills itself.

WHERE is a function, WHEN is before, during or after its call, WHAT is an argument of the call, or empty for any call.
"""

import functools
import os
import signal
import sys
import threading
from typing import Any

from deploy.__main__ import main
from deploy.store import desired
from deploy.store.journal import Journal
from deploy.torchserve.management import Client

OWNERS = {"Client": Client, "Journal": Journal, "desired": desired}
DURING_S = 0.5


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(where: str, when: str, what: str) -> None:
    """Replace the function."""
    owner, name = OWNERS[where.partition(".")[0]], where.partition(".")[2]
    original = getattr(owner, name)

    @functools.wraps(original)
    def patched(*arguments: Any, **options: Any) -> Any:
        if what and what not in arguments:
            return original(*arguments, **options)
        if when == "before":
            die()
        if when == "during":
            threading.Timer(DURING_S, die).start()
        result = original(*arguments, **options)
        die()
        return result

    setattr(owner, name, patched)


if __name__ == "__main__":
    kill_at(*sys.argv[1:4])
    main(["rollout", sys.argv[4]], prog_name="python -m deploy")
