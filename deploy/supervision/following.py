"""How a further node of config/nodes.yaml comes to serve what the first one serves.

The first node's `var/served.json` is the truth. A rollout brings it to every node. A node that was away, that is new in
the list, or whose part of a killed rollout is missing, reads it itself: its keeper adopts the list, and then repairs as
always. Nothing is adopted while versions of the first node are being changed.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import replace

from common.errors import UserError
from deploy.host.locks import OwnerKind, deployment_lock
from deploy.host.log import log
from deploy.settings import Settings
from deploy.store import copies, desired
from deploy.store.desired import ServedVersion
from deploy.torchserve.management import Client, drain

IDLE_S = 10.0
"""How long a version that the first node no longer lists may go on answering."""


def behind(settings: Settings) -> bool:
    """Whether this node lists anything else than the first one, which nobody is changing."""
    first, own = _of_first(settings), _own(settings)
    return bool(first) and (_adopted(first, own) != own or bool(_surplus(first, own)))


def adopt(settings: Settings) -> None:
    """List what the first node lists. Hold this node's deployment lock.

    Versions that only this node lists are kept until `take_out_surplus`, and are not the default.

    Raises:
        OSError: the list cannot be written.
    """
    first, own = _of_first(settings), _own(settings)
    adopted = _adopted(first, own)
    if not first or adopted == own:
        return
    for entry in first:
        with contextlib.suppress(OSError):  # the keeper says so if it can restore it from neither store nor copy
            copies.keep_copy(settings.var, settings.store / entry.archive)
    desired.write(settings.var, adopted)
    log("the list of the first node is adopted", versions=[str(entry) for entry in adopted])


def take_out_surplus(settings: Settings, client: Client) -> None:
    """Unregister what the first node does not list, when it is not the default and idle. Hold the deployment lock.

    Raises:
        UserError: TorchServe does not answer, or refuses.
        OSError: the list cannot be written.
    """
    first, own = _of_first(settings), _own(settings)
    for entry in _surplus(first, own) if first else ():
        if client.default(entry.name) == entry.version or not drain(client, entry.name, entry.version, IDLE_S):
            continue
        if client.describe(entry.name, entry.version):
            client.unregister(entry.name, entry.version)
        own = [other for other in own if other != entry]
        desired.write(settings.var, own)  # last: until then the keeper would restore it, and a rollout find it here
        copies.drop_copies(settings.var, own)
        log("a version that the first node does not list is taken out", name=entry.name, version=entry.version)


def _of_first(settings: Settings) -> list[ServedVersion]:
    """What the first node lists; empty if this is the first, or that list is empty, damaged or being changed."""
    if settings.follows is None:
        return []
    owner = deployment_lock(settings.follows).owner()
    if owner and owner.kind is not OwnerKind.REPAIR:
        return []
    with contextlib.suppress(UserError):
        return desired.read(settings.follows)
    return []


def _own(settings: Settings) -> list[ServedVersion]:
    """What this node lists; empty if that is damaged: the first node's list replaces it."""
    with contextlib.suppress(UserError):
        return desired.read(settings.var)
    return []


def _surplus(first: Sequence[ServedVersion], own: Sequence[ServedVersion]) -> list[ServedVersion]:
    """Versions of the first node's models that only this node lists."""
    names, listed = {entry.name for entry in first}, {(entry.name, entry.version) for entry in first}
    return [entry for entry in own if entry.name in names and (entry.name, entry.version) not in listed]


def _adopted(first: Sequence[ServedVersion], own: Sequence[ServedVersion]) -> list[ServedVersion]:
    """The first node's list, then what only this node has, in the order of `desired.read`.

    Models that the first node does not have stay as they are: its list may have been lost.
    """
    names = {entry.name for entry in first}
    others = [entry for entry in own if entry.name not in names]
    surplus = [replace(entry, default=False) for entry in _surplus(first, own)]
    return sorted([*first, *surplus, *others], key=lambda entry: not entry.default)
