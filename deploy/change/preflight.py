"""How a version stands on a node before it is rolled out: new, left half-way by a rollout that was killed, or there."""

from dataclasses import dataclass
from enum import Enum
from typing import Any

from common.errors import UserError
from deploy.change.session import Refused
from deploy.settings import Settings
from deploy.store import desired
from deploy.store.candidate import Candidate
from deploy.store.contents import read_manifest
from deploy.store.desired import Entry
from deploy.store.journal import DONE, REFUSED, entries
from deploy.torchserve.management import Client


class Stage(Enum):
    """How far a version has come."""

    NEW = "not registered, or left before the switch by a rollout that was killed"
    SWITCHED = "the default, left by a rollout that was killed: drain and keep are to be done"
    FOUND = "the default though the manifest names none: to be proven and written down, never to be taken out"


@dataclass(frozen=True)
class Standing:
    """What a rollout finds.

    Attributes:
        former: what answers now and will be kept; None where nothing does.
    """

    stage: Stage
    former: Entry | None


def look(settings: Settings, client: Client, new: Candidate, mine: str = "") -> Standing:
    """Find out how a version stands.

    Args:
        mine: id of the journal entry of the rollout that asks.

    Raises:
        Refused: the version is registered already, and not by a rollout that was broken off.
    """
    found = [entry for entry in desired.read(settings.var) if entry.name == new.name]
    promised, current = desired.default_of(found, new.name), client.default(new.name)
    past = _past(settings, new, mine)
    broken_off = past[-1:] not in ([], [DONE])
    if promised and promised.version == new.version and broken_off:
        return Standing(Stage.SWITCHED, next((entry for entry in found if entry != promised), None))
    former = _answering(settings, client, found, new, current)
    known = desired.find(found, new.name, new.version)
    if known is None and promised is None and current == new.version and (DONE in past or not past):
        return Standing(Stage.FOUND, former)
    if known is None and (client.describe(new.name, new.version) is None or broken_off):
        return Standing(Stage.NEW, former)
    raise Refused(_exists(new, known))


def _answering(
    settings: Settings, client: Client, found: list[Entry], new: Candidate, current: str | None
) -> Entry | None:
    """What answers now. That need not be what the manifest promises, if that has lost its workers."""
    others = [entry for entry in found if entry.version != new.version]
    if current not in (None, new.version) and desired.find(others, new.name, str(current)) is None:
        others = [*others, *filter(None, [adopted(settings, client, new.name)])]
    able = [entry for entry in others if client.ready(entry.name, entry.version)]
    first = [entry for entry in able if entry.version == current]
    return next(iter([*first, *able, *others]), None)


def _past(settings: Settings, new: Candidate, mine: str) -> list[str]:
    """How the rollouts of a version ended that may have changed anything, the last one last."""
    return [
        entry["state"]
        for entry in entries(settings.var)
        if (entry["action"], entry["name"], entry["version"]) == ("rollout", new.name, new.version)
        and entry["id"] != mine
        and entry["state"] != REFUSED
    ]


def _exists(new: Candidate, known: Entry | None) -> str:
    taken_out = f"python -m deploy retire {new.name} {new.version} takes it out"
    if known is None:
        return f"{new} is registered, but not by a rollout: {taken_out}, then roll it out"
    if known.default:
        return f"{new} is registered already and is the default: to change it, pack a higher version"
    return (
        f"{new} is registered already: "
        f"python -m deploy rollback {new.name} --to {new.version} makes it the default, {taken_out}"
    )


def adopted(settings: Settings, client: Client, name: str, version: str = "") -> Entry | None:
    """A registered version that the manifest does not name (registered by hand), the default where none is named."""
    described: dict[str, Any] | None = client.describe(name, version)
    if described is None:
        return None
    archive, version = str(described["modelUrl"]), str(described["modelVersion"])
    try:
        digest = str(read_manifest(settings.store / archive)["digest"])
    except (UserError, KeyError):
        digest = ""
    return Entry(name, version, archive, digest, default=client.default(name) == version)
