"""Ask the scores questions in the browser: Datasette, read-only, on this machine only.

    .venv/bin/python -m pip install -r requirements/explore.txt
    python -m reports explore scores/march

copies the scores into scores/march/explore/scores.db and serves it until Ctrl-C. Filter, group, write SQL, and download
any answer as CSV or JSON.
"""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

import click

from common.cli import command
from common.console import say
from common.errors import NotFound
from common.words import number_of
from reports.counting.database import export
from reports.scoring.job import read_job

LOCAL = "127.0.0.1"


@command(epilog="Example: python -m reports explore scores/1")
@click.argument("scores", type=click.Path(file_okay=False, path_type=Path))
@click.option("--port", default=8091, show_default=True, type=click.IntRange(1, 65535))
@click.option("--only-export", is_flag=True, help="Write the database and stop.")
def explore(scores: Path, port: int, only_export: bool) -> None:
    """Serve SCORES with Datasette."""
    job = read_job(scores)
    if not only_export and importlib.util.find_spec("datasette") is None:
        raise NotFound("datasette is not installed", "run .venv/bin/python -m pip install -r requirements/explore.txt")
    folder = scores / "explore"
    database = folder / "scores.db"
    if not database.exists() or database.stat().st_mtime < max(map(_changed, job.folder.glob("parts/*.parquet"))):
        shutil.rmtree(folder, ignore_errors=True)
        database = export(job, folder)
    say(f"{database}: {number_of(job.photos, 'row')}")
    if not only_export:
        os.execv(sys.executable, [sys.executable, *words(database, port)])


def words(database: Path, port: int) -> list[str]:
    """The arguments of Python that serve a database read-only: immutable, on loopback, no files for download."""
    settings = ["--setting", "allow_download", "off", "--setting", "sql_time_limit_ms", "10000"]
    return ["-m", "datasette", "serve", "--immutable", str(database), "--host", LOCAL, "--port", str(port), *settings]


def _changed(path: Path) -> float:
    return path.stat().st_mtime
