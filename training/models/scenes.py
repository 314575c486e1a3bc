"""The seven-layer network of the recipe scenes11: four convolutions, three linear layers.

Names of modules are the document's ("onnx", section 2.2), so that its state dicts load.
"""

from torch import Tensor, nn

from common.errors import UserError

CHANNELS = (64, 128, 256, 512)
HIDDEN = (512, 256)
SIZE = (256, 256)


class ScenesNet(nn.Module):
    """float (N, 3, H, W) -> logits (N, classes). H and W are halved four times and must be at least 16.

    Args:
        classes: outputs.
        size: H, W; the first linear layer has as many inputs as the last convolution has outputs at this size.
        width: factor on the channels and on the hidden layers; at least one of each is left.
    """

    def __init__(self, classes: int, size: tuple[int, int] = SIZE, width: float = 1.0) -> None:
        super().__init__()
        first, second, third, fourth = (max(1, round(count * width)) for count in CHANNELS)
        wide, narrow = (max(1, round(count * width)) for count in HIDDEN)
        self.layer1 = _halving(3, first)
        self.layer2 = _halving(first, second)
        self.layer3 = _halving(second, third)
        self.layer4 = _halving(third, fourth)
        self.fc1 = nn.Sequential(nn.Linear(fourth * (size[0] // 16) * (size[1] // 16), wide), nn.ReLU())
        self.fc2 = nn.Sequential(nn.Linear(wide, narrow), nn.ReLU())
        self.fc3 = nn.Sequential(nn.Linear(narrow, classes))

    def forward(self, photos: Tensor) -> Tensor:
        features = self.layer4(self.layer3(self.layer2(self.layer1(photos))))
        logits: Tensor = self.fc3(self.fc2(self.fc1(features.flatten(1))))
        return logits


def scenes_net(classes: int, pretrained: bool, size: tuple[int, int] = SIZE, width: float = 1.0) -> nn.Module:
    """Build the network with random weights.

    Raises:
        UserError: photos are smaller than 16 x 16.
    """
    if min(size) < 16:
        raise UserError(f"scenes_net takes photos of 16 x 16 or more, not {size[0]} x {size[1]}")
    return ScenesNet(classes, size, width)


def _halving(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, 1, 1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2, 2, 0))
