"""The model of every recipe: uint8 photos in, logits out, with a network of the registry inside.

The model scales its pixels in its own first module, in training as in serving, so mean and std can never be forgotten
or applied twice.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from training.models.scope import Scope


class Scale(nn.Module):
    """uint8 (N, channels, H, W) -> float (x / 255 - mean) / std, same shape; one mean and std per channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1) * 255)

    def forward(self, photos: Tensor) -> Tensor:
        return (photos.float() - self.mean) / self.std


class Classifier(nn.Module):
    """uint8 (N, channels, H, W) -> logits (N, classes), divided by a fitted temperature (1 until export).

    Args:
        head: the name of the network's last layer.
        pool: the network sees the means of pool x pool pixels, scaled: (N, channels, H // pool, W // pool).
        middle: the names of layers in the middle of the network, whose output `scope` sees, too.

    `scope` says from the features whether a photo is in scope; a model that saw no photo of no class has none.
    """

    temperature: Tensor

    def __init__(self, scale: Scale, network: nn.Module, head: str, pool: int = 1, middle: Sequence[str] = ()) -> None:
        super().__init__()
        self.scale = scale
        self.network = network
        self.head = head
        self.pool = pool
        self.middle = middle
        self.register_buffer("temperature", torch.tensor(1.0))
        self.scope: Scope | None = None

    def forward(self, photos: Tensor) -> Tensor:
        logits: Tensor = self.network(self.pixels(photos))
        return logits / self.temperature

    def pixels(self, photos: Tensor) -> Tensor:
        """The network's input for uint8 photos: float (N, channels, H // pool, W // pool), channels-last."""
        scaled: Tensor = self.scale(photos)
        if self.pool > 1:
            scaled = nn.functional.avg_pool2d(scaled, self.pool)
        if torch.compiler.is_exporting():  # a graph has no strides: the exporter would emulate them with gathers
            return scaled
        return scaled.contiguous(memory_format=torch.channels_last)

    @contextmanager
    def watched(self) -> Iterator[list[Tensor]]:
        """A list that gets the output of each layer in the middle when the model runs in the block, once."""
        maps: list[Tensor] = []
        layers = [self.network.get_submodule(name) for name in self.middle]
        hooks = [layer.register_forward_hook(lambda _, inputs, output: maps.append(output)) for layer in layers]
        try:
            yield maps
        finally:
            for hook in hooks:
                hook.remove()

    def freeze(self) -> None:
        """Train only the last layer; the rest stays in eval, including the statistics of its batch norms."""
        self.requires_grad_(False)
        self.network.get_submodule(self.head).requires_grad_(True)

    def train(self, mode: bool = True) -> "Classifier":
        """As `nn.Module.train`, except that modules whose parameters are all frozen stay in eval."""
        super().train(mode)
        for module in self.network.modules():
            parameters = list(module.parameters())
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                module.eval()
        return self
