"""Judge the answers to good and broken requests, and sum them up."""

import json
import statistics
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from benchmarks.fuzz.generate import KINDS, Sent
from handler.errors import CODES
from handler.goldens import Golden

MOST_MB = 64.0
SAMPLES = 40  # fewer say nothing: at first the workers and their decoders grow
TOLERANCE = 0.02
FRONT_END = {400, 403, 404, 405, 413, 417}
"""Statuses that TorchServe's front end may answer a broken request with (docs/api.md)."""


@dataclass
class Findings:
    """What was sent and answered, and what is wrong with it."""

    counts: dict[str, Counter[str]] = field(default_factory=lambda: {kind: Counter() for kind in KINDS})
    seconds: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def add(self, number: int, sent: Sent, status: int, content: bytes, seconds: float) -> None:
        """Count one answer, and judge it."""
        outcome, wrong = judge(sent, status, content)
        self.counts[sent.kind][outcome] += 1
        self.seconds.append(seconds)
        if wrong:
            self.wrong.append(f"request {number} ({sent.kind}): {wrong}: {status} {content[:300]!r}")

    def growth(self) -> float:
        """Megabytes by which the workers' memory grew from the second to the last fifth; 0 for a short run."""
        if len(self.memory) < SAMPLES:
            return 0.0
        fifth = len(self.memory) // 5
        return statistics.median(self.memory[-fifth:]) - statistics.median(self.memory[fifth : 2 * fifth])


def judge(sent: Sent, status: int, content: bytes) -> tuple[str, str]:
    """The kind of an answer, and what is wrong with it ("" if nothing is)."""
    if status == 0:
        return "no answer", "no answer"
    answer = _parsed(content)
    if sent.goldens:
        return f"{status}", "" if status == 200 and _right(sent, answer) else "a good photo"
    if status == 500 and sent.path == "*":
        return "500, path *", ""
    codes = _codes(answer)
    if status == 200:
        return "200", "an internal error" if "internal_error" in codes else ""
    if codes and codes <= set(CODES):
        expected = {int(CODES[code]) for code in codes} if isinstance(answer, dict) else {400}
        return f"{status}", "" if expected == {status} and "internal_error" not in codes else "code and status"
    if sent.method == "HEAD" and status in set(map(int, CODES.values())) - {500}:
        return f"{status}", ""  # an answer to HEAD has no body
    return f"{status} front end", "" if status in FRONT_END else "an undocumented answer"


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _codes(answer: Any) -> set[str]:
    """The error codes in an answer of the handler; none in one of the front end."""
    entries = answer if isinstance(answer, list) else [answer]
    errors = [entry["error"] for entry in entries if isinstance(entry, dict) and isinstance(entry.get("error"), dict)]
    return {str(error.get("code")) for error in errors}


def _right(sent: Sent, answer: Any) -> bool:
    entries = answer if isinstance(answer, list) else [answer]
    if isinstance(answer, list) is not sent.many or len(entries) != len(sent.goldens):
        return False
    return all(map(_is_right, sent.goldens, entries))


def _is_right(golden: Golden, entry: Any) -> bool:
    if not isinstance(entry, dict) or entry.get("result") != golden.label:
        return False
    return _close(golden.probabilities, tuple(entry.get("probabilities", {}).values()))


def _close(expected: tuple[float, ...], received: tuple[float, ...]) -> bool:
    if len(expected) != len(received):
        return False
    return all(abs(a - b) <= TOLERANCE for a, b in zip(expected, received, strict=True))


def summary(found: Findings, left: list[str]) -> dict[str, Any]:
    """The report; `broken` lists what must not happen."""
    growth, memory = found.growth(), found.memory
    broken = list(found.wrong[:20])
    broken += [f"{len(found.wrong)} answers were wrong"] if found.wrong else []
    broken += [f"temporary files were left: {left[:5]}"] if left else []
    broken += [f"the workers' memory grew by {growth:.0f} MB"] if growth > MOST_MB else []
    seconds = sorted(found.seconds)
    return {
        "requests": len(found.seconds),
        "answers": {kind: dict(sorted(counts.items())) for kind, counts in found.counts.items()},
        "worker_mb": [round(memory[0]), round(max(memory)), round(memory[-1])] if memory else [],
        "growth_mb": round(growth, 1),
        "files_left": len(left),
        "p50_ms": round(seconds[len(seconds) // 2] * 1000, 1) if seconds else None,
        "p99_ms": round(seconds[len(seconds) * 99 // 100] * 1000, 1) if seconds else None,
        "max_s": round(seconds[-1], 2) if seconds else None,
        "broken": broken,
    }


def table(report: dict[str, Any]) -> str:
    """Markdown: one row for each kind of request, one column for each kind of answer."""
    answers: dict[str, dict[str, int]] = report["answers"]
    outcomes = sorted({outcome for counts in answers.values() for outcome in counts})
    rows = [f"| requests | {' | '.join(outcomes)} |", "|---" * (len(outcomes) + 1) + "|"]
    rows += [f"| {kind} | {' | '.join(str(row.get(name, 0)) for name in outcomes)} |" for kind, row in answers.items()]
    return "\n".join(rows)
