"""The nodes behind the front: where each answers, and where its keys are."""

from dataclasses import dataclass
from pathlib import Path

from deploy.host.nodes import NodeSettings
from deploy.host.nodes import nodes as listed
from deploy.settings import HOST, Settings


@dataclass(frozen=True)
class Node:
    """One TorchServe and its keeper.

    Attributes:
        name: letters and digits; names its socket and its folder in var/front.
        inference: HOST:PORT of predictions.
        keeper: HOST:PORT of /ready.
        grpc: HOST:PORT of predictions over gRPC.
        weight: requests that it gets, compared with the others.
        var: its folder of runtime files, with key_file.json.
    """

    name: str
    inference: str
    keeper: str
    var: Path
    grpc: str = ""
    weight: int = 1


def nodes(settings: Settings) -> tuple[Node, ...]:
    """The nodes of this machine."""
    return tuple(_node(node) for node in listed(settings))


def settings_of(settings: Settings) -> tuple[Settings, ...]:
    """The settings of each node."""
    return tuple(node.settings for node in listed(settings))


def _node(node: NodeSettings) -> Node:
    inference, keeper, grpc = (
        f"{HOST}:{node.settings.ports[key]}" for key in ("inference_address", "keeper_port", "grpc_inference_port")
    )
    return Node(node.name, inference, keeper, node.settings.var, grpc, node.weight)
