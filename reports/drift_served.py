"""Compare each day of a node's requests with the 28 days before, and say what changed.

    python -m reports drift-served var/logs --counts var/drift.json --metrics /var/lib/node_exporter/drift.prom

Run it every day, for example by cron: the request log is rotated, so the counts of each day are kept in --counts. The
log holds neither photos nor their ids, but the answer, brightness and contrast of each photo, so nearly the same
measures are compared as in scores. --farthest lists the requests that differ most. After a change that is to stay,
--since DATE makes the days from it the new base.
"""

import contextlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import click

from common.cli import command
from common.console import say
from common.errors import InvalidInput, UserError
from common.files import write_whole, writing
from common.words import number_of
from config.recipe import read_recipe
from reports.counting.alarms import FARTHEST, as_metrics
from reports.counting.daily import bases_of, read_counts, write_counts
from reports.counting.served import MEASURES, read_log
from reports.counting.served import farthest as most_different
from reports.drift import show
from reports.manifest.dates import CHINA
from reports.manifest.spreadsheet import write_csv
from reports.shares.drift import MIN_DAYS, find_alarms, last_alarm


@command(name="drift-served", epilog="Example: python -m reports drift-served var/logs --counts var/drift.json")
@click.argument("logs", type=click.Path(file_okay=False, exists=True, path_type=Path))
@click.option("--counts", required=True, type=click.Path(dir_okay=False, path_type=Path), help="File of daily counts.")
@click.option("--model", default="classroom", show_default=True, help="Name under which the model is served.")
@click.option("--label", help="Label whose share is compared.  [default: the last of the recipe]")
@click.option(
    "--since",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="DATE",
    help="Ignore the days before, for example before a change that is to stay.",
)
@click.option("--metrics", type=click.Path(path_type=Path), help="File for Prometheus' textfile collector.")
@click.option(
    "--farthest", type=click.Path(path_type=Path), help="CSV of the requests that differ most on the last day in alarm."
)
def drift_served(
    logs: Path, counts: Path, model: str, label: str | None, since: datetime | None, metrics: Path | None,
    farthest: Path | None,
) -> None:  # fmt: skip
    """Say on which days the requests in LOGS differ from the days before. Today is not over, so it is left out."""
    labels = _labels_of(model, label)
    kept, now = read_counts(counts, model), datetime.now(CHINA)
    kept.add(read_log(logs, model))
    write_counts(counts, kept)
    label = label or labels[-1]
    kept.require_label(label, labels)
    measured = kept.measured(label, now.date(), since.date() if since else None)
    if len(measured.dates) <= MIN_DAYS and not since:
        size = number_of(len(measured.dates), "full day")
        raise InvalidInput(f"{counts} covers {size}, and a day needs {MIN_DAYS} before it", "run this every day")
    versions = kept.versions(measured.dates)
    distances, alarms = find_alarms(measured.values, measured.sampling, bases_of(versions))
    show(measured, distances, alarms, MEASURES)
    _say_short(versions)
    if metrics:
        with writing(metrics):
            series = f'source="served",model="{model}"'
            write_whole(metrics, as_metrics(measured, distances, alarms, MEASURES, series, now).encode())
    if farthest:
        found = last_alarm(measured.values, distances, alarms)
        rows = most_different(logs, model, label, measured.dates[found[0]], *found[1:], FARTHEST) if found else []
        write_csv(farthest, ("time", "request_id", "client_request_id", "measure", "value"), rows)


def _say_short(versions: Sequence[str]) -> None:
    """Say that the last version has too few days to compare its answers."""
    own = versions.count(versions[-1]) if versions else 0
    if own <= MIN_DAYS:
        of = f" of version {versions[-1]}" if versions else ""
        say(f"{number_of(own, 'day')}{of}: answers are compared after {MIN_DAYS}, photos with those of all versions")


def _labels_of(model: str, label: str | None) -> tuple[str, ...]:
    """The labels of the recipe; none if there is no recipe of this name and a label is given."""
    with contextlib.nullcontext() if label is None else contextlib.suppress(UserError):
        return read_recipe(model).labels
    return ()
