"""What is said about days in alarm: rows of a table, words, metrics, and the photos that differ most."""

from collections.abc import Sequence
from datetime import datetime, time, timedelta

import numpy as np

from reports.counting.days import MEASURES, Days, farthest, rows_of
from reports.manifest.dates import CHINA
from reports.scoring.job import Job
from reports.shares.drift import Flags, Floats, last_alarm

FARTHEST = 20
"""Photos, or requests, of an alarm that are listed for review."""
FRESH = timedelta(days=4)
"""From the begin of the last day with requests, how long its alarms are reported."""
ALARM_COLUMNS = ("day", "measure", "value", "distance")
PHOTO_COLUMNS = ("measure", "photo_id", "source", "published_at")


def alarm_rows(days: Days, distances: Floats, alarms: Flags, measures: Sequence[str]) -> list[dict[str, str]]:
    """A row with `ALARM_COLUMNS` for each day and measure in alarm."""
    rows = []
    for day, measure in np.argwhere(alarms):
        value, distance = days.values[day, measure], distances[day, measure]
        texts = (str(days.dates[day]), measures[measure], f"{value:.3g}", f"{distance:.1f}")
        rows.append(dict(zip(ALARM_COLUMNS, texts, strict=True)))
    return rows


def in_words(distances: Floats, alarms: Flags, measures: Sequence[str]) -> str:
    """Days in alarm of the days compared, and the measures: "2 / 46 (brightness)"."""
    compared = int((~np.isnan(distances)).any(axis=1).sum())
    names = ", ".join(name for index, name in enumerate(measures) if alarms[:, index].any())
    return f"{int(alarms.any(axis=1).sum())} / {compared}" + (f" ({names})" if names else "")


def as_metrics(
    days: Days, distances: Floats, alarms: Flags, measures: Sequence[str], labels: str, now: datetime | None = None
) -> str:
    """The last day as Prometheus text: when it began, the distance of each measure, and whether it is in alarm.

    Args:
        labels: of each series, as `name="value"`.
        now: of traffic: a last day that is more than `FRESH` before is over, so only its time is written.
    """
    lines = [f"# TYPE photoloop_drift_{name} gauge" for name in ("day_timestamp_seconds", "distance", "alarm")]
    if not days.dates:
        return "\n".join([*lines, ""])
    last = datetime.combine(days.dates[-1], time(), CHINA)
    lines.append(f"photoloop_drift_day_timestamp_seconds{{{labels}}} {last.timestamp():.0f}")
    for index, name in enumerate(measures):
        if not np.isnan(distances[-1, index]) and (now is None or now - last < FRESH):
            lines.append(f'photoloop_drift_distance{{measure="{name}",{labels}}} {distances[-1, index]:.3f}')
            lines.append(f'photoloop_drift_alarm{{measure="{name}",{labels}}} {int(alarms[-1, index])}')
    return "\n".join([*lines, ""])


def photos_of_alarm(
    jobs: Sequence[Job], label: str, days: Days, distances: Floats, alarms: Flags
) -> list[dict[str, object]]:
    """The photos of the last day in alarm that differ most, with `PHOTO_COLUMNS`; none without an alarm."""
    if (found := last_alarm(days.values, distances, alarms)) is None:
        return []
    day, measure, sign = found
    table = rows_of(jobs, ("photo_id", "source"))
    rows = table.take(farthest(table, label, day, measure, sign, FARTHEST)).to_pylist()
    return [{**row, "measure": MEASURES[measure]} for row in rows]
