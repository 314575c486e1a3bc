"""Does a day differ from the 28 days before by more than days usually differ? Pure functions of daily measures.

Only measured days count: "the days before" and "in a row" pass over days with too few photos.

A distance is in units of the spread of the days before (median absolute deviation, scaled to a standard deviation) and
of the day's own sampling error together. There are no p-values: with 100,000 photos a day every one of them is 0.
"""

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

DAYS = 28
"""Days before that a day is compared with."""
MIN_DAYS = 14
"""With fewer days before, nothing is said."""
LIMIT = 4.0
"""Distance of two days in a row that is an alarm. On quiet bootstrapped days of 300 photos the largest is 3.1."""

_TO_SIGMA = 1.4826  # a normal distribution's standard deviation is this many times its median absolute deviation
_LEAST = 1e-9

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def find_alarms(
    values: Floats, errors: Floats, bases: Sequence[Sequence[Hashable]] | None = None
) -> tuple[Floats, Flags]:
    """Compare each day with the days before.

    A day in alarm does not become what later days are compared with.

    Args:
        values: measures by day, shape (days, measures); NaN: not measured.
        errors: their sampling errors, as standard deviations, same shape.
        bases: same shape: a day is only compared with days of the same base, for example of the same model version.

    Returns:
        distances, shape (days, measures), NaN where nothing can be said; and alarms, same shape.
    """
    distances = np.full(values.shape, np.nan)
    alarms = np.zeros(values.shape, np.bool_)
    for measure in range(values.shape[1]):
        known: dict[Hashable, list[float]] = {}
        far_before = False
        for day, value in enumerate(values[:, measure]):
            if np.isnan(value):
                continue
            usual = known.setdefault(bases[day][measure] if bases else None, [])
            distance = _distance(value, usual[-DAYS:], errors[day, measure])
            distances[day, measure] = distance
            far = bool(distance > LIMIT)
            alarms[day, measure] = far and far_before
            far_before = far
            if not far:
                usual.append(float(value))
    return distances, alarms


def last_alarm(values: Floats, distances: Floats, alarms: Flags) -> tuple[int, int, float] | None:
    """The last day in alarm, its measure with the largest distance, and +1 if that is above what is usual, else -1."""
    days = np.flatnonzero(alarms.any(axis=1))
    if not len(days):
        return None
    day = int(days[-1])
    measure = int(np.where(alarms[day], distances[day], -1).argmax())
    return day, measure, 1.0 if values[day, measure] > np.nanmedian(values[:day, measure]) else -1.0


def _distance(value: float, before: list[float], error: float) -> float:
    if len(before) < MIN_DAYS:
        return float("nan")
    centre = float(np.median(before))
    spread = _TO_SIGMA * float(np.median(np.abs(np.array(before) - centre)))
    return abs(value - centre) / max(float(np.hypot(spread, error)), _LEAST)
