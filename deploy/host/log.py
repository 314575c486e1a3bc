"""What our background programs say: one JSON line each on stdout, which supervisord writes down and rotates."""

import contextlib
import datetime
import json
from typing import Any


def log(event: str, **facts: Any) -> None:
    """Write a line. Nobody may be there to read it, or the disk may be full: then it is lost, and nothing else."""
    now = datetime.datetime.now().astimezone().isoformat(timespec="milliseconds")
    with contextlib.suppress(OSError):
        print(json.dumps({"time": now, "event": event, **facts}, ensure_ascii=False), flush=True)


def one_line(text: str) -> str:
    """Several lines as one."""
    return " | ".join(line.strip() for line in text.splitlines() if line.strip())
