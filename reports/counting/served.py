"""Daily counts of the requests of clients that a node answered, from its request log (`handler/requestlog.py`).

Probes of this project itself (`PROBES`) are left out.
"""

import contextlib
import gzip
import json
import math
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field

from common.errors import InvalidInput
from deploy.torchserve.management import PROBES
from reports.counting.days import FEW
from reports.manifest.dates import CHINA

PER_PHOTO = ("confidence", "features", "brightness", "contrast")
MEASURES = ("label", "unsure", "out_of_scope", "errors", "size", *PER_PHOTO, *(f"label_{name}" for name in PER_PHOTO))
"""`label_...`: of the photos that were answered with the label whose share is compared."""

OF_THE_PHOTOS = ("errors", "size", "brightness", "contrast")
"""Measures that stay comparable when another version of the model answers."""

LOG = "requests*.log*"
_CUT = 1e-5

Count = Annotated[int, Field(ge=0)]


@dataclass
class Sums:
    """A mean and its error, from the number of values, their sum and the sum of their squares."""

    count: Count = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, value: float) -> None:
        """Add a value."""
        self.count, self.total, self.squares = self.count + 1, self.total + value, self.squares + value * value

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(self.count + other.count, self.total + other.total, self.squares + other.squares)

    def mean(self, least: int) -> tuple[float, float]:
        """The mean and its standard error; NaN below `least` values."""
        if self.count < least:
            return math.nan, math.nan
        mean = self.total / self.count
        return mean, math.sqrt(max(self.squares / self.count - mean * mean, 0.0) / self.count)


@dataclass
class Day:
    """What a model answered on a day.

    `judged`: photos of which the model knows whether they are in scope. `looks`: label -> measure of `PER_PHOTO` -> its
    sums over the photos with that label. `versions`: version -> requests.
    """

    photos: Count = 0
    labels: Counter[str] = field(default_factory=Counter)
    unsure: Count = 0
    judged: Count = 0
    out_of_scope: Count = 0
    codes: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    size: Sums = field(default_factory=Sums)
    looks: dict[str, dict[str, Sums]] = field(default_factory=dict)

    def add(self, line: Mapping[str, Any]) -> None:
        """Count a request. Its size is log2(bytes of a photo)."""
        photos, results, looks = int(line["photos"]), line["results"], looks_of(line)
        self.photos += photos
        self.versions[str(line.get("version"))] += 1
        self.codes[str(line["code"])] += 1
        self.unsure += int(line["unsure"])
        for (label, _), values in zip(results, looks, strict=True):
            self.labels[str(label)] += 1
            sums = self.looks.setdefault(str(label), {})
            for name, value in values.items():
                sums.setdefault(name, Sums()).add(value)
        if line.get("out_of_scope") is not None:
            self.judged += len(results)
            self.out_of_scope += int(line["out_of_scope"])
        if photos and results:
            self.size.add(math.log2(max(int(line["bytes"]) / photos, 1)))

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> Self:
        """A single request as a day."""
        day = cls()
        day.add(line)
        return day

    def measures(self, label: str, least: int = FEW) -> tuple[list[float], list[float]]:
        """Values and sampling errors, in the order of `MEASURES`; NaN below `least` requests or photos."""
        answered = self.labels.total()
        refused = self.codes.total() - self.codes["ok"]
        pairs = [
            _share(self.labels[label], answered, least),
            _share(self.unsure, answered, least),
            _share(self.out_of_scope, self.judged, least),
            _share(refused, self.codes.total(), least),
            self.size.mean(least),
            *(sum((sums.get(name, Sums()) for sums in self.looks.values()), Sums()).mean(least) for name in PER_PHOTO),
            *(self.looks.get(label, {}).get(name, Sums()).mean(least) for name in PER_PHOTO),
        ]  # fmt: skip
        return [value for value, _ in pairs], [error for _, error in pairs]


def looks_of(line: Mapping[str, Any]) -> list[dict[str, float]]:
    """The measures of `PER_PHOTO` of each result of a request: two logits, and two values of 0 to 255.

    `features` is the logit of `in_scope`, which the graph computes from the distance of the photo's features to those
    of class photos. What the log of an earlier version does not have is absent.
    """
    found: list[dict[str, float]] = [{"confidence": _logit(confidence, 0.5)} for _, confidence in line["results"]]
    for one, probability in zip(found, line.get("in_scope") or (), strict=False):
        one["features"] = _logit(probability, _CUT)
    for one, (mean, deviation) in zip(found, line.get("light") or (), strict=False):
        one["brightness"], one["contrast"] = float(mean), float(deviation)
    return found


def _logit(value: Any, least: float) -> float:
    cut = min(max(float(value), least), 1 - 1e-6)
    return math.log(cut / (1 - cut))


def _share(count: int, of: int, least: int) -> tuple[float, float]:
    """A share and its standard error; a share of 0 has an error too. NaN below `least`."""
    if of < least:
        return math.nan, math.nan
    smooth = (count + 1) / (of + 2)
    return count / of, math.sqrt(smooth * (1 - smooth) / of)


def read_log(folder: Path, model: str) -> dict[date, Day]:
    """Count the requests of a model by day (in China) in a log and its rotated files. Damaged lines are skipped.

    Raises:
        InvalidInput: there is no such log.
    """
    days: dict[date, Day] = {}
    for when, line in read_lines(folder, model):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            days.setdefault(when, Day()).add(line)
    return days


def read_lines(folder: Path, model: str) -> Iterator[tuple[date, dict[str, Any]]]:
    """The requests of a model, each with its day in China, in a log and its rotated files. Damaged lines are skipped.

    Raises:
        InvalidInput: there is no such log.
    """
    found = sorted(folder.glob(LOG), reverse=True)
    files = {path.name.removesuffix(".gz"): path for path in found}.values()
    if not files:
        raise InvalidInput(f"{folder} has no requests.log", "give the folder var/logs of a node that has served")
    for text in _lines(files):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            line = json.loads(text)
            if line["model"] == model and line.get("client_request_id") not in PROBES:
                yield datetime.fromisoformat(line["time"]).astimezone(CHINA).date(), line


def farthest(
    folder: Path, model: str, label: str, day: date, measure: int, sign: float, most: int
) -> list[dict[str, object]]:
    """The requests of a day that differ most in a measure, if the log still holds that day.

    Args:
        sign: +1 if the measure was above what is usual, -1 if it was below.
    """
    name = MEASURES[measure]
    rows = []
    for when, line in read_lines(folder, model):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            if when == day and (value := Day.of(line).measures(label, 1)[0][measure]) == value:  # not NaN
                ids = {key: line.get(key) for key in ("time", "request_id", "client_request_id")}
                rows.append({**ids, "measure": name, "value": round(value, 4)})
    return sorted(rows, key=lambda row: -sign * float(row["value"]))[:most]  # type: ignore[arg-type]


def _lines(files: Iterable[Path]) -> Iterator[bytes]:
    for path in files:
        try:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
                yield from file
        except (OSError, EOFError, zlib.error):  # rotated away, or half-written
            continue
