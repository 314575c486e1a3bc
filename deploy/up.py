"""Serve in the background.

    make up        make down

`up` does what `serve` does (deploy/serve.py), returns when real predictions are right, and leaves supervisord
running TorchServe and the keeper. `down` stops whatever runs there, of `make up` or `make serve`.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from common.cli import command
from common.errors import UserError
from deploy.host.locks import LockHeld, Owner, OwnerKind, deployment_lock, server_lock
from deploy.host.processes import group_of_server
from deploy.serve import prepare, what_to_serve
from deploy.settings import Settings, read_settings
from deploy.supervision.lifecycle import launch, stop, stop_children, wait_until_ready
from deploy.supervision.supervisor import BACKGROUND, FOREGROUND, starting, supervisor_of
from deploy.torchserve.example import announce

START_S = 60  # it may have to pack an archive, and to copy it
SUCCESSOR_S = 5  # the keeper starts another supervisord in the place of one that died


@command(epilog="Example: python -m deploy up --bundle models/classroom")
@what_to_serve
def up(bundle: Path, version: str | None) -> None:
    """Serve a recipe's archive in the background; returns when it answers rightly."""
    settings, started = read_settings(), time.monotonic()
    try:
        with starting(settings, BACKGROUND):
            entry = prepare(settings, bundle, version)
            supervisor = launch(settings, BACKGROUND)
        ready = wait_until_ready(settings, supervisor)
    except BaseException:
        stop_children(settings)
        raise
    announce(settings, entry, ready, started, "make down stops it.")


@command(epilog="Example: python -m deploy down")
@click.option("--now", is_flag=True, help="Also while a version is being rolled out or back, which then fails.")
def down(now: bool) -> None:
    """Stop the server; returns when no process of it is left."""
    settings = read_settings()
    _let_it_start(settings)
    owner = _server(settings)
    if owner is None and group_of_server(settings.var) is None:
        return click.echo(f"nothing is running in {settings.var}")
    with _no_deployment(settings, now):
        click.echo(f"stopping {owner or 'a TorchServe that was left over'} ...", err=True)
        stop(settings, supervisor_of(settings))
    left = server_lock(settings.var).owner()
    if left or group_of_server(settings.var):
        raise UserError(f"{left or 'TorchServe'} is still there: run this again, or see {settings.var}/logs")
    return click.echo("stopped: no process is left")


def _let_it_start(settings: Settings) -> None:
    """Wait until a server that is being started has processes which can be stopped.

    Raises:
        UserError: it takes long, naming who starts it.
    """
    deadline = time.monotonic() + START_S
    while (owner := deployment_lock(settings.var).owner()) and owner.kind in (BACKGROUND, FOREGROUND):
        if time.monotonic() > deadline:
            raise UserError(f"{owner} is still preparing a start: run this again, or end that process")
        time.sleep(0.1)


def _server(settings: Settings) -> Owner | None:
    """Who serves; one that died a moment ago has a successor in a moment."""
    lock = server_lock(settings.var)
    deadline = time.monotonic() + SUCCESSOR_S
    while (owner := lock.owner()) is None and lock.dead_owner() and time.monotonic() < deadline:
        time.sleep(0.1)
    return owner


@contextmanager
def _no_deployment(settings: Settings, now: bool) -> Iterator[None]:
    """Let no rollout begin while all is being stopped. A repair of the keeper's may be cut off: a start does it again.

    Raises:
        UserError: a rollout or the like is at work, naming it.
    """
    try:
        with deployment_lock(settings.var).hold(OwnerKind.DOWN):
            yield
    except LockHeld as error:
        if not now and error.owner.kind is not OwnerKind.REPAIR:
            raise UserError(
                f"{error.message}: wait for it, or stop all the same with python -m deploy down --now"
            ) from error
        yield
