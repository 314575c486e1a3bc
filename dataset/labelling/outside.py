"""Notice that another program has changed the table of labels."""

import time
from datetime import datetime
from pathlib import Path

from common.errors import UserError
from common.words import number_of

_QUIET = 0.2  # seconds without a change, after which another program has written the table completely
_MOST_WAIT = 3.0

Stamp = tuple[int, int, int]


class TableInvalid(UserError):
    """Another program has changed the table so that it cannot be used. Nothing is lost: decisions wait."""

    def __init__(self, error: UserError) -> None:
        super().__init__(f"another program has changed the table; {error.problem}", error.fix)


def stamp_of(path: Path) -> Stamp | None:
    """Identifies one version of a file; None if there is no file."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def wait_until_written(path: Path) -> None:
    """Wait until a file has not changed for a moment: not every program writes it at once."""
    end, before = time.monotonic() + _MOST_WAIT, None
    while (stamp := stamp_of(path)) != before and time.monotonic() < end:
        before = stamp
        time.sleep(_QUIET)


def notice_of(table: Path, changed: int, kept: int) -> str:
    """What a person is told after the table was read again.

    Args:
        changed: photos with another decision, and new photos.
        kept: photos whose decision here is later than the other program's version of the table.
    """
    at = datetime.now().strftime("%H:%M:%S")
    text = f"{table.name} was changed by another program and read again at {at}: {number_of(changed, 'photo')} changed"
    return (
        f"{text}, {number_of(kept, 'later decision')} of this page {'was' if kept == 1 else 'were'} kept"
        if kept
        else text
    )
