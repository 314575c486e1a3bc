"""Stop a canary: python -m traffic stop --why "complaints". Takes effect at once, whether or not its process runs."""

import click

from common.cli import command
from common.console import say
from deploy.settings import read_settings
from traffic import record
from traffic.canary import stop_now
from traffic.front import route
from traffic.record import State


@command(epilog="Example: python -m traffic stop --why 'teachers complain'")
@click.option("--why", required=True, help="The reason, for the record.")
def stop(why: str) -> None:
    """Give the candidate no more requests, and retire it."""
    settings = read_settings()
    found = record.the_active(settings.var)
    record.write(settings.var, found.changed(state=State.STOPPED, percent=0.0, why=why))
    route.end(settings.var, found.name)
    if record.lock(settings.var, found.name).owner() is None:  # otherwise its process retires it
        stop_now(settings, found, why)
    say(f"{found.name} {found.version} gets no more requests")
