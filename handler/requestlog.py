"""The request log: one JSON line for each answered HTTP request, with its size, status and duration.

It holds the results, so that two versions can be compared (`traffic`), and three numbers of each photo, so that other
photos than usual are noticed (`reports drift-served`). It holds neither the photo nor its image_id.

TorchServe passes what a worker prints to its log4j logger MODEL_LOG, and config/log4j2.xml writes the lines that begin
like these to var/logs/requests.log.
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
"""The answer's header with the client's own id: TorchServe later sets X-Request-Id to its own."""
TIMING = "Server-Timing"
"""The answer's header with the CPU time of its batch, if the request asks for `detail`: two versions can be compared by
it while both share their cores with other requests (deploy/torchserve/probes.py)."""

MAX_LENGTH = 128


@dataclass(frozen=True)
class Line:
    """One request. config/log4j2.xml recognises the lines by their beginning, so "time" must come first.

    Args:
        request_id: TorchServe's, as in the answer's header X-Request-Id.
        client_request_id: the client's, if it sent a valid one.
        model: the name under which the version was registered.
        status: the HTTP status of the answer.
        code: "ok", or one of `handler.errors.CODES`; for a list the code of its first error.
        photos: number of photos in the request.
        batch: number of requests in its batch.
        seconds: handler time of that batch.
        bytes: size of the request's body as it arrived; for gRPC of its fields.
        results: label and confidence of each photo that was classified.
        unsure: how many of them were below the recipe's `answer.unsure_below`.
        out_of_scope: number of its photos that are out of scope; None: the model does not know.
        in_scope: for each of the results the probability that the photo shows a class, computed from the photo's
            features; empty if the model does not know.
        light: for each of the results mean and standard deviation of the network's input, of 0 to 255.
        capture_lost: photos of this worker that could not be captured since the line before (handler/capture).
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
    results: tuple[tuple[str, float], ...] = ()
    unsure: int = 0
    out_of_scope: int | None = None
    in_scope: tuple[float, ...] = ()
    light: tuple[tuple[float, float], ...] = ()
    capture_lost: int = 0

    def as_json(self) -> str:
        """The line, in ASCII, so that no value from a client can break it into two."""
        now = datetime.datetime.now().astimezone().isoformat(timespec="milliseconds")
        return json.dumps({"time": now, **asdict(self)})


def write(line: Line) -> None:
    """Log a request."""
    log.info(line.as_json())


def timing(cpu_ms: float) -> str:
    """The value of the header TIMING (W3C Server Timing)."""
    return f"cpu;dur={cpu_ms:.2f}"


def cpu_ms(value: str | None) -> float | None:
    """The milliseconds in the header TIMING; None if there is none, as from an older archive."""
    name, _, duration = (value or "").partition(";dur=")
    return float(duration) if name == "cpu" else None


def client_request_id(headers: Mapping[str, Any]) -> str | None:
    """The id that a client gave its request: 1 to 128 printable ASCII characters; any other is ignored."""
    for name, value in headers.items():
        if name.lower() == HEADER.lower() and isinstance(value, str):
            return value if 0 < len(value) <= MAX_LENGTH and value.isascii() and value.isprintable() else None
    return None


def size(parameters: Mapping[str, Any]) -> int:
    """Size in bytes of one request as TorchServe passes it."""
    return sum(len(value) for value in parameters.values() if isinstance(value, bytes | bytearray | str))
