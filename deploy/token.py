"""The keys that TorchServe writes at each start into var/key_file.json."""

import json
from pathlib import Path

import click

from common.cli import command
from common.errors import UserError
from deploy.settings import read_settings


@command(epilog='Example: curl -H "Authorization: Bearer $(python -m deploy token)" http://127.0.0.1:8080/ping')
@click.option("--kind", type=click.Choice(["inference", "management"]), default="inference", show_default=True)
def token(kind: str) -> None:
    """Print the token of the running server."""
    click.echo(read_key(read_settings().var, kind))


def read_key(var: Path, kind: str) -> str:
    """Read a key: `inference` or `management`.

    Raises:
        UserError: no server has written one.
    """
    path = var / "key_file.json"
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))[kind]["key"])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} has no {kind} key: is the server running? Start it with make serve") from error
