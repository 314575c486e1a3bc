"""The state of this node: the server, a change in progress, every version, the last change.

    python -m deploy status [--json]

Exits 1 if nothing is served, or a default version is not served as it should be.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from common.cli import command
from common.console import console, say
from common.errors import CheckFailed, UserError
from common.words import number_of
from deploy.host.locks import Owner, deployment_lock, server_lock
from deploy.host.nodes import others
from deploy.models import describe
from deploy.settings import Settings, read_settings
from deploy.store import desired, profile
from deploy.store.desired import ServedVersion
from deploy.store.journal import JournalEntry, entries
from deploy.supervision.lifecycle import ask_keeper
from deploy.torchserve.management import Client


@dataclass(frozen=True)
class VersionStatus:
    """One version that is registered or should be.

    Attributes:
        role: what it is, for people.
        must_be_default: the manifest lists it as the default.
        workers: that are ready; `desired_workers` as the manifest or the profile says, 0 if it is not listed.
        waiting: requests in its queue.
        archive: whether its archive is in the store, at `path`.
    """

    name: str
    version: str
    role: str
    must_be_default: bool
    workers: int
    desired_workers: int
    waiting: int
    archive: bool
    digest: str | None
    run: str | None
    path: str = ""

    def to_json(self) -> dict[str, Any]:
        """With the keys that `status --json` has always had."""
        names = {"must_be_default": "wanted_default", "desired_workers": "wanted"}
        return {names.get(key, key): value for key, value in asdict(self).items()}

    def problem(self) -> str | None:
        """Why a default version is not served as it should be, and what to do; None if it is."""
        version = f"{self.name} {self.version}"
        if self.role == "missing":
            return f"{version} should be served and is not registered: see {self.name} in var/logs/keeper.log"
        if not self.workers:
            return f"{version} has no worker: see var/logs/model_log.log, or python -m deploy rollback {self.name}"
        if self.role != "default":
            return f"{version} should be the default: see python -m deploy history"
        return None


@dataclass(frozen=True)
class NodeStatus:
    """Everything that is known about this node.

    Attributes:
        serving: every default version has a ready worker.
        reason: why not.
        server: the owner of the server lock.
        ready: the keeper's /ready; None if no keeper answers.
        change: the owner of the deployment lock.
        interrupted: the process that died while it held the deployment lock.
        last: the last change in the journal.
    """

    serving: bool
    reason: str | None
    server: Owner | None
    ready: dict[str, Any] | None
    change: Owner | None
    interrupted: Owner | None
    versions: tuple[VersionStatus, ...]
    last: JournalEntry | None

    def to_json(self) -> dict[str, Any]:
        """With the keys that `status --json` has always had."""
        return {
            "serving": self.serving,
            "reason": self.reason,
            "server": self.server and asdict(self.server),
            "ready": self.ready,
            "at_work": self.change and asdict(self.change),
            "left_over": self.interrupted and asdict(self.interrupted),
            "versions": [version.to_json() for version in self.versions],
            "last": self.last and self.last.to_json(),
        }


@command(epilog="Example: python -m deploy status --json")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
def status(as_json: bool) -> None:
    """Show what is served, what should be, and who is changing it."""
    settings = read_settings()
    node, further = node_status(settings), others_status(settings)
    if as_json:
        say(json.dumps({**node.to_json(), "nodes": further}, indent=2, ensure_ascii=False))
    else:
        console.print(table(node, further))
    behind = [f"{name}: {reason}" for name, reason in further.items() if reason]
    if node.serving and behind:
        raise CheckFailed("; ".join(behind))
    if not node.serving:
        raise CheckFailed(node.reason or "nothing is served: start the server with make up or make serve")


def node_status(settings: Settings) -> NodeStatus:
    """Collect what manifest, TorchServe, keeper, locks and journal say."""
    past = entries(settings.var)
    versions, unreachable = _versions(settings)
    defaults = [version for version in versions if version.must_be_default or version.role == "default"]
    problems = [problem for version in defaults if (problem := version.problem())]
    lock = deployment_lock(settings.var)
    return NodeStatus(
        serving=bool(defaults) and not problems,
        reason=unreachable or "; ".join(problems) or None,
        server=server_lock(settings.var).owner(),
        ready=ask_keeper(settings) or None,
        change=lock.owner(),
        interrupted=lock.dead_owner(),
        versions=tuple(versions),
        last=past[-1] if past else None,
    )


def others_status(settings: Settings) -> dict[str, str | None]:
    """Name of each further node -> why it does not serve what the first one does; None if it does."""
    here = {(entry.name, entry.version): entry.default for entry in desired.read(settings.var)}
    return {node.name: _behind(node.settings, here) for node in others(settings)}


def _behind(settings: Settings, first: dict[tuple[str, str], bool]) -> str | None:
    there = {(entry.name, entry.version): entry.default for entry in desired.read(settings.var)}
    state = node_status(settings)
    if not state.serving:
        return state.reason or f"nothing is served: start it with make up, and see {settings.var}/logs"
    missing = [f"{name} {version}" for name, version in first if (name, version) not in there]
    keeper = f"its keeper brings it up to date within seconds; if not, see {settings.var}/logs/keeper.log"
    if missing:
        return f"it misses {', '.join(missing)}: {keeper}"
    differs = [
        f"{name} {version}" for (name, version), default in first.items() if default and not there[name, version]
    ]
    if differs:
        return f"{', '.join(differs)} is not its default: {keeper}"
    names = {name for name, _ in first}
    surplus = [f"{name} {version}" for name, version in there if name in names and (name, version) not in first]
    return f"it also serves {', '.join(surplus)}: {keeper}" if surplus else None


def _versions(settings: Settings) -> tuple[list[VersionStatus], str | None]:
    """All versions that are registered or should be, and why TorchServe does not answer."""
    listed = {(entry.name, entry.version): entry for entry in desired.read(settings.var)}
    try:
        registered = {(row["modelName"], row["modelVersion"]): row for row in Client(settings).models()}
        unreachable = None
    except UserError as error:
        registered, unreachable = {}, error.message
    keys = [*listed, *(key for key in registered if key not in listed)]
    return [_version(settings, key, listed.get(key), registered.get(key)) for key in keys], unreachable


def _version(
    settings: Settings, key: tuple[str, str], listed: ServedVersion | None, registered: dict[str, Any] | None
) -> VersionStatus:
    name, version = key
    path = settings.store / f"{name}-{version}.mar"
    described = describe(registered or {"modelName": name, "modelVersion": version, "default": False}, settings)
    return VersionStatus(
        name=name,
        version=version,
        role=_role(listed, registered),
        must_be_default=bool(listed and listed.default),
        workers=described.workers_ready,
        desired_workers=profile.serving_options(settings, listed).workers if listed else 0,
        waiting=(registered or {}).get("jobQueueStatus", {}).get("pendingRequests", 0),
        archive=path.is_file(),
        digest=described.digest,
        run=described.run,
        path=str(path),
    )


def _role(listed: ServedVersion | None, registered: dict[str, Any] | None) -> str:
    if registered is None:
        return "missing"
    if registered["default"]:
        return "default"
    if listed and listed.default:
        return "should be the default"
    if listed is None:
        return "not in the manifest"
    return "rolled back from" if listed.left else "kept"


def table(node: NodeStatus, further: Mapping[str, str | None] = MappingProxyType({})) -> Table:
    """The state as a table of two columns; long values continue on the next line.

    Args:
        further: of the other nodes (`others_status`).
    """
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    rows = [
        ("server", str(node.server or "not running")),
        ("ready", _ready(node.ready)),
        ("change", f"in progress: {node.change}" if node.change else "none in progress"),
    ]
    if node.interrupted:
        rows.append(("killed", f"{node.interrupted}: run the same command again to resume"))
    if last := node.last:
        rows.append(("last", f"{last.action} of {last.name} {last.version}, {last.state}, {last.started}"))
    rows.extend(("version", _version_text(version)) for version in node.versions)
    rows.extend((name, reason or "serves the same versions") for name, reason in further.items())
    for label, text in rows:
        grid.add_row(label, Text(text))
    return grid


def _ready(answer: dict[str, Any] | None) -> str:
    if answer is None:
        return "unknown: the keeper does not answer"
    return "yes" if answer.get("ready") else f"no: {answer.get('reason')}"


def _version_text(version: VersionStatus) -> str:
    lines = [
        f"{version.name} {version.version}: {version.role}",
        f"{version.workers} of {version.desired_workers} workers ready, "
        f"{number_of(version.waiting, 'request')} waiting",
        f"digest {(version.digest or 'unknown')[:12]}, run {version.run or 'unknown'}",
    ]
    return "\n".join(lines if version.archive else [*lines, "its archive is missing from the store"])
