"""Serve in the background.

    make up        make down

`up` does what `serve` does (deploy/serve.py), returns when predictions are correct, and leaves supervisord running
TorchServe and the keeper. `down` stops the server of `make up` or of `make serve`. Both act on all nodes of
config/nodes.yaml; `up` starts those that do not run.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from common.cli import command
from common.console import note, say
from common.errors import Busy, UserError
from deploy.host.locks import LockHeld, Owner, OwnerKind, deployment_lock, server_lock
from deploy.host.nodes import NodeSettings, environment, others
from deploy.host.processes import group_of_server
from deploy.serve import announce, prepare, what_to_serve
from deploy.settings import ROOT, Settings, read_settings
from deploy.supervision.lifecycle import launch, stop, stop_children, wait_until_ready
from deploy.supervision.supervisor import BACKGROUND, FOREGROUND, starting, supervisor_of
from deploy.torchserve.management import Client, drain

START_S = 60  # a start may have to pack and copy an archive first
GATE_S = 0.5  # after this the front has noticed
IDLE_S = 10.0
SUCCESSOR_S = 5  # after a supervisord died, the keeper starts another


@command(epilog="Example: python -m deploy up --bundle models/classroom")
@what_to_serve
def up(bundle: Path, version: str | None) -> None:
    """Serve a recipe's archive in the background; returns when it answers correctly."""
    settings, started = read_settings(), time.monotonic()
    away = [node for node in others(settings) if server_lock(node.settings.var).owner() is None]
    if away and server_lock(settings.var).owner():
        on_nodes(away, "up", "--bundle", str(bundle))
        return say(f"{', '.join(node.name for node in away)}: started again; the first node was running")
    try:
        with starting(settings, BACKGROUND):
            entry = prepare(settings, bundle, version)
            supervisor = launch(settings, BACKGROUND)
        ready = wait_until_ready(settings, supervisor)
    except BaseException:
        stop_children(settings)
        raise
    on_nodes(away, "up", "--bundle", str(bundle))
    return announce(settings, entry, ready, started, "make down stops it.")


@command(epilog="Example: python -m deploy down")
@click.option("--now", is_flag=True, help="Stop even during a rollout or a rollback, which then fails.")
def down(now: bool) -> None:
    """Stop the server; returns when no process of it is left."""
    settings = read_settings()
    on_nodes(others(settings), "down", *(["--now"] if now else []))
    _let_it_start(settings)
    owner = _server(settings)
    if owner is None and group_of_server(settings.var) is None:
        return say(f"nothing is running in {settings.var}")
    with _no_deployment(settings, now):
        note(f"stopping {owner or 'a TorchServe without a supervisor'} ...")
        if settings.follows and not now:
            _answer_what_is_left(settings)
        stop(settings, supervisor_of(settings))
    left = server_lock(settings.var).owner()
    if left or group_of_server(settings.var):
        raise UserError(f"{left or 'TorchServe'} is still running", f"run this again, or see {settings.var}/logs")
    return say("stopped: no process is left")


def on_nodes(further: Iterable[NodeSettings], *words: str) -> None:
    """Run a command of this package for further nodes of config/nodes.yaml.

    Raises:
        UserError: it failed for a node, which is named.
    """
    for node in further:
        note(f"{node.name}:")
        env = {**os.environ, **environment(node.settings)}
        done = subprocess.run(
            [sys.executable, "-m", "deploy", *words], cwd=ROOT, env=env, stdout=sys.stderr, check=False
        )
        if done.returncode:
            raise UserError(
                f"{node.name}: deploy {words[0]} failed", f"see the message above and {node.settings.var}/logs"
            )


def _answer_what_is_left(settings: Settings) -> None:
    """The front sees our lock and sends this node nothing more (traffic/front/gate.py); wait until it is idle.

    TorchServe does not wait when it is stopped: a request that a worker is computing would get a 500.
    """
    time.sleep(GATE_S)
    client = Client(settings)
    with contextlib.suppress(UserError):  # it may be dead
        for row in client.models():
            drain(client, row["modelName"], row["modelVersion"], IDLE_S)


def _let_it_start(settings: Settings) -> None:
    """If a server is starting, wait until it has processes that can be stopped.

    Raises:
        Busy: it takes too long, naming the process.
    """
    deadline = time.monotonic() + START_S
    while (owner := deployment_lock(settings.var).owner()) and owner.kind in (BACKGROUND, FOREGROUND):
        if time.monotonic() > deadline:
            raise Busy(f"{owner} is still preparing to start", "run this again, or end that process")
        time.sleep(0.1)


def _server(settings: Settings) -> Owner | None:
    """The owner of the server lock; if a supervisord has just died, waits for the next one."""
    lock = server_lock(settings.var)
    deadline = time.monotonic() + SUCCESSOR_S
    while (owner := lock.owner()) is None and lock.dead_owner() and time.monotonic() < deadline:
        time.sleep(0.1)
    return owner


@contextmanager
def _no_deployment(settings: Settings, now: bool) -> Iterator[None]:
    """Hold the deployment lock, so that no rollout begins meanwhile. A repair is interrupted: a start repeats it.

    Raises:
        Busy: a rollout or another change is in progress, naming it.
    """
    try:
        with deployment_lock(settings.var).hold(OwnerKind.DOWN):
            yield
    except LockHeld as error:
        if not now and error.owner.kind is not OwnerKind.REPAIR:
            raise Busy(error.problem, "wait for it, or stop anyway with python -m deploy down --now") from error
        yield
