"""Daily counts of the requests that a node answered, from its request log (`handler/requestlog.py`).

The log is rotated, so it holds a few days on a busy node. Therefore the counts are kept in a file of their own, and
each run adds what the log says. A day that is partly rotated away is not replaced by fewer photos.
"""

import gzip
import json
import math
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import numpy as np

from common.errors import InvalidInput
from reports.counting.days import FEW, Days
from reports.manifest.dates import CHINA

MEASURES = ("label", "unsure", "out_of_scope", "errors", "size", "confidence")
LOG = "requests*.log*"


@dataclass
class Sums:
    """A mean and its error, from the number of values, their sum and the sum of their squares."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, value: float) -> None:
        """Add a value."""
        self.count, self.total, self.squares = self.count + 1, self.total + value, self.squares + value * value

    def mean(self) -> tuple[float, float]:
        """The mean and its standard error; NaN below 5 values."""
        if self.count < FEW:
            return math.nan, math.nan
        mean = self.total / self.count
        return mean, math.sqrt(max(self.squares / self.count - mean * mean, 0.0) / self.count)


@dataclass
class Day:
    """What a model answered on a day. `judged`: photos of which the model knows whether they are in scope."""

    photos: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    unsure: int = 0
    judged: int = 0
    out_of_scope: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    size: Sums = field(default_factory=Sums)
    confidence: Sums = field(default_factory=Sums)

    def add(self, line: Mapping[str, Any]) -> None:
        """Count a request. Its size is log2(bytes of a photo), its confidence a logit."""
        photos, results = int(line["photos"]), line["results"]
        self.photos += photos
        self.codes[str(line["code"])] += 1
        self.unsure += int(line["unsure"])
        for label, confidence in results:
            self.labels[str(label)] += 1
            cut = min(max(float(confidence), 0.5), 1 - 1e-6)
            self.confidence.add(math.log(cut / (1 - cut)))
        if line.get("out_of_scope") is not None:
            self.judged += len(results)
            self.out_of_scope += int(line["out_of_scope"])
        if photos and results:
            self.size.add(math.log2(max(int(line["bytes"]) / photos, 1)))

    def measures(self, label: str) -> tuple[list[float], list[float]]:
        """Values and sampling errors, in the order of `MEASURES`."""
        answered = self.labels.total()
        refused = self.codes.total() - self.codes["ok"]
        pairs = [
            _share(self.labels[label], answered), _share(self.unsure, answered), _share(self.out_of_scope, self.judged),
            _share(refused, self.codes.total()), self.size.mean(), self.confidence.mean(),
        ]  # fmt: skip
        return [value for value, _ in pairs], [error for _, error in pairs]

    def content(self) -> dict[str, Any]:
        """What `read` reads."""
        return {**vars(self), "size": vars(self.size), "confidence": vars(self.confidence)}

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> Self:
        """A day as the file of counts holds it."""
        counters = {name: Counter(content[name]) for name in ("labels", "codes")}
        sums = {name: Sums(**content[name]) for name in ("size", "confidence")}
        return cls(**{**content, **counters, **sums})


def _share(count: int, of: int) -> tuple[float, float]:
    """A share and its standard error; a share of 0 has an error too."""
    if of < FEW:
        return math.nan, math.nan
    smooth = (count + 1) / (of + 2)
    return count / of, math.sqrt(smooth * (1 - smooth) / of)


def read_log(folder: Path, model: str) -> dict[date, Day]:
    """Count the requests of a model by day (in China) in a log and its rotated files. Damaged lines are skipped.

    Raises:
        InvalidInput: there is no such log.
    """
    files = sorted(folder.glob(LOG))
    if not files:
        raise InvalidInput(f"{folder} has no requests.log", "give the folder var/logs of a node that has served")
    days: dict[date, Day] = {}
    for line in _lines(files):
        try:
            row = json.loads(line)
            if row["model"] == model:
                when = datetime.fromisoformat(row["time"]).astimezone(CHINA).date()
                days.setdefault(when, Day()).add(row)
        except (ValueError, KeyError, TypeError):
            continue
    return days


def _lines(files: Iterable[Path]) -> Iterator[bytes]:
    for path in files:
        try:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
                yield from file
        except (OSError, EOFError, zlib.error):  # rotated away, or half-written
            continue


def merged(kept: Mapping[date, Day], found: Mapping[date, Day]) -> dict[date, Day]:
    """Both, in the order of their dates; of a day that both have, the one with more photos."""
    days = {**kept, **{day: counts for day, counts in found.items() if counts.photos >= _photos(kept.get(day))}}
    return dict(sorted(days.items()))


def _photos(day: Day | None) -> int:
    return day.photos if day else 0


def as_content(days: Mapping[date, Day]) -> dict[str, Any]:
    """The content of the file of counts."""
    return {day.isoformat(): counts.content() for day, counts in days.items()}


def from_content(content: Mapping[str, Any]) -> dict[date, Day]:
    """Raises: ValueError, KeyError, TypeError: it is not the content of a file of counts."""
    return {date.fromisoformat(day): Day.read(counts) for day, counts in content.items()}


def as_days(days: Mapping[date, Day], label: str, until: date) -> Days:
    """The measures of all days before `until`, without gaps, in the order of `MEASURES`."""
    known = {day: counts for day, counts in days.items() if day < until}
    first = min(known, default=until)
    dates = [first + timedelta(days=index) for index in range((max(known) - first).days + 1)] if known else []
    rows = [known.get(day, Day()).measures(label) for day in dates]
    shape = (len(dates), len(MEASURES))
    values, errors = (np.array([row[index] for row in rows], np.float64).reshape(shape) for index in (0, 1))
    return Days(dates, np.array([known.get(day, Day()).photos for day in dates], np.int64), values, errors)
