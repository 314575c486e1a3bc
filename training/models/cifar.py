"""The two nets of the CIFAR document (sections 3.2 and 4.3), with its attribute names: its state dicts load.

LeNet-5's plan (LeCun et al., 1998): two convolutions of 5 x 5, each with ReLU and max pooling, then three linear
layers. The document flattens with `x.view(-1, 16 * 5 * 5)`; `flatten(1)` gives the same values and also takes
channels-last tensors, which `view` refuses.
"""

from torch import Tensor, nn
from torch.nn import functional


class _Net(nn.Module):
    """Floats (N, channels, H, W) -> logits (N, classes); `side`: height and width of what the linear layers read."""

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


class CifarNet(_Net):
    """Floats (N, 3, 32, 32) -> logits (N, classes)."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__(3, 5, classes)


class MnistNet(_Net):
    """Floats (N, 1, 28, 28) -> logits (N, classes)."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__(1, 4, classes)
