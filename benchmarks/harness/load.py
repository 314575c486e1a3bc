"""A load of predictions from a process of its own: at a constant rate (open loop), or by n clients (closed loop).

    python -m benchmarks.harness.load models/classroom/goldens/1_0.jpg --rate 20 --seconds 30

In open loop a request is due at its moment whether or not the ones before are answered, and its latency counts from
that moment: a server that stalls cannot slow the clock that measures it. A request that was sent and gets no answer
is a loss and never sent again; only a keep-alive connection that the server closed *before* is opened anew. One
without an answer counts in the percentiles with the time limit. Prints Markdown, and one JSON line last.
"""

import base64
import json
import math
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.harness.generator import LOST, UNANSWERED, Plan, Sample, ms
from common.cli import command
from deploy.settings import ROOT, read_settings


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


class Load:
    """A load that runs in a process of its own from `__enter__` to `stop`.

    Args:
        url: of the predictions, for example http://127.0.0.1:8080/predictions/classroom.
        var: TorchServe's folder, with its keys; they are read again for each new connection. None: `key`, or none.
        body: JSON, posted as it is each time; with `detail` in it, answers are told by version.
        rate: requests a second; or `clients`: how many ask in turn, each as fast as it is answered.
        expected: the right label.
        limit_s: after how many seconds a request counts as unanswered.

    Raises:
        ValueError: neither or both of rate and clients, or one that is not above 0.
    """

    def __init__(
        self, url: str, var: Path | None, body: dict[str, Any], rate: float | None = None, **more: Any
    ) -> None:
        self.expected: str | None = more.pop("expected", None)
        self.plan = Plan(url, str(var) if var else None, body, rate, **more)
        self.begun = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Load":
        words = [sys.executable, "-m", "benchmarks.harness.generator"]
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


def numbers(version: str | None) -> tuple[int, ...]:
    """1.10 -> (1, 10), which is above (1, 9)."""
    return tuple(int(part) for part in (version or "0").split("."))


def table(results: dict[str, Result]) -> str:
    """Markdown: one column a load."""
    rows = {name: result.as_json() for name, result in results.items()}
    keys = ("sent", "rate", "failed", "unanswered", "lost", "wrong", "stale", "p50_ms", "p95_ms", "p99_ms", "max_ms")
    lines = [f"| | {' | '.join(rows)} |", "|---|" + "---|" * len(rows)]
    lines += [
        f"| {key.replace('_ms', ', ms')} | {' | '.join(f'{row[key]:,}' for row in rows.values())} |" for key in keys
    ]
    return "\n".join(lines)


@command(epilog="Example: python -m benchmarks.harness.load models/classroom/goldens/1_0.jpg --clients 8 --seconds 10")
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
    url = f"{settings.url('inference')}/predictions/{model}"
    body = {"image_id": "1", "image_base64": base64.b64encode(photo.read_bytes()).decode(), "detail": True}
    with Load(url, settings.var, body, rate, clients=clients, expected=expect) as load:
        time.sleep(seconds)
        result = load.stop()
    click.echo(table({model: result}))
    click.echo(json.dumps({"benchmark": "load", "url": url, **result.as_json()}))


if __name__ == "__main__":
    main()
