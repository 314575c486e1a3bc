"""Stop a canary: python -m traffic stop --why "complaints". Takes effect at once, whether or not its process runs."""

import click

from common.cli import command
from common.console import say
from deploy.settings import read_settings
from traffic import record
from traffic.canary import end_share, stop_now


@command(epilog="Example: python -m traffic stop --why 'teachers complain'")
@click.option("--why", required=True, help="The reason, for the record.")
def stop(why: str) -> None:
    """Give the candidate no more requests, and retire it. If it cannot be retired now, run this again later."""
    settings = read_settings()
    found = record.the_active(settings.var)
    end_share(settings, found, why)
    if record.lock(settings.var, found.name).owner() is None:  # otherwise its process retires it
        stop_now(settings, found, why)
    say(f"{found.name} {found.version} gets no more requests")
