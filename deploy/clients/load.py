"""Send predictions from another process: at a constant rate (open loop), or by n clients (closed loop).

In open loop every request has a time at which it is due, whether or not earlier ones are answered. Its latency counts
from that time, so a server that stalls cannot slow the clock that measures it (coordinated omission). A request
without an answer counts as lost, enters the percentiles with the time limit, and is never repeated. Only a keep-alive
connection that the server closed before a request is opened again.
"""

import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deploy.clients.generator import LOST, UNANSWERED, Plan, Sample, ms
from deploy.settings import ROOT


@dataclass(frozen=True)
class Result:
    """The result of a load. `begun` is a time of time.monotonic(), a clock that all processes of a machine share."""

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
        """Requests sent per second."""
        return self.sent / self.seconds if self.seconds else 0.0

    @property
    def statuses(self) -> dict[int, int]:
        """Number of answers by HTTP status."""
        return dict(sorted(Counter(s.outcome for s in self.samples if isinstance(s.outcome, int)).items()))

    @property
    def errors(self) -> dict[str, int]:
        """Number of answers other than 200 by error code, or "http_STATUS", and of requests without an answer."""
        bad = (s for s in self.samples if s.outcome != 200)
        return dict(Counter(s.code or (f"http_{s.outcome}" if isinstance(s.outcome, int) else s.outcome) for s in bad))

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
        """Answers of status 200 with another label than the expected one; 0 if none is expected."""
        return sum(s.outcome == 200 and s.label != self.expected for s in self.samples) if self.expected else 0

    @property
    def versions(self) -> dict[str, int]:
        """Number of answers by version, in the order of their first answer; empty unless the request has `detail`."""
        return dict(Counter(s.version for s in sorted(self.samples, key=lambda s: s.answered) if s.version))

    @property
    def stale(self) -> int:
        """Answers of an old version to requests that were sent after a newer version had answered."""
        arrivals = sorted((s for s in self.samples if s.version), key=lambda s: s.answered)
        stale, newest, coming = 0, numbers(None), iter(arrivals)
        following = next(coming, None)
        for sample in sorted(arrivals, key=lambda s: s.sent):
            while following and following.answered < sample.sent:
                newest, following = max(newest, numbers(following.version)), next(coming, None)
            stale += numbers(sample.version) < newest
        return stale

    def percentile(self, share: float) -> float:
        """Latency in ms of a percentile (0 to 1, nearest rank); 0 without requests."""
        ordered = sorted(s.ms for s in self.samples)
        return ordered[max(math.ceil(share * len(ordered)), 1) - 1] if ordered else 0.0

    def joined(self, other: "Result") -> "Result":
        """Two loads as one; times count from the beginning of this one."""
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
    """A load that another process sends, from `__enter__` to `stop`.

    Args:
        url: URL of the predictions, for example http://127.0.0.1:8080/predictions/classroom.
        var: TorchServe's folder with its keys, which are read again for each new connection. None: use `key`, if any.
        body: the JSON to send, or several that are sent in turn; with `detail` in it, answers are counted by version.
        rate: requests per second. Instead, `clients` is the number of clients that send the next request as soon as the
            last one is answered, and `pause_s` seconds have passed.
        expected: the expected label.
        limit_s: seconds after which a request counts as unanswered.

    Raises:
        ValueError: neither or both of rate and clients are given, or one is not above 0.
    """

    def __init__(
        self,
        url: str,
        var: Path | None,
        body: dict[str, Any] | Sequence[dict[str, Any]],
        rate: float | None = None,
        **more: Any,
    ) -> None:
        self.expected: str | None = more.pop("expected", None)
        bodies = [body] if isinstance(body, dict) else [*body]
        self.plan = Plan(url, str(var) if var else None, bodies, rate, **more)
        self.begun = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Load":
        words = [sys.executable, "-m", "deploy.clients.generator"]
        self._process = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(asdict(self.plan)).encode() + b"\n")
        self._process.stdin.flush()
        self.begun = float(self._process.stdout.readline() or "nan")
        return self

    def stop(self) -> Result:
        """Stop sending, wait for open requests (at most the time limit), and return the result.

        Raises:
            RuntimeError: the process died.
        """
        assert self._process
        output, _ = self._process.communicate()  # the end of its input stops it
        if self._process.returncode:
            raise RuntimeError("the process that sends the load died: see its output above")
        result = json.loads(output)
        samples = [Sample(*row) for row in result["samples"]]
        return Result(self.begun, result["seconds"], result["cpu_s"], samples, self.expected)

    def __exit__(self, *_: object) -> None:
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


def numbers(version: str | None) -> tuple[int, ...]:
    """A version as numbers, to compare them: 1.10 is (1, 10) and higher than 1.9."""
    return tuple(int(part) for part in (version or "0").split("."))
