"""The network of this package, with torch and torchvision alone.

    from model import load
    network = load(Path("model"))       # uint8 (N, 3, H, W), RGB -> logits (N, classes)

`network.json` describes it: a network that torchvision builds by name, with `weights.pth`; or `network.pt2`, a
program of torch.export that needs no Python code.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models


class Network(nn.Module):
    """uint8 (N, 3, H, W) -> logits (N, classes), divided by the temperature that calibrates their softmax.

    Args:
        name: one of torchvision.models.
        head: the name of its last layer, a Linear.
        mean, std: of the scaling, for pixels of 0 to 1.
        pool: squares of this many pixels are averaged, after scaling.
    """

    mean: Tensor
    std: Tensor
    temperature: Tensor

    def __init__(
        self, name: str, head: str, classes: int, mean: list[float], std: list[float], pool: int, temperature: float
    ) -> None:
        super().__init__()
        self.network: Any = models.get_model(name, weights=None)
        parent, _, last = head.rpartition(".")
        width = self.network.get_submodule(head).in_features
        setattr(self.network.get_submodule(parent), last, nn.Linear(width, classes))
        self.pool = pool
        for key, values in (("mean", mean), ("std", std)):
            self.register_buffer(key, torch.tensor(values).view(1, -1, 1, 1) * 255, persistent=False)
        self.register_buffer("temperature", torch.tensor(temperature), persistent=False)

    def forward(self, photos: Tensor) -> Tensor:
        scaled = (photos.float() - self.mean) / self.std
        if self.pool > 1:
            scaled = nn.functional.avg_pool2d(scaled, self.pool)
        logits: Tensor = self.network(scaled)
        return logits / self.temperature


def load(folder: Path) -> nn.Module:
    """The network with its weights, in eval; on a GPU if there is one and torchvision builds the network.

    Raises:
        OSError: a file is missing.
        RuntimeError: the weights are of another network.
    """
    facts = json.loads((folder / "network.json").read_text(encoding="utf-8"))
    if "program" in facts:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given buffer is not writable")  # from torch's own reader
            return torch.export.load(folder / facts["program"]).module()
    network = Network(**facts)
    network.network.load_state_dict(torch.load(folder / "weights.pth", map_location="cpu", weights_only=True))
    return network.eval().to("cuda" if torch.cuda.is_available() else "cpu")
