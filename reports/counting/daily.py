"""The file of daily counts of a model: the request log is rotated, so each run adds what the log says.

A day that is partly rotated away is not replaced by fewer photos.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from common.errors import InvalidInput
from common.files import write_whole, writing
from reports.counting.days import Days
from reports.counting.served import MEASURES, OF_THE_PHOTOS, Day


@dataclass
class Counts:
    """The content of the file of counts: what a model answered, by day (in China)."""

    model: str
    days: dict[date, Day] = field(default_factory=dict)

    def add(self, found: Mapping[date, Day]) -> None:
        """Add the days of a log; of a day that was counted before, the one with more photos stays."""
        more = {day: counts for day, counts in found.items() if counts.photos >= self.days.get(day, Day()).photos}
        self.days = dict(sorted({**self.days, **more}.items()))

    def require_label(self, label: str, others: Iterable[str] = ()) -> None:
        """Refuse a label that no photo was answered with and that is not one of `others`.

        Raises:
            InvalidInput: the message names the labels.
        """
        labels = {*others, *(name for day in self.days.values() for name in day.labels)}
        if label not in labels:
            raise InvalidInput(f"{self.model} has no label {label!r}", f"give one of {', '.join(sorted(labels))}")

    def measured(self, label: str, until: date, since: date | None = None) -> Days:
        """The measures of the days from `since` and before `until`, without gaps, in the order of `MEASURES`."""
        known = {day: counts for day, counts in self.days.items() if (since or day) <= day < until}
        first = min(known, default=until)
        dates = [first + timedelta(days=index) for index in range((max(known) - first).days + 1)] if known else []
        rows = [known.get(day, Day()).measures(label) for day in dates]
        shape = (len(dates), len(MEASURES))
        values, errors = (np.array([row[index] for row in rows], np.float64).reshape(shape) for index in (0, 1))
        return Days(dates, np.array([known.get(day, Day()).photos for day in dates], np.int64), values, errors)

    def versions(self, dates: Iterable[date]) -> list[str]:
        """The version that answered most requests of each day; of a day without requests that of the day before."""
        found = [""]
        for day in dates:
            most = self.days.get(day, Day()).versions.most_common(1)
            found.append(most[0][0] if most else found[-1])
        return found[1:]


def bases_of(versions: Iterable[str]) -> list[list[str]]:
    """The `bases` of `find_alarms`: answers are compared with those of the same version, photos with all."""
    return [["" if name in OF_THE_PHOTOS else version for name in MEASURES] for version in versions]


_FILE = TypeAdapter(Counts)


def read_counts(path: Path, model: str) -> Counts:
    """Read a file of counts; a file that does not exist has no days.

    Raises:
        InvalidInput: it is another file, or one of another model or of an earlier version.
    """
    try:
        counts = _FILE.validate_json(path.read_bytes())
    except FileNotFoundError:
        return Counts(model)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}", "give another --counts") from error
    except ValidationError as error:
        first = error.errors()[0]
        problem = f"{'.'.join(map(str, first['loc']))}: {first['msg']}".lstrip(": ")
        fix = (
            "remove it if an earlier version wrote it, which also counted the keeper's probes; or give another --counts"
        )
        raise InvalidInput(f"{path} is not a file of daily counts ({problem})", fix) from error
    if counts.model != model:
        raise InvalidInput(f"{path} holds the counts of {counts.model}, not of {model}", "give another --counts")
    return counts


def write_counts(path: Path, counts: Counts) -> None:
    """Write what `read_counts` reads.

    Raises:
        CannotWrite: the disk is full.
    """
    with writing(path):
        write_whole(path, _FILE.dump_json(counts, indent=2) + b"\n")
