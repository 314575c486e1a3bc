"""The log of our background programs: JSON lines on stdout, which supervisord writes to a file and rotates."""

import contextlib
import datetime
import json
from typing import Any


def log(event: str, **facts: Any) -> None:
    """Write a line. If that fails (closed pipe, full disk), the line is lost and the program goes on."""
    now = datetime.datetime.now().astimezone().isoformat(timespec="milliseconds")
    with contextlib.suppress(OSError):
        print(json.dumps({"time": now, "event": event, **facts}, ensure_ascii=False), flush=True)


def one_line(text: str) -> str:
    """Join several lines into one."""
    return " | ".join(line.strip() for line in text.splitlines() if line.strip())
