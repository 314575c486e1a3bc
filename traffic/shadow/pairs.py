"""What the shadow counted, var/front/canary/NAME/pairs.json: photos that both versions answered. No photo, no id."""

import json
import statistics
from collections import deque
from dataclasses import asdict, dataclass, field
from pathlib import Path

from common.files import write_json
from traffic.front import route

FILE = "pairs.json"
RECENT = 1000


@dataclass(frozen=True)
class Pairs:
    """Counts of photos that both versions were asked, for the verdict.

    Attributes:
        answered: photos that both answered.
        disagreements: those with two labels.
        slower: those for which the candidate took longer.
        ratio: the median of the candidate's duration divided by the other's; 0 if unknown.
    """

    answered: int = 0
    disagreements: int = 0
    slower: int = 0
    ratio: float = 0.0


@dataclass(frozen=True)
class Answer:
    """What one version answered, and after how many milliseconds; no label: an error, or several photos."""

    label: str | None
    confidence: float | None
    ms: float


@dataclass
class Tally:
    """The pairs of one candidate so far.

    Attributes:
        salt: of the canary, so that a further canary starts at 0.
        dropped: requests that found the queue full.
        failed: pairs of which a version gave no label.
    """

    salt: str
    answered: int = 0
    disagreements: int = 0
    slower: int = 0
    ratio: float = 0.0
    dropped: int = 0
    failed: int = 0
    queue_bytes: int = 0
    labels: dict[str, int] = field(default_factory=dict)
    _ratios: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT), repr=False)

    def add(self, control: Answer, candidate: Answer) -> None:
        """Count one pair."""
        if control.label is None or candidate.label is None:
            self.failed += 1
            return
        self.answered += 1
        self.slower += candidate.ms > control.ms
        self._ratios.append(candidate.ms / max(control.ms, 1e-6))
        self.ratio = round(statistics.median(self._ratios), 3)
        if control.label != candidate.label:
            self.disagreements += 1
            key = f"{control.label} -> {candidate.label}"
            self.labels[key] = self.labels.get(key, 0) + 1

    def figures(self) -> dict[str, float]:
        """The counts by name."""
        names = ("answered", "disagreements", "slower", "ratio", "failed", "dropped", "queue_bytes")
        return {name: getattr(self, name) for name in names}

    def pairs(self) -> Pairs:
        """For the verdict."""
        return Pairs(self.answered, self.disagreements, self.slower, self.ratio)


def write(var: Path, name: str, tally: Tally) -> None:
    """Write the counts, completely or not at all."""
    row = {key: value for key, value in asdict(tally).items() if not key.startswith("_")}
    write_json(route.place(var, name) / FILE, row)


def read(var: Path, name: str, salt: str) -> Tally:
    """The counts of a canary; zeros if there are none."""
    try:
        row = json.loads((route.place(var, name) / FILE).read_text(encoding="utf-8"))
        return Tally(**row) if row["salt"] == salt else Tally(salt)
    except (OSError, ValueError, TypeError, KeyError):
        return Tally(salt)
