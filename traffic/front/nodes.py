"""The nodes behind the front: where each answers, and where its keys are."""

from dataclasses import dataclass
from pathlib import Path

from deploy.settings import HOST, Settings


@dataclass(frozen=True)
class Node:
    """One TorchServe and its keeper.

    Attributes:
        name: letters and digits; names its socket and its folder in var/front.
        inference: HOST:PORT of predictions.
        keeper: HOST:PORT of /ready.
        grpc: HOST:PORT of predictions over gRPC.
        var: its folder of runtime files, with key_file.json.
    """

    name: str
    inference: str
    keeper: str
    var: Path
    grpc: str = ""


def nodes(settings: Settings) -> tuple[Node, ...]:
    """The nodes of this machine."""
    inference, keeper, grpc = (
        f"{HOST}:{settings.ports[key]}" for key in ("inference_address", "keeper_port", "grpc_inference_port")
    )
    return (Node("node1", inference, keeper, settings.var, grpc),)
