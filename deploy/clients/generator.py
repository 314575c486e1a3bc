"""The process that sends a load (deploy/clients/load.py) and records each request.

    python -m deploy.clients.generator

Reads a plan from one line of stdin, prints the time at which it begins, and prints the samples when stdin ends.
"""

import asyncio
import contextlib
import itertools
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from common.errors import UserError
from deploy.torchserve.keys import read_key
from deploy.torchserve.management import PROBE
from handler.requestlog import HEADER

LIMIT_S = 10.0
NUMBER = "########"
UNANSWERED = "unanswered"  # nothing came within the time limit
LOST = "lost"  # the connection was refused, or closed before the answer was complete


class Sample(NamedTuple):
    """One request.

    `due` and `sent` are seconds since the load began; `ms` is the latency since `due`; `outcome` is the HTTP status,
    UNANSWERED or LOST; `label`, `version` and `code` (of an error) are those of the answer, or None.
    """

    due: float
    sent: float
    ms: float
    outcome: int | str
    label: str | None
    version: str | None
    code: str | None = None

    @property
    def answered(self) -> float:
        """When the answer was complete, in seconds since the load began."""
        return self.due + self.ms / 1000


@dataclass(frozen=True)
class Plan:
    """The load to send: the URL, the bodies in turn, and a rate (requests per second) or a number of clients.

    Each client waits `pause_s` after each answer.

    `var` holds TorchServe's key file, which is read for each new connection, because a restart changes the keys.
    Without it, `key` is sent, if there is one. Every request has another number in place of NUMBER in the body.
    """

    url: str
    var: str | None
    bodies: Sequence[dict[str, Any]] = field(repr=False)
    rate: float | None = None
    clients: int | None = None
    limit_s: float = LIMIT_S
    key: str | None = None
    pause_s: float = 0.0

    def __post_init__(self) -> None:
        if (self.rate is None) == (self.clients is None):
            raise ValueError("give either a rate or a number of clients")
        if not all(value is None or value > 0 for value in (self.rate, self.clients, self.limit_s)):
            raise ValueError("rate, clients and limit_s must be above 0")


def main() -> None:
    """Read a plan from stdin; write the results to stdout when stdin ends."""
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C reaches the whole process group; the parent handles it
        asyncio.run(_run(Plan(**json.loads(sys.stdin.buffer.readline()))))


async def _run(plan: Plan) -> None:
    generator, loop, ended = _Generator(plan), asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    cpu, begun = time.process_time(), generator.begin()
    print(begun, flush=True)
    sending = asyncio.create_task(generator.send())
    await ended.wait()
    loop.remove_reader(sys.stdin.fileno())
    seconds = loop.time() - begun
    sending.cancel()
    await generator.finish()
    spent = time.process_time() - cpu
    print(json.dumps({"seconds": seconds, "cpu_s": spent, "samples": generator.samples}))


class _Generator:
    """Sends requests and records them, in one thread."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.samples: list[Sample] = []
        self._begun = 0.0
        self._stopping = False
        self._open: set[asyncio.Task[None]] = set()
        self._idle: list[_Connection] = []
        self._bodies = itertools.cycle([json.dumps(body).encode() for body in plan.bodies])
        self._numbers = itertools.count(1)

    def begin(self) -> float:
        self._begun = asyncio.get_running_loop().time()
        return self._begun

    async def send(self) -> None:
        if self.plan.clients:
            self._open = {asyncio.create_task(self._client()) for _ in range(self.plan.clients)}
        for number in itertools.count() if self.plan.rate else ():
            due = number / float(self.plan.rate or 1)
            await asyncio.sleep(due - self._now())
            task = asyncio.create_task(self._request(due))
            self._open.add(task)
            task.add_done_callback(self._open.discard)

    async def finish(self) -> None:
        self._stopping = True
        await asyncio.gather(*self._open)
        for connection in self._idle:
            connection.writer.close()

    def _now(self) -> float:
        return asyncio.get_running_loop().time() - self._begun

    async def _client(self) -> None:
        while not self._stopping:
            await self._request(self._now())
            await asyncio.sleep(self.plan.pause_s)

    async def _request(self, due: float) -> None:
        sent, label, version, code = self._now(), None, None, None
        outcome: int | str
        try:
            async with asyncio.timeout_at(self._begun + due + self.plan.limit_s):
                outcome, content = await self._exchange()
            label, version, code = _read(content)
        except TimeoutError:
            outcome = UNANSWERED
        except (OSError, EOFError, ValueError, LookupError, asyncio.LimitOverrunError, UserError):
            outcome = LOST
        taken = self.plan.limit_s if outcome == UNANSWERED else self._now() - due
        self.samples.append(Sample(round(due, 4), round(sent, 4), ms(taken), outcome, label, version, code))

    async def _exchange(self) -> tuple[int, bytes]:
        connection = await self._connection()
        reader, writer, head = connection
        try:
            body = self._next_body()
            writer.write(b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body))
            status, headers, content = await _answer(reader)
        except BaseException:
            writer.transport.abort()
            raise
        if status >= 400 or headers.get("connection", "").lower() == "close":
            writer.close()  # TorchServe closes the connection after an error, without a header that says so
        else:
            self._idle.append(connection)
        return status, content

    def _next_body(self) -> bytes:
        body = next(self._bodies)
        return body.replace(NUMBER.encode(), b"%08d" % next(self._numbers), 1) if NUMBER.encode() in body else body

    async def _connection(self) -> "_Connection":
        while self._idle:
            connection = self._idle.pop()
            reader, writer, _ = connection
            if not (reader.at_eof() or reader.exception() or writer.is_closing()):
                return connection
            writer.close()
        address = urlsplit(self.plan.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        try:
            return _Connection(reader, writer, _head(self.plan))
        except UserError:
            writer.close()
            raise


class _Connection(NamedTuple):
    """A connection, and the head of its requests with the key that was valid when it was opened."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    head: bytes


def _head(plan: Plan) -> bytes:
    """Request line and headers of each request, without its length.

    Raises:
        UserError: there is no key file.
    """
    address, key = urlsplit(plan.url), read_key(Path(plan.var), "inference") if plan.var else plan.key
    allowed = f"Authorization: Bearer {key}\r\n" if key else ""
    return (
        f"POST {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\n{allowed}Content-Type: application/json\r\n"
        f"{HEADER}: {PROBE}\r\n"
    ).encode()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Read one HTTP answer, which must have a Content-Length, as TorchServe's have.

    Raises:
        EOFError: the connection closed before the answer was complete.
        ValueError: it is not such an answer.
        LookupError: it has no status.
    """
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if "content-length" not in headers:
        raise ValueError("an answer without Content-Length")
    return int(first.split()[1]), headers, await reader.readexactly(int(headers["content-length"]))


def _read(content: bytes) -> tuple[str | None, str | None, str | None]:
    """(label, version, error code) of an answer; None for what it does not have."""
    try:
        answer = json.loads(content)
    except ValueError:
        return None, None, None
    if not isinstance(answer, dict):
        return None, None, None
    outputs = answer.get("outputs")  # of the V2 protocol, which two peers use (benchmarks/peers)
    label = outputs[0]["data"][0] if outputs else answer.get("result")
    error = answer.get("error")
    return label, answer.get("model_version"), error.get("code") if isinstance(error, dict) else None


def ms(seconds: float) -> float:
    """Seconds as milliseconds, rounded to hundredths."""
    return round(seconds * 1000, 2)


if __name__ == "__main__":
    main()
