"""The networks that no library has: those of the CIFAR-10 document and of the ONNX document, and a tiny one.

The first two have the attribute names of their documents (docs/sources.md), so that the documents' state dicts load.
"""

import itertools

from torch import Tensor, nn
from torch.nn import functional

from common.errors import InvalidInput

SCENES_SIZE = (256, 256)
"""Height and width of the photos of the ONNX document."""


class _LeNet(nn.Module):
    """Floats (N, channels, H, W) -> logits (N, classes).

    LeNet-5's plan (LeCun et al., 1998): two convolutions of 5 x 5, each with ReLU and max pooling, then three linear
    layers. The CIFAR-10 document flattens with `x.view(-1, 16 * 5 * 5)`; `flatten(1)` gives the same and also accepts
    channels-last tensors, which `view` refuses.

    Args:
        side: height and width of the maps that the linear layers read.
    """

    def __init__(self, channels: int, side: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 6, 5)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * side * side, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)

    def forward(self, photos: Tensor) -> Tensor:
        maps = self.pool(functional.relu(self.conv1(photos)))
        maps = self.pool(functional.relu(self.conv2(maps)))
        values = functional.relu(self.fc1(maps.flatten(1)))
        logits: Tensor = self.fc3(functional.relu(self.fc2(values)))
        return logits


class CifarNet(_LeNet):
    """Floats (N, 3, 32, 32) -> logits (N, classes)."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__(3, 5, classes)


class MnistNet(_LeNet):
    """Floats (N, 1, 28, 28) -> logits (N, classes)."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__(1, 4, classes)


class ScenesNet(nn.Module):
    """Floats (N, 3, H, W) -> logits (N, classes): four convolutions, three linear layers.

    Args:
        size: H, W; both are halved four times. The first linear layer is built for this size.
        channels: outputs of the four convolutions.
        hidden: outputs of the first two linear layers.

    Raises:
        InvalidInput: H or W is below 16.
    """

    def __init__(
        self,
        classes: int,
        size: tuple[int, int] = SCENES_SIZE,
        channels: tuple[int, int, int, int] = (64, 128, 256, 512),
        hidden: tuple[int, int] = (512, 256),
    ) -> None:
        super().__init__()
        if min(size) < 16:
            raise InvalidInput(f"scenes_net needs photos of 16 x 16 or more, not {size[0]} x {size[1]}")
        self.layer1 = _halving(3, channels[0])
        self.layer2 = _halving(channels[0], channels[1])
        self.layer3 = _halving(channels[1], channels[2])
        self.layer4 = _halving(channels[2], channels[3])
        inputs = channels[3] * (size[0] // 16) * (size[1] // 16)
        self.fc1 = nn.Sequential(nn.Linear(inputs, hidden[0]), nn.ReLU())
        self.fc2 = nn.Sequential(nn.Linear(hidden[0], hidden[1]), nn.ReLU())
        self.fc3 = nn.Sequential(nn.Linear(hidden[1], classes))

    def forward(self, photos: Tensor) -> Tensor:
        features = self.layer4(self.layer3(self.layer2(self.layer1(photos))))
        logits: Tensor = self.fc3(self.fc2(self.fc1(features.flatten(1))))
        return logits


def _halving(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, 1, 1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2, 2, 0))


def small_net(classes: int) -> nn.Sequential:
    """Three strided convolutions and a linear layer: floats (N, 3, H, W) of any size -> logits (N, classes)."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise((3, 16, 32, 64)):
        layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes))
