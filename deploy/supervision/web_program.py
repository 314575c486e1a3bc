"""The program `web` of config/supervisord.conf: the upload and review pages (python -m feedback serve).

    python -m deploy.supervision.web_program

ends with its supervisord, gives way to TorchServe for the cores, and is the first that the kernel ends if the memory is
exhausted. `deploy` starts it without importing anything of it.
"""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import requests

from common.cli import command
from deploy.host.processes import follow_supervisor
from deploy.settings import HOST, Settings
from deploy.torchserve.management import local_session

LOG = "web.log"
LINK = Path("feedback", "first-link")
"""Below var: where the pages write the link that makes the first account, while there is none."""
WAIT_S = 5
_NICE = 5
_OOM = "/proc/self/oom_score_adj"


@command(epilog="Example: python -m deploy.supervision.web_program")
def main() -> None:
    """Become `python -m feedback serve`; run by supervisord."""
    follow_supervisor(signal.SIGTERM)
    os.nice(_NICE)
    with contextlib.suppress(OSError):
        Path(_OOM).write_text("500", encoding="ascii")
    os.execv(sys.executable, [sys.executable, "-m", "feedback", "serve"])


def describe(settings: Settings) -> str:
    """One line about the pages: where they are, or why they are not there; empty if they are turned off."""
    if not settings.web_port:
        return ""
    url = f"http://{HOST}:{settings.web_port}"
    deadline = time.monotonic() + WAIT_S
    while not _answers(url):
        if time.monotonic() > deadline:
            return f"The upload pages did not start: {_last_line(settings)} (SERVE_WEB_PORT=0 turns them off)"
        time.sleep(0.1)
    try:
        return f"Upload and review photos; make the first account: {(settings.var / LINK).read_text().strip()}"
    except OSError:
        return f"Upload and review photos: {url}"


def _answers(url: str) -> bool:
    with local_session() as session:
        try:
            return session.get(f"{url}/healthz", timeout=1).text == "ok"
        except requests.RequestException:
            return False


def _last_line(settings: Settings) -> str:
    """What the program printed last."""
    try:
        lines = (settings.var / "logs" / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1].removeprefix("Error: ")[:300] if lines else "it has printed nothing yet"


if __name__ == "__main__":
    main(prog_name="python -m deploy.supervision.web_program")
