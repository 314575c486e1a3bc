"""Keys of the training machine: it signs what it publishes, and the serving machine trusts its public key.

    python -m feedback keys make trainer.key       on the training machine; prints the public key
    python -m feedback keys trust KEY              on the serving machine
    python -m feedback keys show                   the keys that the serving machine trusts

Without a trusted key nothing is downloaded.
"""

from pathlib import Path

import click

from common.cli import command
from common.console import say
from feedback.delivery.keys import distrust, make_key, read_key, text_of, trust, trusted
from feedback.settings import read_settings


@click.group(epilog="Example: python -m feedback keys make trainer.key")
def keys() -> None:
    """Make, show and trust the keys that sign archives."""


@command(name="make", epilog="Example: python -m feedback keys make trainer.key")
@click.argument("file", type=click.Path(path_type=Path))
def _make(file: Path) -> None:
    """Write a new private key to FILE and print its public key."""
    click.echo(make_key(file))
    say("next, on the serving machine: python -m feedback keys trust KEY, with the line above")


@command(name="show", epilog="Example: python -m feedback keys show trainer.key")
@click.argument("file", type=click.Path(path_type=Path), required=False)
def _show(file: Path | None) -> None:
    """Print the public key of the private key FILE; without FILE the keys that are trusted here."""
    lines = (text_of(read_key(file).public_key()),) if file else trusted(read_settings().folder)
    for line in lines:
        click.echo(line)
    if not lines:
        say("no key is trusted: nothing is downloaded")


@command(name="trust", epilog="Example: python -m feedback keys trust 5eYYnm1zqWxGP0fcLR1LgiSUyzsjwLxsyYXhA5IV2w4=")
@click.argument("key")
@click.option("--remove", is_flag=True, help="Trust it no longer.")
def _trust(key: str, remove: bool) -> None:
    """Trust archives that were signed with the private half of the public KEY."""
    (distrust if remove else trust)(read_settings().folder, key)
    say("it is trusted no longer" if remove else "archives that it signed are rolled out from now on")


for _command in (_make, _show, _trust):
    keys.add_command(_command)
