"""Download what was announced with POST /model, check it and roll it out.

    python -m feedback deliver

The web application does the same some seconds after each announcement. A version is downloaded only from below
FEEDBACK_LINKS, and rolled out with `python -m deploy rollout` only if a trusted key (`python -m feedback keys`) has
signed its size and digest, and no path in it leads out of its folder. A version that is refused stays refused: the
reason is on the page Versions. If a server does not answer, or another rollout runs, the version waits. Killed at any
step, the same command goes on.
"""

from filelock import FileLock, Timeout

from common.cli import command
from common.console import say
from common.errors import Busy, CheckFailed, Unreachable, UserError
from feedback.delivery.courier import Courier
from feedback.delivery.release import Rejected
from feedback.settings import read_settings
from feedback.storage.database import Database

LOCK = "delivering.lock"


@command(epilog="Example: python -m feedback deliver")
def deliver() -> None:
    """Download, check and roll out the versions that were announced."""
    settings = read_settings()
    courier = Courier(settings, Database(settings.database))
    lock, refused, later = FileLock(settings.folder / LOCK, fallback_to_soft=False), list[str](), list[str]()
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise Busy("another delivery runs", "wait for it") from error
    with lock:
        waiting = courier.waiting()
        for model in waiting:
            try:
                say(f"{courier.deliver(model)} serves")
            except Rejected as error:
                refused.append(f"{model.name} {model.version}: {error.message}")
            except UserError as error:
                later.append(f"{model.name} {model.version}: {error.message}")
    if refused:
        raise CheckFailed("; ".join([*refused, *later]), "announce a new version, once the cause is removed")
    if later:
        raise Unreachable("; ".join(later), "deliver again later; the pages do it by themselves")
    if not waiting:
        say("no version waits to be delivered")
