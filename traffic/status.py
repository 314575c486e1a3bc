"""What canaries do: python -m traffic status."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from common.cli import command
from common.console import say
from common.files import write_whole, writing
from deploy.settings import read_settings
from traffic import history, record
from traffic.front import route


@command(epilog="Example: python -m traffic status")
def status() -> None:
    """Print state, share and last sentence of each model's canary."""
    settings = read_settings()
    rows = record.read_all(settings.var)
    for row in rows:
        following = route.read(settings.var, row.name)
        percent = route.share(settings.var, following) if following else 0.0
        owner = record.lock(settings.var, row.name).owner()
        process = f"process {owner.pid}" if owner else "no process"
        say(f"{row.name} {row.version}: {row.state}, {percent:g} % of the requests, {process}: {row.why}")
    if not rows:
        say("no canary has been run")


@command(epilog="Example: python -m traffic verdict --json")
@click.option("--json", "as_json", is_flag=True, help="Print every count and every comparison as JSON.")
@click.option("--chart", type=click.Path(path_type=Path), help="Write a picture of the last canary to this SVG file.")
def verdict(as_json: bool, chart: Path | None) -> None:
    """Print the last verdict of each model's canary."""
    var = read_settings().var
    rows = record.read_all(var)
    if chart and rows:
        last = max(rows, key=lambda row: row.ends)
        title = f"canary of {last.name} {last.version}: {last.state}"
        with writing(chart):
            write_whole(chart, history.picture(history.read(var, last.name), title).encode())
    for row in rows:
        say(
            json.dumps(asdict(row), indent=2, ensure_ascii=False) if as_json else f"{row.name} {row.version}: {row.why}"
        )
