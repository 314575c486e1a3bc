"""The changes of versions: python -m deploy history [--json]."""

import json
from collections.abc import Iterable

import click
from rich.table import Table
from rich.text import Text

from common.cli import command
from common.console import console, say
from deploy.settings import read_settings
from deploy.store.journal import JournalEntry, entries


@command(epilog="Example: python -m deploy history --limit 5")
@click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(1), help="Number of changes to show, the latest."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list, oldest first, instead of a table.")
def history(limit: int, as_json: bool) -> None:
    """List rollouts, rollbacks, retirements and the keeper's repairs; the last one is at the bottom."""
    rows = entries(read_settings().var)[-limit:]
    if as_json:
        say(json.dumps([entry.to_json() for entry in rows], indent=2, ensure_ascii=False))
    elif rows:
        console.print(history_table(rows))
    else:
        say("no version has been changed yet: roll one out with python -m deploy rollout")


def history_table(rows: Iterable[JournalEntry]) -> Table:
    """When, what, and how it went; long texts wrap, so that nothing is cut in 80 columns."""
    table = Table()
    table.add_column("started", no_wrap=True)
    table.add_column("change", overflow="fold")
    table.add_column("result", overflow="fold", ratio=1)
    for entry in rows:
        table.add_row(entry.started[:19].replace("T", " "), Text(_change(entry)), Text(_result(entry)))
    return table


def _change(entry: JournalEntry) -> str:
    former = f"{entry.previous} -> " if entry.previous else ""
    return f"{entry.action}\n{entry.name} {former}{entry.version}"


def _result(entry: JournalEntry) -> str:
    steps = ", ".join(f"{step.name}{_seconds(step.seconds)}" for step in entry.steps)
    why = f"reason: {entry.why}" if entry.why else ""
    result = f"{entry.state}{_seconds(entry.seconds)}, by {entry.who}"
    return "\n".join(text for text in (result, why, steps, entry.error) if text)


def _seconds(value: float | None) -> str:
    return " (not ended)" if value is None else f" {value:.2f} s"
