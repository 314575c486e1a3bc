"""End a canary early, in favour of the candidate: python -m traffic promote."""

import click

from common.cli import command
from common.errors import Busy
from deploy.settings import read_settings
from traffic import record
from traffic.canary import promote_now
from traffic.record import State


@command(epilog="Example: python -m traffic promote --why 'both labels looked at'")
@click.option("--why", default="promoted by hand", help="The reason, for the history.")
def promote(why: str) -> None:
    """Make the candidate the default. Stop the process of its canary with Ctrl-C first."""
    settings = read_settings()
    found = record.the_active(settings.var)
    if found.state is State.STOPPING:
        raise Busy(
            f"{found.name} {found.version} is being stopped", "complete it with python -m traffic stop --why ..."
        )
    owner = record.lock(settings.var, found.name).owner()
    if owner:
        raise Busy(f"{owner} is running", "stop it with Ctrl-C: the candidate keeps its share, then run this again")
    promote_now(settings, found, why)
