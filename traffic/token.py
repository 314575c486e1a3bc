"""The token of a client of the front: python -m traffic token."""

import click

from common.cli import command
from common.errors import InvalidInput
from deploy.settings import read_settings
from traffic.front import tokens


@command(epilog="Example: python -m traffic token data-team --add")
@click.argument("client", default=tokens.FIRST)
@click.option("--add", is_flag=True, help="Make a token for a new client.")
@click.option("--remove", is_flag=True, help="Remove the client's token; its requests are refused from then on.")
def token(client: str, add: bool, remove: bool) -> None:
    """Print the token of CLIENT for the front (ports 8086 and 8087).

    The first start of the front makes one for the client "default". A running front follows within two seconds.
    """
    settings = read_settings()
    var, given = settings.var, settings.front.tokens
    if given and (remove or add):
        raise InvalidInput(f"the tokens are those of {given} (SERVE_FRONT_TOKENS)", "change that file")
    if remove:
        tokens.remove(var, client)
    elif add:
        click.echo(tokens.add(var, client))
    else:
        known = tokens.of(settings) if given else tokens.read(var)
        if client not in known:
            raise tokens.unknown(client, known)
        click.echo(known[client])
