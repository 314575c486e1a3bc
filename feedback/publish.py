"""Serve the archives that nights have packed, so that the serving machine can download them.

    python -m feedback publish --host 10.0.0.7

serves the files of runs/nightly/archives on port 8181, read-only and without listing the folder. On the serving machine
set FEEDBACK_LINKS=http://10.0.0.7:8181; `nightly` gets --publish http://10.0.0.7:8181. What is served is signed, not
secret.
"""

from pathlib import Path

import click
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from common.cli import command
from common.console import say

PORT = 8181
"""As in the pets document."""


@command(epilog="Example: python -m feedback publish --host 10.0.0.7")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=PORT, show_default=True, type=click.IntRange(1, 65535))
@click.option("--work", default=Path("runs/nightly"), show_default=True, type=click.Path(path_type=Path))
def publish(host: str, port: int, work: Path) -> None:
    """Serve the archives of the nights to the serving machine, until Ctrl-C."""
    folder = work / "archives"
    say(f"{folder}: http://{host}:{port}")
    uvicorn.run(application(folder), host=host, port=port, log_level="warning", server_header=False)


def application(folder: Path) -> Starlette:
    """The files of a folder, which may not exist yet."""
    return Starlette(routes=[Mount("/", StaticFiles(directory=folder, check_dir=False))])
