"""What TorchServe serves -> what `var/served.json` says it must serve.

Run by the keeper (deploy/supervision/keeper.py). A repair holds the deployment lock, is journalled and logged; while a
rollout holds the lock nothing is touched. Versions that the manifest does not know are left alone.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import psutil

from common.errors import UserError
from deploy.host.locks import LockHeld, Owner, OwnerKind, deployment_lock
from deploy.host.log import log, one_line
from deploy.settings import Settings
from deploy.store import desired, profile
from deploy.store.desired import ServedVersion
from deploy.store.journal import Journal, State
from deploy.store.restore import require_archive
from deploy.torchserve.drain import drain
from deploy.torchserve.management import Client, content
from deploy.torchserve.process import Server

LOST_S = 15.0  # without a process; TorchServe starts a killed worker anew by itself, at once
REST_S = 10.0  # how long workers that are left are waited for, before they are started anew with the others
AGAIN_S = (10.0, 600.0)  # between failed repairs of one version: at first, and at most after doubling

WHY = {
    "restore": "it was not registered",
    "revive": f"it was without all of its workers for {LOST_S:.0f} s",
    "default": "another version was the default",
}
Key = tuple[str, str]


@dataclass
class Seen:
    """What TorchServe says of one name: READY workers of each version and those that are coming, and the default."""

    ready: dict[str, int] = field(default_factory=dict)
    coming: dict[str, int] = field(default_factory=dict)
    default: str | None = None


@dataclass
class _Failure:
    why: str
    pause: float
    again: float  # on the monotonic clock


class Repairs:
    """Looks, and mends what is not as it must be. One thread calls `round`; any may read.

    Attributes:
        entries: the manifest as it was last readable.
        seen: what TorchServe said last, by name.
        repairing: whether it is at that now.
        warnings: what a person should mend, though the server goes on.
    """

    def __init__(self, settings: Settings, told: Callable[[str], None] = lambda action: None) -> None:
        self.settings = settings
        self.client = Client(settings)
        self.told = told
        self.entries: list[ServedVersion] = []
        self.seen: dict[str, Seen] = {}
        self.repairing = False
        self.warnings: dict[str, str] = {}
        self._failures: dict[Key, _Failure] = {}
        self._short_since: dict[Key, float] = {}
        self._crashed: Owner | None = None

    @property
    def missing(self) -> list[dict[str, str]]:
        """Versions of the manifest that could not be served, and why."""
        failures = [(entry, self._failures.get(_key(entry))) for entry in self.entries]
        return [{"name": e.name, "version": e.version, "why": f.why} for e, f in failures if f]

    def round(self) -> None:
        """Look once, repair what must be repaired and may be.

        Raises:
            UserError: TorchServe does not answer.
        """
        self._say_crashed()
        if not self._read():
            return
        self._look()
        self.repairing = any(self._plan())
        try:
            if self.repairing:
                self._repair_alone()
        finally:
            self.repairing = False

    def _repair_alone(self) -> None:
        try:
            with deployment_lock(self.settings.var).hold(OwnerKind.REPAIR):
                self.warn("deployment", "")
                if self._read():  # a rollout may have ended between the look and the lock
                    self._look()
                    self._repair()
        except LockHeld as error:
            self.warn("deployment", f"repairs wait: {error.message}")
            self._short_since.clear()

    def _repair(self) -> None:
        """One after the other, the default first; then look again: that may have changed what the default must be."""
        for wanted in ("restore", "revive", "default"):
            for action, entry in list(self._plan()):
                if action == wanted:
                    self._do(action, entry)
            self._look()

    def _plan(self) -> Iterator[tuple[str, ServedVersion]]:
        """What is to be done: (action, entry)."""
        now = time.monotonic()
        for entry in self.entries:
            failure = self._failures.get(_key(entry))
            if failure and now < failure.again:
                continue
            ready = self.seen[entry.name].ready.get(entry.version)
            if ready is None:
                yield "restore", entry
            elif ready < entry.workers and now > self._short_since.get(_key(entry), now) + LOST_S:
                yield "revive", entry
        for name in {entry.name for entry in self.entries}:
            default = self._wanted_default(name)
            if default and default.version != self.seen[name].default:
                yield "default", default

    def _do(self, action: str, entry: ServedVersion) -> None:
        with self._recorded(action, entry):
            if action == "default":
                self.client.set_default(entry.name, entry.version)
            elif action == "restore":
                self._restore(entry)
            else:
                self._revive(entry)

    def _restore(self, entry: ServedVersion) -> None:
        require_archive(self.settings, entry)
        try:
            self.client.register(entry.archive, entry.name, profile.serving_options(self.settings, entry))
        except UserError as error:
            why = one_line(Server(self.settings).why_no_worker())
            raise UserError(f"{entry.archive}: {error.message}: {why}") from error

    def _revive(self, entry: ServedVersion) -> None:
        """TorchServe does not revive what it has given up; to none and back kills those that are left, too."""
        if self.seen[entry.name].ready.get(entry.version) and not drain(self.client, entry.name, entry.version, REST_S):
            raise UserError(f"some workers of {entry} have gone, and the others are never at rest")
        self.client.scale(entry.name, entry.version, 0)
        self.client.scale(entry.name, entry.version, entry.workers)

    def _wanted_default(self, name: str) -> ServedVersion | None:
        """The manifest's default once it has a worker; until then whoever answers, or the version kept last."""
        mine, seen = [entry for entry in self.entries if entry.name == name], self.seen[name]
        able = [entry for entry in mine if seen.ready.get(entry.version)]
        default = desired.default_of(mine, name)
        if default in able:
            return default
        if seen.default and seen.ready.get(seen.default):
            return None
        if default and _key(default) not in self._failures:
            return default if default.version in seen.ready else None
        return able[0] if able else None

    @contextmanager
    def _recorded(self, action: str, entry: ServedVersion) -> Iterator[None]:
        """Journal and log a repair. What fails is tried again later; a journal that cannot be written hinders none."""
        begun = time.monotonic()
        journal = self._journal(action, entry)
        error = None
        try:
            yield
            self._failures.pop(_key(entry), None)
            self._short_since.pop(_key(entry), None)
        except (UserError, OSError, ValueError, KeyError) as caught:
            error = one_line(caught.message if isinstance(caught, UserError) else repr(caught))
            self._failed(entry, error)
        else:
            self.told(action)
        log(action, name=entry.name, version=entry.version, seconds=round(time.monotonic() - begun, 3), error=error)
        if journal:
            self._written(lambda: journal.end(State.FAILED if error else State.DONE, error))

    def _failed(self, entry: ServedVersion, why: str) -> None:
        former = self._failures.get(_key(entry))
        pause = min(former.pause * 2, AGAIN_S[1]) if former else AGAIN_S[0]
        self._failures[_key(entry)] = _Failure(why, pause, time.monotonic() + pause)

    def _journal(self, action: str, entry: ServedVersion) -> Journal | None:
        found: list[Journal] = []
        self._written(
            lambda: found.append(Journal(self.settings.var, action, entry.name, entry.version, why=WHY[action]))
        )
        return found[0] if found else None

    def _written(self, write: Callable[[], object]) -> None:
        try:
            write()
            self.warn("journal", "")
        except OSError as error:
            self.warn("journal", f"{self.settings.var} cannot be written: {error.strerror}: make room there")

    def _look(self) -> None:
        self.seen = {name: look(self.client, name) for name in {entry.name for entry in self.entries}}
        now = time.monotonic()
        for entry in self.entries:
            seen = self.seen[entry.name]
            ready = seen.ready.get(entry.version)
            if ready is not None and ready + seen.coming[entry.version] < entry.workers:
                self._short_since.setdefault(_key(entry), now)
            else:
                self._short_since.pop(_key(entry), None)
                if ready:
                    self._failures.pop(_key(entry), None)  # it was mended by another

    def _read(self) -> bool:
        """Take up the manifest; a damaged one is said, and what it said before still counts for /ready."""
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

    def warn(self, topic: str, text: str) -> None:
        """Log a state once, when it begins, and keep it for /ready until it is over (an empty text)."""
        if text and self.warnings.get(topic) != text:
            log("warning", topic=topic, text=text)
        self.warnings = {**{key: value for key, value in self.warnings.items() if key != topic}, topic: text}

    def _say_crashed(self) -> None:
        crashed = deployment_lock(self.settings.var).dead_owner()
        if crashed and crashed != self._crashed:
            log("a change of versions died", what=crashed.what, pid=crashed.pid, who=crashed.who, since=crashed.since)
        self._crashed = crashed


def look(client: Client, name: str) -> Seen:
    """What TorchServe serves of a name; empty where it is not registered.

    Raises:
        UserError: TorchServe does not answer, or not as it should.
    """
    answer = client.ask("management", "GET", f"/models/{name}/all")
    if answer.status_code == 404:
        return Seen()
    if not answer.ok:
        raise UserError(f"TorchServe refused to describe {name}: HTTP {answer.status_code}")
    ready, coming = {}, {}
    for version in content(answer):
        workers, number = version.get("workers", []), str(version["modelVersion"])
        ready[number] = sum(worker["status"] == "READY" for worker in workers)
        coming[number] = sum(worker["status"] != "READY" and psutil.pid_exists(worker["pid"]) for worker in workers)
    return Seen(ready, coming, client.default(name))


def _key(entry: ServedVersion) -> Key:
    return entry.name, entry.version
