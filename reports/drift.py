"""Compare each day of scored photos with the 28 days before, and say what changed.

    python -m reports drift scores/april --against scores/march

A change that lasts two days is an alarm: the photos or the answers are not what they were, so look at them before you
believe the shares. Exit code 0 also with an alarm; `--metrics FILE` writes it for Prometheus (textfile collector).
"""

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np

from common.cli import command
from common.console import compact_table, console, say
from common.errors import InvalidInput
from common.files import write_whole, writing
from common.words import number_of
from reports.build import label_of
from reports.counting.days import MEASURES, Days, measure_days
from reports.manifest.dates import CHINA
from reports.manifest.spreadsheet import write_csv
from reports.scoring.job import Job, read_job, read_parts
from reports.shares.drift import LIMIT, MIN_DAYS, Flags, Floats, find_alarms

_FARTHEST = 20


@command(epilog="Example: python -m reports drift scores/april --against scores/march")
@click.argument("scores", type=click.Path(file_okay=False, path_type=Path))
@click.option("--against", type=click.Path(file_okay=False, path_type=Path), help="Scores of the days before.")
@click.option("--label", help="Label whose share is reported.  [default: the last of the recipe]")
@click.option("--metrics", type=click.Path(path_type=Path), help="File for Prometheus' textfile collector.")
@click.option(
    "--farthest", type=click.Path(path_type=Path), help="CSV of the photos of the last alarm, to be reviewed."
)
def drift(scores: Path, against: Path | None, label: str | None, metrics: Path | None, farthest: Path | None) -> None:
    """Say on which days the photos of SCORES differ from the days before."""
    job = read_job(scores)
    jobs = [read_job(against), job] if against else [job]
    if len({one.digest for one in jobs}) > 1:
        raise InvalidInput(f"{scores} and {against} were scored by different models", "score one of them again")
    days = measure_days(jobs, label_of(job, label))
    if len(days.dates) <= MIN_DAYS:
        raise InvalidInput(
            f"the scores cover {number_of(len(days.dates), 'day')}, and a day needs {MIN_DAYS} before it",
            "give --against",
        )
    distances, alarms = find_alarms(days.values, days.sampling)
    show(days, distances, alarms, MEASURES)
    if metrics:
        with writing(metrics):
            write_whole(metrics, as_metrics(distances, alarms, MEASURES).encode())
    if farthest:
        write_csv(farthest, ("photo_id", "source", "published_at"), _photos_of_alarm(job, days, alarms))


def show(days: Days, distances: Floats, alarms: Flags, measures: Sequence[str]) -> None:
    """Print the days in alarm, and how many days were compared."""
    found = [(int(day), int(measure)) for day, measure in np.argwhere(alarms)]
    if found:
        table = compact_table("day", "measure", "value", "usual distance", "distance")
        for day, measure in found[:50]:
            value, distance = days.values[day, measure], distances[day, measure]
            table.add_row(
                str(days.dates[day]), measures[measure], f"{value:.3g}", f"up to {LIMIT:g}", f"{distance:.1f}"
            )
        console.print(table)
    judged = int((~np.isnan(distances)).any(axis=1).sum())
    names = ", ".join(sorted({measures[measure] for _, measure in found})) or "none"
    say(f"{number_of(len(days.dates), 'day')}, {judged} of them compared; alarms: {names}")


def as_metrics(distances: Floats, alarms: Flags, measures: Sequence[str], more: str = "") -> str:
    """The last day as Prometheus text: the distance of each measure, and whether it is in alarm.

    Args:
        more: further labels of each series, as `,name="value"`.
    """
    lines = ["# TYPE photoloop_drift_distance gauge", "# TYPE photoloop_drift_alarm gauge"]
    for index, name in enumerate(measures):
        if not np.isnan(distances[-1, index]):
            lines.append(f'photoloop_drift_distance{{measure="{name}"{more}}} {distances[-1, index]:.3f}')
            lines.append(f'photoloop_drift_alarm{{measure="{name}"{more}}} {int(alarms[-1, index])}')
    return "\n".join([*lines, ""])


def _photos_of_alarm(job: Job, days: Days, alarms: Flags) -> list[dict[str, object]]:
    """The photos of the last day in alarm that the model is least sure of."""
    found = np.flatnonzero(alarms.any(axis=1))
    if not len(found):
        return []
    last = days.dates[int(found[-1])]
    rows = read_parts(job, ("photo_id", "source", "published_at", "confidence")).to_pylist()
    chosen = [row for row in rows if row["published_at"].astimezone(CHINA).date() == last]
    return sorted(chosen, key=lambda row: row["confidence"] or 0)[:_FARTHEST]
