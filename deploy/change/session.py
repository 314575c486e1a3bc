"""One change of what is served: under the deployment lock, step by step, shown to people and kept in the journal.

Rollout, rollback and retirement share this frame. TorchServe is changed first and the manifest
(`var/served.json`) right after; if the process dies in between, the keeper restores what the manifest says.
"""

import contextlib
import errno
import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from rich.table import Table
from rich.text import Text

from common.console import console, err_console, note, say
from common.errors import Busy, CannotWrite, CheckFailed, Unreachable, UserError
from deploy.host.locks import Lock, LockHeld, OwnerKind, deployment_lock
from deploy.host.nodes import NodeSettings
from deploy.host.processes import interruptible
from deploy.settings import Settings
from deploy.store import copies, desired
from deploy.store.desired import ServedVersion
from deploy.store.journal import Journal, OpenStep, State
from deploy.torchserve.management import Client, drain
from deploy.torchserve.probes import first_question

_NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
KEEPER_S = 120.0
"""How long a command waits for a repair by the keeper, which may be starting a worker."""


class Refused(CheckFailed):
    """The change was refused: the former version goes on serving, and nothing new is registered."""


class Deployment:
    """A change in progress on one node."""

    def __init__(self, settings: Settings, journal: Journal, quiet: bool = False) -> None:
        self.settings = settings
        self.client = Client(settings)
        self.journal = journal
        self.quiet = quiet

    @contextmanager
    def step(self, name: str) -> Iterator[OpenStep]:
        """One step: shown while it runs, then printed with its time and its `note`."""
        with self.journal.step(name) as step, err_console.status(f"{name} ..."):
            yield step
        if not self.quiet:
            console.print(steps_table([(f"{name:<10}{step.record.seconds:8.2f} s", step.record.note or "")]))

    def drained(self, entry: ServedVersion) -> bool:
        """Wait until a version is idle, at most as long as one request may take; whether it is."""
        limit = float(self.settings.properties["default_response_timeout"])
        question = first_question(self.settings, entry)
        return drain(self.client, entry.name, entry.version, limit, question.body if question else None)

    def take_out(self, entry: ServedVersion) -> None:
        """Remove a drained version from the manifest, unregister it, and check that its archive is still there.

        Raises:
            UserError: TorchServe refused, or the archive has gone from the store.
        """
        before = desired.read(self.settings.var)
        remaining = [other for other in before if (other.name, other.version) != (entry.name, entry.version)]
        desired.write(self.settings.var, remaining)  # first, or the keeper would restore it
        try:
            if self.client.describe(entry.name, entry.version):
                self.client.unregister(entry.name, entry.version)
        except UserError:
            desired.write(self.settings.var, before)
            raise
        if not (self.settings.store / entry.archive).is_file():
            copied = copies.put_back(self.settings.var, entry.archive, self.settings.store)
            result = (
                "it was restored from its copy" if copied else "no copy of it is left; pack it again if you need it"
            )
            raise UserError(f"{entry.archive} vanished from the store when its version was retired: {result}")
        copies.drop_copies(self.settings.var, remaining)


@contextmanager
def named(node: NodeSettings) -> Iterator[None]:
    """Name the node in an error that one of several nodes raises.

    Raises:
        Refused, UserError: as in the block.
    """
    try:
        yield
    except Unreachable as error:
        raise Unreachable(f"{node.name}: {error.problem}", error.fix) from error
    except UserError as error:
        kind = Refused if isinstance(error, Refused) else UserError
        raise kind(f"{node.name}: {error.problem}", error.fix) from error


@contextmanager
def deployment(
    settings: Settings, action: str, name: str, version: str, quiet: bool = False, **facts: Any
) -> Iterator[Deployment]:
    """Hold the deployment lock and keep a journal entry for as long as the block runs.

    Raises:
        UserError: another change is in progress, no server is running, or the change was refused or failed.
    """
    with at_work(settings, OwnerKind(action), f"{name} {version}"):
        Client(settings).describe(name)  # without a running server, no journal entry
        try:
            journal = Journal(settings.var, action, name, version, **facts)
        except OSError as error:
            raise _as_user_error(settings, error) from error
        with interruptible(), _closed(settings, journal):
            yield Deployment(settings, journal, quiet)


@contextmanager
def at_work(settings: Settings, kind: OwnerKind, subject: str) -> Iterator[None]:
    """Hold the deployment lock; waits for a repair by the keeper, but not for another person's change.

    Raises:
        UserError: naming the owner of the lock.
    """
    with ExitStack() as stack:
        lock = deployment_lock(settings.var)
        try:
            _take(stack, lock, kind, subject)
        except LockHeld as error:
            raise Busy(error.problem, "run this again when it is over") from error
        yield


def _take(stack: ExitStack, lock: Lock, kind: OwnerKind, subject: str) -> None:
    try:
        stack.enter_context(lock.hold(kind, subject))
    except LockHeld as error:
        if error.owner.kind is not OwnerKind.REPAIR:
            raise
        note(f"waiting for the {error.owner} ...")
        stack.enter_context(lock.hold(kind, subject, KEEPER_S))


@contextmanager
def _closed(settings: Settings, journal: Journal) -> Iterator[None]:
    """Close the journal entry however the block ends; a full disk and Ctrl-C become a UserError."""
    try:
        yield
        journal.end(State.DONE)
    except Refused as error:
        journal.end(State.REFUSED, error.message)
        raise
    except UserError as error:
        journal.end(State.FAILED, error.message)
        raise
    except KeyboardInterrupt as error:
        journal.end(State.FAILED, "interrupted")
        raise UserError("interrupted", "run the same command again to resume") from error
    except OSError as error:
        with contextlib.suppress(OSError):
            journal.end(State.FAILED, repr(error))
        raise _as_user_error(settings, error) from error
    except Exception as error:
        with contextlib.suppress(OSError):
            journal.end(State.FAILED, repr(error))
        raise


def _as_user_error(settings: Settings, error: OSError) -> UserError:
    path = error.filename or settings.var
    if error.errno in _NOT_WRITTEN:
        return CannotWrite(path, error, "free some disk space and run the same command again")
    return UserError(f"{path}: {error.strerror or error}", "run the same command again")


def steps_table(rows: Iterable[tuple[str, str]]) -> Table:
    """Names of steps, and what was or will be done; long texts wrap inside their column."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(Text(name), Text(text))
    return table


def print_result(result: dict[str, Any], text: str, as_json: bool) -> None:
    """Print a result: its summary for people, or all of it as JSON."""
    if as_json:
        text = json.dumps(result, indent=2, ensure_ascii=False)
    say(text)
