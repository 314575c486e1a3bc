"""The key of a node, as nginx reads it for each request: the last part of where a symbolic link leads.

    var/front/node1/key -> var/front/node1/keys/KEY      requests go on with this key
    var/front/node1/key -> var/front/node1/closed        the node gets no requests

Every start of TorchServe writes new keys, and refuses requests with the former ones. It removes its key file first.
Then the gate is closed, and opened with the new key when the node's keeper says that it is ready. Following a link
costs nginx no reload, which would close clients' connections. It is also closed when `make down` stops a further node,
which then answers what it has (deploy/up.py).
"""

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

import requests

from common.errors import UserError
from deploy.host.locks import OwnerKind, deployment_lock
from deploy.host.log import log
from deploy.torchserve.keys import read_key
from deploy.torchserve.management import local_session
from traffic.front.folder import folder
from traffic.front.nodes import Node

READY_S = 3.0


class Gate:
    """Opens and closes one node. Call `round` at least three times in a second.

    Args:
        var: of the front, not of the node.
        ready: whether the node answers correctly.
    """

    def __init__(self, var: Path, node: Node, ready: Callable[[Node], bool] | None = None) -> None:
        self.node = node
        self._folder = folder(var) / node.name
        self._ready = ready or is_ready
        self._further = node.var != var  # the front stops before its own node
        (self._folder / "closed").mkdir(parents=True, exist_ok=True)
        if not self._link.is_symlink():
            self._lead_to(self._folder / "closed")

    @property
    def key(self) -> str:
        """The key that requests go on with; empty while the gate is closed."""
        target = self._link.readlink()
        return target.name if target.parent.name == "keys" else ""

    def round(self) -> None:
        """Compare the node's key with the gate, and open or close it."""
        new = self._key_of_node()
        if new == self.key:
            return
        if self.key:
            self.close()
        if new and self._ready(self.node) and self._key_of_node() == new:
            self.open(new)

    def open(self, key: str) -> None:
        """Let requests through, with this key."""
        (self._folder / "keys" / key).mkdir(parents=True, exist_ok=True)
        self._lead_to(self._folder / "keys" / key)
        for other in (self._folder / "keys").iterdir():
            if other.name != key:
                shutil.rmtree(other, ignore_errors=True)
        log("the front sends requests to a node", node=self.node.name)

    def close(self) -> None:
        """Send no more requests; those that the node has are answered."""
        self._lead_to(self._folder / "closed")
        log("the front sends no requests to a node", node=self.node.name)

    @property
    def _link(self) -> Path:
        return self._folder / "key"

    def _lead_to(self, target: Path) -> None:
        new = self._folder / "key.new"
        with contextlib.suppress(FileNotFoundError):
            new.unlink()
        new.symlink_to(target)
        new.replace(self._link)

    def _key_of_node(self) -> str:
        if self._further and (owner := deployment_lock(self.node.var).owner()) and owner.kind is OwnerKind.DOWN:
            return ""
        try:
            return read_key(self.node.var, "inference")
        except UserError:
            return ""


def closed_nodes(var: Path) -> set[str]:
    """The names of nodes that get no requests."""
    return {link.parent.name for link in folder(var).glob("*/key") if link.readlink().parent.name != "keys"}


def is_ready(node: Node, repaired: bool = False) -> bool:
    """Whether the keeper of a node answers 200 to /ready.

    Args:
        repaired: and does not register or start versions at the moment.
    """
    with local_session() as session, contextlib.suppress(requests.RequestException):
        answer = session.get(f"http://{node.keeper}/ready", timeout=READY_S)
        return answer.ok and not (repaired and answer.json().get("repairing"))
    return False
