"""What was done to versions: when, which, who, why, how long each step took.

python -m deploy history [--json]
"""

import json

import click

from common.cli import command
from deploy.settings import read_settings
from deploy.store.journal import JournalEntry, entries


@command(epilog="Example: python -m deploy history --limit 5")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="The last so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON list, oldest first, instead of lines.")
def history(limit: int, as_json: bool) -> None:
    """Rollouts, rollbacks, retirements and the keeper's repairs, the last one below."""
    rows = entries(read_settings().var)[-limit:]
    if as_json:
        click.echo(json.dumps([entry.to_json() for entry in rows], indent=2, ensure_ascii=False))
        return
    for entry in rows:
        click.echo(_line(entry))
    if not rows:
        click.echo("nothing was done yet: python -m deploy rollout")


def _line(entry: JournalEntry) -> str:
    former = f"{entry.previous} -> " if entry.previous else ""
    words = [
        entry.started,
        f"{entry.action:<9}",
        f"{entry.name} {former}{entry.version}",
        f"{entry.state}{_seconds(entry.seconds)}",
        f"by {entry.who}",
        *([f"because {entry.why!r}"] if entry.why else []),
    ]
    steps = ", ".join(f"{step.name}{_seconds(step.seconds)}" for step in entry.steps)
    details = "".join(f"\n    {text}" for text in (steps, entry.error) if text)
    return "  ".join(words) + details


def _seconds(value: float | None) -> str:
    return " (not ended)" if value is None else f" {value:.2f} s"
