"""VGG-16 (Simonyan and Zisserman, 2014, configuration D), as wide as asked."""

from torch import Tensor, nn

WIDTHS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)
"""Channels of the 3x3 convolutions; 0 is a max pooling that halves height and width."""
HIDDEN = 4096


class VGG16(nn.Module):
    """Float (N, 3, H, W), H and W at least 32 -> logits (N, classes).

    Its tensors have the names of torchvision's `vgg16`. It has no dropout of its own: the recipe's
    `backbone.dropout` stands before the last layer, as in the document.
    """

    def __init__(self, classes: int, width: float = 1.0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for wanted in WIDTHS:
            if not wanted:
                layers.append(nn.MaxPool2d(2))
                continue
            after = max(1, round(wanted * width))
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
            before = after
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        hidden = max(1, round(HIDDEN * width))
        self.classifier = nn.Sequential(
            nn.Linear(before * 7 * 7, hidden),
            nn.ReLU(),
            nn.Identity(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Identity(),
            nn.Linear(hidden, classes),
        )
        for layer in (*layers, self.classifier[0], self.classifier[3]):
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.avgpool(self.features(pixels)).flatten(1))
        return logits


def vgg16(classes: int, width: float = 1.0) -> VGG16:
    """A VGG-16 with random weights, its channels times `width`."""
    return VGG16(classes, width)
