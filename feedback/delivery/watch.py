"""Deliver from inside the web application: look for announcements, and run `python -m feedback deliver` for them."""

import logging
import subprocess
import sys
import threading

from sqlalchemy.exc import SQLAlchemyError

from feedback.delivery.courier import Courier
from feedback.delivery.keys import trusted
from feedback.settings import ROOT

POLL_S, RETRY_S = 5.0, 60.0
_log = logging.getLogger(__name__)


def watch(courier: Courier, stop: threading.Event) -> None:
    """Until `stop` is set. A delivery is a process of its own, so that a rollout outlives this application."""
    pause = POLL_S
    while not stop.wait(pause):
        try:
            waits = bool(trusted(courier.settings.folder) and courier.waiting())
        except (SQLAlchemyError, OSError) as error:
            _log.warning("announcements cannot be read: %s", error)
            waits = False
        pause = RETRY_S if waits and not _deliver() else POLL_S


def _deliver() -> bool:
    words = [sys.executable, "-m", "feedback", "deliver"]
    done = subprocess.run(words, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        _log.warning("delivery: %s", (done.stderr.strip().splitlines() or ["it printed nothing"])[-1])
    return not done.returncode
