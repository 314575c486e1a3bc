"""One change of what is served: alone at work, step by step, told to people and to the journal.

Rollout, rollback and retirement share this frame. TorchServe is changed first and the manifest
(`var/served.json`) right after; whatever dies in between, the keeper puts back what the manifest says.
"""

import contextlib
import errno
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import click
from rich.console import Console

from common.errors import UserError
from deploy.host.locks import Lock, LockHeld, OwnerKind, deployment_lock
from deploy.host.processes import interruptible
from deploy.settings import Settings
from deploy.store import desired
from deploy.store.desired import Entry
from deploy.store.journal import DONE, FAILED, REFUSED, Journal
from deploy.torchserve.drain import drain
from deploy.torchserve.management import Client
from deploy.torchserve.probes import first_question

_NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
KEEPER_S = 120.0
"""How long a person's command waits for a repair of the keeper's: it may be starting a worker."""


class Deployment:
    """A change at work on one node."""

    def __init__(self, settings: Settings, journal: Journal, quiet: bool = False) -> None:
        self.settings = settings
        self.client = Client(settings)
        self.journal = journal
        self.quiet = quiet

    @contextmanager
    def step(self, name: str) -> Iterator[dict[str, Any]]:
        """One step: shown while it runs, then printed with its time and its `note`."""
        with self.journal.step(name) as step, Console(stderr=True).status(f"{name} ..."):
            yield step
        if not self.quiet:
            click.echo(f"{name:<10}{step['seconds']:8.2f} s  {step.get('note', '')}".rstrip())

    def drained(self, entry: Entry) -> bool:
        """Wait until a version rests, at most as long as one request may take."""
        limit = float(self.settings.properties["default_response_timeout"])
        question = first_question(self.settings, entry)
        return drain(self.client, entry.name, entry.version, limit, question.body if question else None)

    def take_out(self, entry: Entry) -> None:
        """Strike a drained version from the manifest, unregister it, and see that its archive is still there.

        Raises:
            UserError: TorchServe refused, or its archive has gone from the store.
        """
        before = desired.read(self.settings.var)
        entries = [other for other in before if (other.name, other.version) != (entry.name, entry.version)]
        desired.write(self.settings.var, entries)  # first: a keeper that comes between must not restore it
        try:
            if self.client.describe(entry.name, entry.version):
                self.client.unregister(entry.name, entry.version)
        except UserError:
            desired.write(self.settings.var, before)
            raise
        if not (self.settings.store / entry.archive).is_file():
            back = desired.put_back(self.settings.var, entry.archive, self.settings.store)
            what = "it was put back from its copy" if back else "no copy of it is left: pack it again if it is wanted"
            raise UserError(f"{entry.archive} went from the store with its version: {what}")
        desired.drop_copies(self.settings.var, entries)


@contextmanager
def deployment(
    settings: Settings, action: str, name: str, version: str, quiet: bool = False, **facts: Any
) -> Iterator[Deployment]:
    """Be the only one who changes versions, and write down how it went.

    Raises:
        UserError: another is at work, nothing is running, or the change was refused or failed.
    """
    with at_work(settings, OwnerKind(action), f"{name} {version}"):
        Client(settings).describe(name)  # nothing is journalled where no server is
        try:
            journal = Journal(settings.var, action, name, version, **facts)
        except OSError as error:
            raise full(settings, error) from error
        with interruptible(), _closed(settings, journal):
            yield Deployment(settings, journal, quiet)


@contextmanager
def at_work(settings: Settings, kind: OwnerKind, subject: str) -> Iterator[None]:
    """Hold the deployment lock; a repair of the keeper's is waited for, another person's change is not.

    Raises:
        UserError: naming who is at work.
    """
    with ExitStack() as stack:
        try:
            _take(stack, deployment_lock(settings.var), kind, subject)
        except LockHeld as error:
            raise UserError(f"{error.message}: run this again when it is over") from error
        yield


def _take(stack: ExitStack, lock: Lock, kind: OwnerKind, subject: str) -> None:
    try:
        stack.enter_context(lock.hold(kind, subject))
    except LockHeld as error:
        if error.owner.kind is not OwnerKind.REPAIR:
            raise
        click.echo(f"waiting for the {error.owner} ...", err=True)
        stack.enter_context(lock.hold(kind, subject, KEEPER_S))


@contextmanager
def _closed(settings: Settings, journal: Journal) -> Iterator[None]:
    """Close the journal whatever happens; what a person can mend becomes one line."""
    try:
        yield
        journal.end(DONE)
    except Refused as error:
        journal.end(REFUSED, error.message)
        raise
    except UserError as error:
        journal.end(FAILED, error.message)
        raise
    except KeyboardInterrupt as error:
        journal.end(FAILED, "interrupted")
        raise UserError("interrupted: run the same command again, it goes on") from error
    except Exception as error:
        with contextlib.suppress(OSError):
            journal.end(FAILED, repr(error))
        if isinstance(error, OSError):
            raise full(settings, error) from error
        raise


class Refused(UserError):
    """A version was not taken: the old one serves on, and nothing new is registered."""


def full(settings: Settings, error: OSError) -> UserError:
    """What cannot be written or has gone, as one line."""
    where, why = error.filename or settings.var, error.strerror or error
    if error.errno in _NOT_WRITTEN:
        return UserError(f"{where} cannot be written: {why}: free some room and run the same again")
    return UserError(f"{where}: {why}: run the same again")


def say(result: dict[str, Any], as_json: bool) -> None:
    """Print a result: what it `told` in words, or all of it as JSON."""
    told = result.pop("told")
    click.echo(json.dumps(result, indent=2, ensure_ascii=False) if as_json else told)
