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
from common.console import compact_table, console, note, say
from common.errors import InvalidInput
from common.files import write_whole, writing
from common.words import number_of
from reports.counting.alarms import PHOTO_COLUMNS, alarm_rows, as_metrics, photos_of_alarm
from reports.counting.days import MEASURES, Days, measure_days
from reports.manifest.spreadsheet import write_csv
from reports.scoring.job import label_of, read_job
from reports.shares.drift import LIMIT, MIN_DAYS, Flags, Floats, find_alarms


@command(epilog="Example: python -m reports drift scores/april --against scores/march")
@click.argument("scores", type=click.Path(file_okay=False, path_type=Path))
@click.option("--against", type=click.Path(file_okay=False, path_type=Path), help="Scores of the days before.")
@click.option("--label", help="Label whose share is reported.  [default: the last of the recipe]")
@click.option("--metrics", type=click.Path(path_type=Path), help="File for Prometheus' textfile collector.")
@click.option(
    "--farthest",
    type=click.Path(path_type=Path),
    help="CSV of the photos that differ most on the last day in alarm, for review.",
)
def drift(scores: Path, against: Path | None, label: str | None, metrics: Path | None, farthest: Path | None) -> None:
    """Say on which days the photos of SCORES differ from the days before."""
    job = read_job(scores)
    jobs = [read_job(against), job] if against else [job]
    if len({one.digest for one in jobs}) > 1:
        raise InvalidInput(f"{scores} and {against} were scored by different models", "score one of them again")
    if against and len({one.manifest_digest for one in jobs}) == 1:
        raise InvalidInput(f"{scores} and {against} are scores of the same photos", "give those of the days before")
    days = measure_days(jobs, label_of(job, label))
    if twice := sum(one.photos for one in jobs) - int(days.photos.sum()):
        note(f"{number_of(twice, 'photo')} of {scores} are in {against} as well, and counted once")
    if len(days.dates) <= MIN_DAYS:
        raise InvalidInput(
            f"the scores cover {number_of(len(days.dates), 'day')}, and a day needs {MIN_DAYS} before it",
            "give --against",
        )
    distances, alarms = find_alarms(days.values, days.sampling)
    show(days, distances, alarms, MEASURES)
    if metrics:
        with writing(metrics):
            write_whole(metrics, as_metrics(days, distances, alarms, MEASURES, 'source="scores"').encode())
    if farthest:
        write_csv(farthest, PHOTO_COLUMNS, photos_of_alarm(jobs, label_of(job, label), days, distances, alarms))


def show(days: Days, distances: Floats, alarms: Flags, measures: Sequence[str]) -> None:
    """Print the days in alarm, and how many days were compared."""
    found = [(int(day), int(measure)) for day, measure in np.argwhere(alarms)]
    if found:
        table = compact_table("day", "measure", "value", "usual distance", "distance")
        for row in alarm_rows(days, distances, alarms, measures)[:50]:
            table.add_row(row["day"], row["measure"], row["value"], f"up to {LIMIT:g}", row["distance"])
        console.print(table)
    judged = int((~np.isnan(distances)).any(axis=1).sum())
    names = ", ".join(sorted({measures[measure] for _, measure in found})) or "none"
    say(f"{number_of(len(days.dates), 'day')}, {judged} of them compared; alarms: {names}")
