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
        var: its folder of runtime files, with key_file.json.
    """

    name: str
    inference: str
    keeper: str
    var: Path


def nodes(settings: Settings) -> tuple[Node, ...]:
    """The nodes of this machine."""
    ports = settings.ports
    return (Node("node1", f"{HOST}:{ports['inference_address']}", f"{HOST}:{ports['keeper_port']}", settings.var),)
