"""Compare each day of a node's requests with the 28 days before, and say what changed.

    python -m reports drift-served var/logs --counts var/drift.json --metrics /var/lib/node_exporter/drift.prom

Run it every day, for example by cron: the request log is rotated, so the counts of each day are kept in --counts. The
log holds neither photos nor their ids, but the answer, brightness and contrast of each photo, so nearly the same
measures are compared as in scores. --farthest lists the requests that differ most.
"""

import json
from datetime import date, datetime
from pathlib import Path

import click

from common.cli import command
from common.errors import InvalidInput
from common.files import write_json, write_whole, writing
from common.words import number_of
from config.recipe import read_recipe
from reports.counting.alarms import FARTHEST, as_metrics
from reports.counting.served import MEASURES, Day, as_content, as_days, from_content, merged, read_log
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
@click.option("--metrics", type=click.Path(path_type=Path), help="File for Prometheus' textfile collector.")
@click.option(
    "--farthest", type=click.Path(path_type=Path), help="CSV of the requests that differ most on the last day in alarm."
)
def drift_served(
    logs: Path, counts: Path, model: str, label: str | None, metrics: Path | None, farthest: Path | None
) -> None:
    """Say on which days the requests in LOGS differ from the days before. Today is not over, so it is left out."""
    label = label or read_recipe(model).labels[-1]
    days = merged(_kept(counts), read_log(logs, model))
    with writing(counts):
        write_json(counts, as_content(days))
    measured = as_days(days, label, datetime.now(CHINA).date())
    if len(measured.dates) <= MIN_DAYS:
        size = number_of(len(measured.dates), "full day")
        raise InvalidInput(f"{counts} covers {size}, and a day needs {MIN_DAYS} before it", "run this every day")
    distances, alarms = find_alarms(measured.values, measured.sampling)
    show(measured, distances, alarms, MEASURES)
    if metrics:
        with writing(metrics):
            write_whole(metrics, as_metrics(distances, alarms, MEASURES, f',source="served",model="{model}"').encode())
    if farthest:
        found = last_alarm(measured.values, distances, alarms)
        rows = most_different(logs, model, label, measured.dates[found[0]], *found[1:], FARTHEST) if found else []
        write_csv(farthest, ("time", "request_id", "client_request_id", "measure", "value"), rows)


def _kept(path: Path) -> dict[date, Day]:
    try:
        return from_content(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{path} is not a file of daily counts ({error})", "give another --counts") from error
