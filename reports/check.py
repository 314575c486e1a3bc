"""Say what is wrong with a manifest, row by row, before anything is computed.

    python -m reports check posts.csv

A manifest is a CSV, TSV or Parquet table with photo_id, path or url, institution, region, published_at and any other
columns; or a folder whose file names follow --pattern.
"""

from pathlib import Path

import click
from rich.markup import escape

from common.cli import command
from common.console import compact_table, console, say
from common.errors import CheckFailed
from common.words import number_of
from reports.manifest.checking import Findings
from reports.manifest.folders import PATTERN
from reports.manifest.opening import open_manifest

_SHOWN = 50


@command(epilog="Example: python -m reports check drawn/manifest.csv")
@click.argument("manifest", type=click.Path(path_type=Path))
@click.option("--pattern", default=PATTERN, show_default=True, help="File names of a folder, without extension.")
@click.option("--published-at", default="", help="Date of all photos of a folder.  [default: of each file]")
def check(manifest: Path, pattern: str, published_at: str) -> None:
    """Check MANIFEST: a table, or a folder of photos. Exit code 1 if a row must be corrected."""
    opened = open_manifest(manifest, pattern, published_at)
    for _ in opened.entries():
        pass
    show(opened.findings)
    if opened.findings.errors:
        raise refused(manifest, opened.findings)
    photos, warnings = number_of(opened.findings.rows, "photo"), number_of(opened.findings.warnings, "warning")
    say(f"{manifest}: {photos}, {warnings}. Ready to be scored.")


def show(findings: Findings) -> None:
    """Print the first problems as a table, and the names of unknown regions."""
    if findings.problems:
        table = compact_table("row", "column", "kind", "problem")
        for problem in sorted(findings.problems, key=lambda problem: not problem.error)[:_SHOWN]:
            kind = "error" if problem.error else "warning"
            table.add_row(str(problem.row or ""), escape(problem.column), kind, escape(problem.text))
        console.print(table)
    left = findings.errors + findings.warnings - min(len(findings.problems), _SHOWN)
    if left:
        say(f"... and {left} more")
    if findings.unknown_regions:
        names = ", ".join(f"{name or '(empty)'} ({count})" for name, count in findings.unknown_regions.most_common(20))
        say(f"unknown regions: {names}")


def refused(manifest: Path, findings: Findings) -> CheckFailed:
    """The error for a manifest with errors."""
    errors, rows = number_of(findings.errors, "error"), number_of(findings.rows, "row")
    return CheckFailed(f"{manifest} has {errors} in {rows}", "correct what the table names")
