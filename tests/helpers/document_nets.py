"""The networks of the CIFAR-10 document, as its text gives them."""

from torch import Tensor, nn
from torch.nn import functional as F


class _Document(nn.Module):
    """The document's forward: `view`, on plain tensors."""

    side: int

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.conv1 = nn.Conv2d(channels, 6, 5)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * side * side, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        x = x.view(-1, 16 * self.side * self.side)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        logits: Tensor = self.fc3(x)
        return logits


class Net(_Document):
    """The network of section 4.3."""

    def __init__(self) -> None:
        super().__init__(3, 5)


class NetOfMnist(_Document):
    """The network of section 3.2."""

    def __init__(self) -> None:
        super().__init__(1, 4)
