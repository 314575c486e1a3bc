"""Examine a node before a rollout changes anything: the state of the version, and what serves now.

`TABLE` decides from three facts (the manifest, TorchServe, the journal) whether a rollout starts, resumes an
interrupted one, or is refused.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from common.errors import UserError
from deploy.change.session import Refused
from deploy.settings import Settings
from deploy.store import desired
from deploy.store.desired import ServedVersion
from deploy.store.journal import State, entries
from deploy.store.mar import Archive, read_manifest
from deploy.torchserve.management import Client


class InManifest(Enum):
    """What var/served.json says about a version."""

    NO_DEFAULT = "not listed, and no version of this model is the default"
    OTHER_DEFAULT = "not listed; another version is the default"
    KEPT = "kept for rollback"
    DEFAULT = "the default"


class OnServer(Enum):
    """What TorchServe says about a version."""

    ABSENT = "not registered"
    REGISTERED = "registered"
    DEFAULT = "registered as the default"


class LastRollout(Enum):
    """How the last rollout of a version ended; a refused one changed nothing and does not count."""

    NONE = "never rolled out"
    DONE = "completed"
    INTERRUPTED = "killed or failed, and no earlier one completed"
    INTERRUPTED_AFTER_DONE = "killed or failed, and an earlier one completed"


class RolloutState(Enum):
    """The state of a version when its rollout begins."""

    NEW = "not registered: do every step"
    INTERRUPTED_BEFORE_SWITCH = "registered by an interrupted rollout: do every step"
    INTERRUPTED_AFTER_SWITCH = "made the default by an interrupted rollout: prove it, then drain and keep"
    UNLISTED_DEFAULT = "the default, but missing from the manifest: prove it, write it down, never unregister it"
    ALREADY_DEFAULT = "refused: it is the default"
    ALREADY_KEPT = "refused: it is kept for rollback"
    NOT_OURS = "refused: it was registered by hand"


class Row(NamedTuple):
    """One line of the decision table."""

    manifest: Collection[InManifest]
    server: Collection[OnServer]
    last_rollout: Collection[LastRollout]
    state: RolloutState


_UNLISTED = (InManifest.NO_DEFAULT, InManifest.OTHER_DEFAULT)
_ABSENT = (OnServer.ABSENT,)
_PRESENT = (OnServer.REGISTERED, OnServer.DEFAULT)
_ANYWHERE = tuple(OnServer)
_ANY_HISTORY = tuple(LastRollout)
_SETTLED = (LastRollout.NONE, LastRollout.DONE)
_INTERRUPTED = (LastRollout.INTERRUPTED, LastRollout.INTERRUPTED_AFTER_DONE)
_NO_DEFAULT, _OTHER_DEFAULT = (InManifest.NO_DEFAULT,), (InManifest.OTHER_DEFAULT,)
_SERVER_DEFAULT, _SERVER_OTHER = (OnServer.DEFAULT,), (OnServer.REGISTERED,)

TABLE = (
    Row((InManifest.DEFAULT,), _ANYWHERE, _INTERRUPTED, RolloutState.INTERRUPTED_AFTER_SWITCH),
    Row((InManifest.DEFAULT,), _ANYWHERE, _SETTLED, RolloutState.ALREADY_DEFAULT),
    Row((InManifest.KEPT,), _ANYWHERE, _ANY_HISTORY, RolloutState.ALREADY_KEPT),
    Row(_UNLISTED, _ABSENT, _ANY_HISTORY, RolloutState.NEW),
    Row(_OTHER_DEFAULT, _PRESENT, _INTERRUPTED, RolloutState.INTERRUPTED_BEFORE_SWITCH),
    Row(_OTHER_DEFAULT, _PRESENT, _SETTLED, RolloutState.NOT_OURS),
    Row(_NO_DEFAULT, _SERVER_OTHER, _INTERRUPTED, RolloutState.INTERRUPTED_BEFORE_SWITCH),
    Row(_NO_DEFAULT, _SERVER_OTHER, _SETTLED, RolloutState.NOT_OURS),
    # The first rollout of a model makes its version the default by registering it, long before the switch.
    Row(_NO_DEFAULT, _SERVER_DEFAULT, (LastRollout.INTERRUPTED,), RolloutState.INTERRUPTED_BEFORE_SWITCH),
    Row(
        _NO_DEFAULT,
        _SERVER_DEFAULT,
        (*_SETTLED, LastRollout.INTERRUPTED_AFTER_DONE),
        RolloutState.UNLISTED_DEFAULT,
    ),
)
"""Every combination of the three facts is in exactly one row."""


def rollout_state(manifest: InManifest, server: OnServer, last_rollout: LastRollout) -> RolloutState:
    """Look the state of a version up in `TABLE`."""
    return next(
        row.state
        for row in TABLE
        if manifest in row.manifest and server in row.server and last_rollout in row.last_rollout
    )


@dataclass(frozen=True)
class Preflight:
    """What a rollout finds.

    Attributes:
        former: the version that answers now and will be kept; None if none does.
    """

    state: RolloutState
    former: ServedVersion | None


def preflight(settings: Settings, client: Client, new: Archive, rollout_id: str = "") -> Preflight:
    """Determine the state of a version and the version that serves now.

    Args:
        rollout_id: the journal id of the rollout that calls this: its own entry does not count.

    Raises:
        Refused: the version is registered already, and not by an interrupted rollout.
    """
    versions = [entry for entry in desired.read(settings.var) if entry.name == new.name]
    server_default = client.default(new.name)
    state = rollout_state(
        _in_manifest(versions, new),
        _on_server(client, new, server_default),
        _last_rollout(settings, new, rollout_id),
    )
    if state in _REFUSALS:
        raise Refused(*(text.format(new=new) for text in _REFUSALS[state]))
    if state is RolloutState.INTERRUPTED_AFTER_SWITCH:
        return Preflight(state, next((entry for entry in versions if not entry.default), None))
    return Preflight(state, _former(settings, client, versions, new, server_default))


def preflight_of_candidate(settings: Settings, client: Client, new: Archive) -> Preflight:
    """The same for a version of the manifest that is to become the default.

    Raises:
        Refused: the manifest does not list it.
    """
    versions = [entry for entry in desired.read(settings.var) if entry.name == new.name]
    where, server_default = _in_manifest(versions, new), client.default(new.name)
    if where is InManifest.DEFAULT:
        former = next((entry for entry in versions if not entry.default), None)
        return Preflight(RolloutState.INTERRUPTED_AFTER_SWITCH, former)
    if where is not InManifest.KEPT:
        raise Refused(f"{new} is not served", f"roll it out with python -m deploy rollout {new.mar.name}")
    return Preflight(RolloutState.ALREADY_KEPT, _former(settings, client, versions, new, server_default))


_RETIRE = "python -m deploy retire {new.name} {new.version}"
_REFUSALS = {
    RolloutState.ALREADY_DEFAULT: (
        "{new} is registered already and is the default",
        "to change it, pack a higher version",
    ),
    RolloutState.ALREADY_KEPT: (
        "{new} is registered already",
        "make it the default with python -m deploy rollback {new.name} --to {new.version}, "
        f"or remove it with {_RETIRE}",
    ),
    RolloutState.NOT_OURS: (
        "{new} is registered, but not by a rollout",
        f"remove it with {_RETIRE}, then roll it out",
    ),
}
"""State -> problem and fix, as templates."""


def _in_manifest(versions: list[ServedVersion], new: Archive) -> InManifest:
    default = desired.default_of(versions, new.name)
    listed = desired.find(versions, new.name, new.version)
    if listed:
        return InManifest.DEFAULT if listed == default else InManifest.KEPT
    return InManifest.OTHER_DEFAULT if default else InManifest.NO_DEFAULT


def _on_server(client: Client, new: Archive, server_default: str | None) -> OnServer:
    if server_default == new.version:
        return OnServer.DEFAULT
    return OnServer.ABSENT if client.describe(new.name, new.version) is None else OnServer.REGISTERED


def _last_rollout(settings: Settings, new: Archive, rollout_id: str) -> LastRollout:
    outcomes = [
        entry.state
        for entry in entries(settings.var)
        if (entry.action, entry.name, entry.version) == ("rollout", new.name, new.version)
        and entry.id != rollout_id
        and entry.state is not State.REFUSED
    ]
    if not outcomes:
        return LastRollout.NONE
    if outcomes[-1] is State.DONE:
        return LastRollout.DONE
    return LastRollout.INTERRUPTED_AFTER_DONE if State.DONE in outcomes else LastRollout.INTERRUPTED


def _former(
    settings: Settings, client: Client, versions: list[ServedVersion], new: Archive, server_default: str | None
) -> ServedVersion | None:
    """The version that answers now: not the manifest's default if that has lost its workers."""
    others = [entry for entry in versions if entry.version != new.version]
    if server_default not in (None, new.version) and desired.find(others, new.name, str(server_default)) is None:
        others = [*others, *filter(None, [unlisted_version(settings, client, new.name)])]
    ready = [entry for entry in others if client.ready(entry.name, entry.version)]
    answering = [entry for entry in ready if entry.version == server_default]
    return next(iter([*answering, *ready, *others]), None)


def unlisted_version(settings: Settings, client: Client, name: str, version: str = "") -> ServedVersion | None:
    """A registered version that the manifest does not list (registered by hand); without `version`, the default."""
    described: dict[str, Any] | None = client.describe(name, version)
    if described is None:
        return None
    archive, version = str(described["modelUrl"]), str(described["modelVersion"])
    try:
        digest = read_manifest(settings.store / archive).digest
    except UserError:
        digest = ""
    return ServedVersion(name, version, archive, digest, default=client.default(name) == version)
