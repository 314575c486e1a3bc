"""Accounts of people and tokens of machines.

    python -m feedback user add ann --role reviewer
    python -m feedback user list
    python -m feedback user token trainer --scope nightly

An uploader uploads and corrects, a reviewer also judges other people's photos, an admin may do everything. A token is
printed once; only its digest is stored.
"""

import click

from common.cli import command
from common.console import say
from feedback.accounts.people import People
from feedback.accounts.roles import ROLES, SCOPES
from feedback.settings import read_settings
from feedback.storage.database import Database


@click.group(epilog="Example: python -m feedback user add ann --role reviewer")
def user() -> None:
    """Add and list the accounts of people, and tokens of machines."""


@command(name="add", epilog="Example: python -m feedback user add ann --role reviewer")
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), default=ROLES[0], show_default=True, help="What the account may do.")
@click.password_option(help="At least 10 characters.  [default: asked for]")
def _add(name: str, role: str, password: str) -> None:
    """Add the account NAME."""
    person = People(Database(read_settings().database)).add(name, role, password)
    say(f"added {person.name} ({person.role})")


@command(name="list", epilog="Example: python -m feedback user list")
def _list() -> None:
    """List all accounts."""
    for person in People(Database(read_settings().database)).listed():
        say(f"{person.name}\t{person.role}")


@command(name="token", epilog="Example: python -m feedback user token trainer --scope nightly")
@click.argument("name")
@click.option("--scope", type=click.Choice(list(SCOPES)), required=True, help="What the machine may do.")
def _token(name: str, scope: str) -> None:
    """Print a new token for the machine NAME."""
    click.echo(People(Database(read_settings().database)).add_token(name, scope))


for _command in (_add, _list, _token):
    user.add_command(_command)
