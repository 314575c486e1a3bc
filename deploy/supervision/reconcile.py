"""Make TorchServe serve what `var/served.json` lists: observe, plan (`repair_plan`), apply.

Run by the keeper (deploy/supervision/keeper.py). A repair holds the deployment lock and is written to the journal
and the log. While a rollout holds the lock nothing is changed. Versions that the manifest does not list stay as
they are.
"""

import time
from collections.abc import Callable
from dataclasses import replace

import psutil

from common.errors import UserError
from deploy.host.locks import LockHeld, Owner, OwnerKind, deployment_lock
from deploy.host.log import log, one_line
from deploy.settings import Settings
from deploy.store import desired, profile
from deploy.store.copies import require_archive
from deploy.store.desired import ServedVersion
from deploy.store.journal import Journal, State
from deploy.supervision import following
from deploy.supervision.repair_plan import (
    ACTIONS,
    Action,
    Failure,
    Key,
    ModelState,
    Observed,
    Restore,
    Revive,
    SetDefault,
    key_of,
    plan,
)
from deploy.torchserve.management import Client, content, drain
from deploy.torchserve.process import Server

IDLE_S = 10.0
"""How long the remaining workers of a version are waited for before all of them are started again."""


class Reconciler:
    """Observes and repairs. One thread calls `round`; any thread may read the attributes.

    Attributes:
        entries: the manifest when it was last readable.
        models: what TorchServe said last, by name.
        repairing: whether a repair is in progress.
        warnings: by topic, what a person should fix although the server goes on; "" if nothing.
    """

    def __init__(
        self,
        settings: Settings,
        on_repair: Callable[[str], None] = lambda action: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.client = Client(settings)
        self.on_repair = on_repair
        self.clock = clock
        self.entries: list[ServedVersion] = []
        self.models: dict[str, ModelState] = {}
        self.repairing = False
        self.warnings: dict[str, str] = {}
        self._failures: dict[Key, Failure] = {}
        self._short_since: dict[Key, float] = {}
        self._dead_owner: Owner | None = None

    @property
    def missing(self) -> list[dict[str, str]]:
        """Versions of the manifest whose last repair failed, and why."""
        failures = [(entry, self._failures.get(key_of(entry))) for entry in self.entries]
        return [{"name": entry.name, "version": entry.version, "why": f.why} for entry, f in failures if f]

    def round(self) -> None:
        """Observe once, and apply the repairs that are due.

        Raises:
            UserError: TorchServe does not answer.
        """
        self._log_dead_owner()
        self._follow()
        if not self._read_manifest():
            return
        self._observe()
        self.repairing = bool(self._plan())
        try:
            if self.repairing:
                self._repair_locked()
        finally:
            self.repairing = False

    def _follow(self) -> None:
        """On a further node: list what the first one lists, and nothing else."""
        if not following.behind(self.settings):
            return
        try:
            with deployment_lock(self.settings.var).hold(OwnerKind.REPAIR):
                following.adopt(self.settings)
                following.take_out_surplus(self.settings, self.client)
            self.warn("first node", "")
        except LockHeld:  # a change of versions; the next round looks again
            return
        except OSError as error:
            self.warn("first node", f"the list of the first node cannot be adopted: {error.strerror or error}")

    def warn(self, topic: str, text: str) -> None:
        """Log a warning when it first appears, and keep it for /ready until `text` is empty."""
        if text and self.warnings.get(topic) != text:
            log("warning", topic=topic, text=text)
        self.warnings = {**{key: value for key, value in self.warnings.items() if key != topic}, topic: text}

    def _read_manifest(self) -> bool:
        """Read the manifest; if it is damaged, its former content still counts for /ready. Whether it is readable."""
        try:
            entries = desired.read(self.settings.var)
            self.entries = [
                replace(entry, workers=profile.serving_options(self.settings, entry).workers) for entry in entries
            ]
        except UserError as error:
            self.warn("manifest", error.message)
            return False
        self.warn("manifest", "")
        return True

    def _observe(self) -> None:
        self.models = {entry.name: observe(self.client, entry.name) for entry in self.entries}
        now = self.clock()
        for entry in self.entries:
            model, key = self.models[entry.name], key_of(entry)
            ready = model.ready.get(entry.version)
            if ready is not None and ready + model.starting[entry.version] < entry.workers:
                self._short_since.setdefault(key, now)
            else:
                self._short_since.pop(key, None)
                if ready:
                    self._failures.pop(key, None)  # it was repaired by another process

    def _plan(self) -> list[Action]:
        return plan(self.entries, Observed(self.models, self._short_since, self._failures), self.clock())

    def _repair_locked(self) -> None:
        try:
            with deployment_lock(self.settings.var).hold(OwnerKind.REPAIR):
                self.warn("deployment", "")
                if self._read_manifest():  # again: a rollout may have ended before we had the lock
                    self._observe()
                    self._repair()
        except LockHeld as error:
            self.warn("deployment", f"repairs wait: {error.message}")
            self._short_since.clear()

    def _repair(self) -> None:
        """Observe after each kind of action: it may change what the default must be."""
        for kind in ACTIONS:
            for action in self._plan():
                if isinstance(action, kind):
                    self._record(action)
            self._observe()

    def _record(self, action: Action) -> None:
        """Apply an action; write it to journal and log. After a failure it is tried again later."""
        begun = time.monotonic()
        journal, key = self._begin_journal(action), key_of(action.entry)
        failure = self._apply(action)
        if failure is None:
            self._failures.pop(key, None)
            self._short_since.pop(key, None)
            self.on_repair(action.name)
        else:
            self._failures[key] = Failure.after(self._failures.get(key), failure, self.clock())
        seconds = round(time.monotonic() - begun, 3)
        log(action.name, name=action.entry.name, version=action.entry.version, seconds=seconds, error=failure)
        self._end_journal(journal, failure)

    def _apply(self, action: Action) -> str | None:
        """Carry an action out; why it failed, in one line, or None."""
        try:
            match action:
                case Restore():
                    self._restore(action.entry)
                case Revive():
                    self._revive(action.entry)
                case SetDefault():
                    self.client.set_default(action.entry.name, action.entry.version)
        except UserError as error:
            return one_line(error.message)
        except (OSError, ValueError, KeyError) as error:
            return one_line(repr(error))
        return None

    def _restore(self, entry: ServedVersion) -> None:
        require_archive(self.settings, entry)
        try:
            self.client.register(entry.archive, entry.name, profile.serving_options(self.settings, entry))
        except UserError as error:
            reason = one_line(Server(self.settings).why_no_worker())
            raise UserError(f"{entry.archive}: {error.message}: {reason}") from error

    def _revive(self, entry: ServedVersion) -> None:
        """Scale to 0 and back: TorchServe does not restart a worker that it has given up.

        This kills the workers that are left, so they must be idle.
        """
        ready = self.models[entry.name].ready.get(entry.version)
        if ready and not drain(self.client, entry.name, entry.version, IDLE_S):
            raise UserError(
                f"{entry} has lost some of its workers, and the others were never idle within {IDLE_S:.0f} s"
            )
        self.client.scale(entry.name, entry.version, 0)
        self.client.scale(entry.name, entry.version, entry.workers)

    def _begin_journal(self, action: Action) -> Journal | None:
        """A journal entry; None if it cannot be written. The repair continues in both cases."""
        entry = action.entry
        try:
            return Journal(self.settings.var, action.name, entry.name, entry.version, why=action.why)
        except OSError as error:
            self._warn_unwritable(error)
            return None

    def _end_journal(self, journal: Journal | None, failure: str | None) -> None:
        if journal is None:
            return
        try:
            journal.end(State.FAILED if failure else State.DONE, failure)
            self.warn("journal", "")
        except OSError as error:
            self._warn_unwritable(error)

    def _warn_unwritable(self, error: OSError) -> None:
        self.warn("journal", f"{self.settings.var} cannot be written: {error.strerror}: free some disk space")

    def _log_dead_owner(self) -> None:
        dead = deployment_lock(self.settings.var).dead_owner()
        if dead and dead != self._dead_owner:
            log("a change of versions died", what=dead.what, pid=dead.pid, who=dead.who, since=dead.since)
        self._dead_owner = dead


def observe(client: Client, name: str) -> ModelState:
    """What TorchServe serves under a name; empty if it is not registered.

    Raises:
        UserError: TorchServe does not answer, or not as expected.
    """
    answer = client.ask("management", "GET", f"/models/{name}/all")
    if answer.status_code == 404:
        return ModelState()
    if not answer.ok:
        raise UserError(f"TorchServe refused to describe {name}: HTTP {answer.status_code}")
    ready, starting = {}, {}
    for version in content(answer):
        workers, number = version.get("workers", []), str(version["modelVersion"])
        ready[number] = sum(worker["status"] == "READY" for worker in workers)
        starting[number] = sum(worker["status"] != "READY" and psutil.pid_exists(worker["pid"]) for worker in workers)
    return ModelState(ready, starting, client.default(name))
