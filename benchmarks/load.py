"""A load of predictions from a process of its own: at a constant rate (open loop), or by n clients (closed loop).

    python -m benchmarks.load models/classroom/goldens/1_0.jpg --rate 20 --seconds 30

In open loop a request is due at its moment whether or not the ones before are answered, and its latency counts from
that moment: a server that stalls cannot slow the clock that measures it. A request that was sent and gets no answer
is a loss and never sent again; only a keep-alive connection that the server closed *before* is opened anew. One
without an answer counts in the percentiles with the time limit. Prints Markdown, and one JSON line last.
"""

import asyncio
import base64
import contextlib
import itertools
import json
import math
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import click

from deploy.keys import read_key
from deploy.settings import ROOT, read_settings

LIMIT_S = 10.0
UNANSWERED = "unanswered"  # nothing came within the time limit
LOST = "lost"  # the connection was refused, or broke off before the answer was whole
_CHILD = "from benchmarks.load import child; child()"


class Sample(NamedTuple):
    """One request: when it was due and how late it was sent (s since the load began), its latency in ms from when it
    was due, its HTTP status or UNANSWERED or LOST, the answered label and version (None where it has none)."""

    due: float
    sent: float
    ms: float
    outcome: int | str
    label: str | None
    version: str | None

    @property
    def answered(self) -> float:
        """When the answer was there, in s since the load began."""
        return self.due + self.ms / 1000


@dataclass(frozen=True)
class Result:
    """What became of a load. `begun` is on the clock of time.monotonic(), the same for all processes of a machine."""

    begun: float
    seconds: float
    cpu_s: float
    samples: Sequence[Sample]
    expected: str | None = None

    @property
    def sent(self) -> int:
        return len(self.samples)

    @property
    def rate(self) -> float:
        """Requests sent a second."""
        return self.sent / self.seconds if self.seconds else 0.0

    @property
    def statuses(self) -> dict[int, int]:
        """How many answers of each HTTP status."""
        return dict(sorted(Counter(s.outcome for s in self.samples if isinstance(s.outcome, int)).items()))

    @property
    def failed(self) -> int:
        """Answers other than 200."""
        return sum(count for status, count in self.statuses.items() if status != 200)

    @property
    def unanswered(self) -> int:
        return sum(s.outcome == UNANSWERED for s in self.samples)

    @property
    def lost(self) -> int:
        return sum(s.outcome == LOST for s in self.samples)

    @property
    def wrong(self) -> int:
        """Answers of status 200 whose label is not the expected one; 0 where none is expected."""
        return sum(s.outcome == 200 and s.label != self.expected for s in self.samples) if self.expected else 0

    @property
    def versions(self) -> dict[str, int]:
        """Answers of each version, in the order of their first answer; empty unless the request asks for detail."""
        return dict(Counter(s.version for s in sorted(self.samples, key=lambda s: s.answered) if s.version))

    @property
    def stale(self) -> int:
        """Answers of a version to requests that were sent when a newer one had answered already."""
        arrivals = sorted((s for s in self.samples if s.version), key=lambda s: s.answered)
        stale, newest, coming = 0, numbers(None), iter(arrivals)
        following = next(coming, None)
        for sample in sorted(arrivals, key=lambda s: s.sent):
            while following and following.answered < sample.sent:
                newest, following = max(newest, numbers(following.version)), next(coming, None)
            stale += numbers(sample.version) < newest
        return stale

    def percentile(self, share: float) -> float:
        """The latency in ms that a share (0 to 1) of the requests did not exceed (nearest rank); 0 without any."""
        ordered = sorted(s.ms for s in self.samples)
        return ordered[max(math.ceil(share * len(ordered)), 1) - 1] if ordered else 0.0

    def joined(self, other: "Result") -> "Result":
        """Two loads as one, told from the beginning of this one."""
        later = other.begun - self.begun
        both = (*self.samples, *(s._replace(due=s.due + later, sent=s.sent + later) for s in other.samples))
        return Result(self.begun, self.seconds + other.seconds, self.cpu_s + other.cpu_s, both, self.expected)

    def as_json(self) -> dict[str, Any]:
        """The figures without the samples."""
        late = max((s.sent - s.due for s in self.samples), default=0.0)
        counts = ("sent", "statuses", "failed", "unanswered", "lost", "wrong", "stale", "versions")
        return {
            **{name: getattr(self, name) for name in counts},
            "seconds": round(self.seconds, 1),
            "rate": round(self.rate, 2),
            **{f"p{share}_ms": round(self.percentile(share / 100), 1) for share in (50, 95, 99)},
            "max_ms": round(self.percentile(1), 1),
            "generator": {"cpu_percent": round(100 * self.cpu_s / max(self.seconds, 1e-9), 1), "late_ms": ms(late)},
        }


@dataclass(frozen=True)
class Plan:
    """What to send where; a rate in requests a second, or a number of clients."""

    url: str
    token: str
    body: dict[str, Any] = field(repr=False)
    rate: float | None = None
    clients: int | None = None
    limit_s: float = LIMIT_S

    def __post_init__(self) -> None:
        if (self.rate is None) == (self.clients is None):
            raise ValueError("give a rate or a number of clients, and not both")
        if not all(value is None or value > 0 for value in (self.rate, self.clients, self.limit_s)):
            raise ValueError("rate, clients and limit_s must be above 0")


class Load:
    """A load that runs in a process of its own from `__enter__` to `stop`.

    Args:
        url: of the predictions, for example http://127.0.0.1:8080/predictions/classroom.
        body: JSON, posted as it is each time; with `detail` in it, answers are told by version.
        rate: requests a second; or `clients`: how many ask in turn, each as fast as it is answered.
        expected: the right label.
        limit_s: after how many seconds a request counts as unanswered.

    Raises:
        ValueError: neither or both of rate and clients, or one that is not above 0.
    """

    def __init__(self, url: str, token: str, body: dict[str, Any], rate: float | None = None, **more: Any) -> None:
        self.expected: str | None = more.pop("expected", None)
        self.plan = Plan(url, token, body, rate, **more)
        self.begun = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Load":
        words = [sys.executable, "-c", _CHILD]
        self._process = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(asdict(self.plan)).encode() + b"\n")
        self._process.stdin.flush()
        self.begun = float(self._process.stdout.readline() or "nan")
        return self

    def stop(self) -> Result:
        """Send no more, wait for what is out (at most the time limit), and tell.

        Raises:
            RuntimeError: the process died.
        """
        assert self._process
        said, _ = self._process.communicate()  # the end of its input is its sign to stop
        if self._process.returncode:
            raise RuntimeError("the load's process died: see its words above")
        told = json.loads(said)
        samples = [Sample(*row) for row in told["samples"]]
        return Result(self.begun, told["seconds"], told["cpu_s"], samples, self.expected)

    def __exit__(self, *_: object) -> None:
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


def child() -> None:
    """The process of its own: a plan on one line of stdin, results on stdout when stdin ends (or its parent)."""
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C reaches the whole group; the parent says what it means
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
    """Sends and takes notes, in one thread."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.samples: list[Sample] = []
        self._begun = 0.0
        self._stopping = False
        self._out: set[asyncio.Task[None]] = set()
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._message = _message(plan)

    def begin(self) -> float:
        self._begun = asyncio.get_running_loop().time()
        return self._begun

    async def send(self) -> None:
        if self.plan.clients:
            self._out = {asyncio.create_task(self._client()) for _ in range(self.plan.clients)}
        for number in itertools.count() if self.plan.rate else ():
            due = number / float(self.plan.rate or 1)
            await asyncio.sleep(due - self._now())
            task = asyncio.create_task(self._request(due))
            self._out.add(task)
            task.add_done_callback(self._out.discard)

    async def finish(self) -> None:
        self._stopping = True
        await asyncio.gather(*self._out)
        for _, writer in self._idle:
            writer.close()

    def _now(self) -> float:
        return asyncio.get_running_loop().time() - self._begun

    async def _client(self) -> None:
        while not self._stopping:
            await self._request(self._now())

    async def _request(self, due: float) -> None:
        sent, label, version = self._now(), None, None
        outcome: int | str
        try:
            async with asyncio.timeout_at(self._begun + due + self.plan.limit_s):
                outcome, content = await self._exchange()
            label, version = _read(content)
        except TimeoutError:
            outcome = UNANSWERED
        except (OSError, EOFError, ValueError, LookupError, asyncio.LimitOverrunError):
            outcome = LOST
        taken = self.plan.limit_s if outcome == UNANSWERED else self._now() - due
        self.samples.append(Sample(round(due, 4), round(sent, 4), ms(taken), outcome, label, version))

    async def _exchange(self) -> tuple[int, bytes]:
        reader, writer = await self._connection()
        try:
            writer.write(self._message)
            status, headers, content = await _answer(reader)
        except BaseException:
            writer.transport.abort()
            raise
        if status >= 400 or headers.get("connection", "").lower() == "close":
            writer.close()  # TorchServe closes after every error, without saying so
        else:
            self._idle.append((reader, writer))
        return status, content

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            reader, writer = self._idle.pop()
            if not (reader.at_eof() or reader.exception() or writer.is_closing()):
                return reader, writer
            writer.close()
        address = urlsplit(self.plan.url)
        return await asyncio.open_connection(address.hostname, address.port)


def _message(plan: Plan) -> bytes:
    body, address = json.dumps(plan.body).encode(), urlsplit(plan.url)
    head = (
        f"POST {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {plan.token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """One HTTP answer. TorchServe always tells the length; one that does not is refused, never guessed at.

    Raises:
        EOFError: it broke off. ValueError, LookupError: it is no such answer.
    """
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if "content-length" not in headers:
        raise ValueError("an answer without Content-Length")
    return int(first.split()[1]), headers, await reader.readexactly(int(headers["content-length"]))


def _read(content: bytes) -> tuple[str | None, str | None]:
    """(label, version) of an answer; None where it has none, as an error has."""
    try:
        answer = json.loads(content)
    except ValueError:
        return None, None
    return (answer.get("result"), answer.get("model_version")) if isinstance(answer, dict) else (None, None)


def numbers(version: str | None) -> tuple[int, ...]:
    """1.10 -> (1, 10), which is above (1, 9)."""
    return tuple(int(part) for part in (version or "0").split("."))


def ms(seconds: float) -> float:
    """Seconds as milliseconds, rounded to hundredths."""
    return round(seconds * 1000, 2)


def table(results: dict[str, Result]) -> str:
    """Markdown: one column a load."""
    rows = {name: result.as_json() for name, result in results.items()}
    keys = ("sent", "rate", "failed", "unanswered", "lost", "wrong", "stale", "p50_ms", "p95_ms", "p99_ms", "max_ms")
    lines = [f"| | {' | '.join(rows)} |", "|---|" + "---|" * len(rows)]
    lines += [
        f"| {key.replace('_ms', ', ms')} | {' | '.join(f'{row[key]:,}' for row in rows.values())} |" for key in keys
    ]
    return "\n".join(lines)


@click.command(epilog="Example: python -m benchmarks.load models/classroom/goldens/1_0.jpg --clients 8 --seconds 10")
@click.argument("photo", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", default="classroom", show_default=True, help="NAME or NAME/VERSION.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Requests a second, at a constant rate.")
@click.option("--clients", type=click.IntRange(1), help="Instead of a rate: so many clients, each asking in turn.")
@click.option("--seconds", default=10.0, show_default=True, type=click.FloatRange(0, min_open=True))
@click.option("--expect", help="The right label; others are counted as wrong.")
def main(photo: Path, model: str, rate: float | None, clients: int | None, seconds: float, expect: str | None) -> None:
    """Ask the running server about PHOTO, again and again."""
    if (rate is None) == (clients is None):
        raise click.UsageError("give --rate or --clients, and not both")
    settings = read_settings()
    url, token = f"{settings.url('inference')}/predictions/{model}", read_key(settings.var, "inference")
    body = {"image_id": "1", "image_base64": base64.b64encode(photo.read_bytes()).decode(), "detail": True}
    with Load(url, token, body, rate, clients=clients, expected=expect) as load:
        time.sleep(seconds)
        result = load.stop()
    click.echo(table({model: result}))
    click.echo(json.dumps({"benchmark": "load", "url": url, **result.as_json()}))


if __name__ == "__main__":
    main()
