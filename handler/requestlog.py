"""One JSON line for each HTTP request that was answered: what was asked, what came of it, how long it took.

Nothing of the photo is in it, neither its name nor its result. TorchServe hands what a worker prints to its
log4j logger MODEL_LOG, and config/log4j2.xml sends the lines that begin as these do to var/logs/requests.log.
"""

import datetime
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

log = logging.getLogger(__name__)

HEADER = "X-Request-Id"
ECHO = "X-Client-Request-Id"
"""The header that tells a client its own id again: X-Request-Id of every answer is set by TorchServe, after us."""

LONGEST = 128


@dataclass(frozen=True)
class Line:
    """One request. `config/log4j2.xml` knows its lines by their beginning: "time" comes first.

    Args:
        request_id: TorchServe's, as in the answer's header X-Request-Id.
        client_request_id: the client's own, if it sent one that we take.
        model: the name under which the version was registered.
        status: the HTTP status of the answer.
        code: "ok", or one of `handler.errors.CODES`; of a list its first error's.
        photos: how many were asked about.
        batch: how many requests were in its batch.
        seconds: handler time of that batch.
        bytes: what was sent: the body, or the fields of a form without their framing.
    """

    request_id: str | None
    client_request_id: str | None
    model: str
    version: str
    status: int
    code: str
    photos: int
    batch: int
    seconds: float
    bytes: int

    def as_json(self) -> str:
        """The line, in ASCII: whatever a client sends, it stays one line."""
        now = datetime.datetime.now().astimezone().isoformat(timespec="milliseconds")
        return json.dumps({"time": now, **asdict(self)})


def write(line: Line) -> None:
    """Log a request."""
    log.info(line.as_json())


def client_request_id(headers: Mapping[str, Any]) -> str | None:
    """The id that a client gave its request: 1 to 128 printable ASCII characters; any other is passed over."""
    for name, value in headers.items():
        if name.lower() == HEADER.lower() and isinstance(value, str):
            return value if 0 < len(value) <= LONGEST and value.isascii() and value.isprintable() else None
    return None


def size(parameters: Mapping[str, Any]) -> int:
    """Bytes of what TorchServe hands over for one request."""
    return sum(len(value) for value in parameters.values() if isinstance(value, bytes | bytearray | str))
