"""Print a key of the running server: python -m deploy token."""

import click

from common.cli import command
from deploy.settings import read_settings
from deploy.torchserve.keys import read_key


@command(epilog='Example: curl -H "Authorization: Bearer $(python -m deploy token)" http://127.0.0.1:8080/ping')
@click.option(
    "--kind",
    type=click.Choice(["inference", "management"]),
    default="inference",
    show_default=True,
    help="inference: predictions. management: registering and removing versions.",
)
def token(kind: str) -> None:
    """Print the token of the running server."""
    click.echo(read_key(read_settings().var, kind))
