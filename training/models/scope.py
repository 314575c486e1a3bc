"""Whether a photo is in scope: the probability that it shows one of the classes, from features of the network.

The features are the input of the last layer; if the backbone names layers in its middle, the mean and the standard
deviation of each channel there: what a picture is made of (lines, text, the grain of a camera) is still seen in the
middle, and no longer at the end; and how strong the colours are: charts and screens have pure ones, photos pale ones
(docs/log.md).

Two parts, both cheap, because the features are there already:

1. a linear head, fitted to tell the classes' photos from photos of no class: it knows the kinds that it has seen;
2. the distance from the training photos, for kinds that nobody has shown it: how much of a photo's features lies
   outside the space that the training photos' principal components span (Hoffmann, "Kernel PCA for novelty
   detection", 2007, with a linear kernel).

Both are in units of the spread over in-scope photos of other sources, are added, and become one probability.
`training/fitting/scope.py` fits them.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

PREFIX = "scope."
"""Begins the names of these tensors in a run's weights."""
LEVELS = 8
"""Strengths of colours: 1, 3, 7 ... 255 of 255."""
COLOUR_STEP = 4
"""In pixels of the network: one in sixteen is looked at."""
COLOUR_WEIGHT = 0.5
"""Length of the colours' features; those of each layer have 1 (docs/log.md)."""
NEARLY_GREY = 1e-3
"""With a smaller share of coloured pixels, the colours' features fade."""


class Scope(nn.Module):
    """Features of `features_of`, (N, channels) -> in_scope (N, 1), 0 to 1.

    Args:
        channels: of the features.
        components: principal components of the training photos' features.
    """

    weight: Tensor
    mean: Tensor
    basis: Tensor
    scale: Tensor
    bias: Tensor
    threshold: Tensor

    def __init__(self, channels: int, components: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(channels, 1))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("basis", torch.zeros(channels, components))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("bias", torch.zeros(()))
        self.register_buffer("threshold", torch.full((), 0.5))

    def forward(self, features: Tensor) -> Tensor:
        return self.logit(features).sigmoid()

    def logit(self, features: Tensor) -> Tensor:
        """Log-odds of being in scope, shape (N, 1)."""
        return features @ self.weight - self.scale * outside_of(features, self.mean, self.basis) + self.bias


def features_of(last: Tensor, maps: Sequence[Tensor], colours: Tensor) -> Tensor:
    """What a scope sees, shape (N, channels).

    Args:
        last: the input of the last layer, shape (N, channels of it); it gets length 1.
        maps: the outputs of layers in the middle, shape (N, channels of it, height, width); the means and standard
            deviations of each together get length 1.
        colours: of `colours_of`.
    """
    return torch.cat([normalised(last), *(normalised(_statistics(map_.float())) for map_ in maps), colours], 1)


def colours_of(photos: Tensor, step: int) -> Tensor:
    """How strong the colours of a photo are, shape (N, LEVELS), length COLOUR_WEIGHT, or 0 if it is grey.

    The strength of a colour is the largest channel minus the smallest. Its logarithm falls between two of the LEVELS
    and counts for both. Grey pixels are left out, so that a photo in black and white does not look like a chart.

    Args:
        photos: uint8, shape (N, channels, height, width).
        step: every step-th pixel of every step-th row is looked at.
    """
    seen = photos[:, :, ::step, ::step].float()
    strength = (seen.amax(1, keepdim=True) - seen.amin(1, keepdim=True) + 1).log2()
    levels = torch.arange(1, LEVELS + 1, device=photos.device).view(1, -1, 1, 1)
    shares = (1 - (strength - levels).abs()).relu().mean((2, 3))
    return (shares / (shares.sum(1, keepdim=True) + NEARLY_GREY)).sqrt() * COLOUR_WEIGHT


def _statistics(maps: Tensor) -> Tensor:
    """Mean and standard deviation of each channel, shape (N, 2 x channels)."""
    means, squares = maps.mean((2, 3)), maps.square().mean((2, 3))
    return torch.cat([means, (squares - means.square()).clamp(min=0).sqrt()], 1)


def normalised(features: Tensor) -> Tensor:
    """Features of length 1, shape (N, channels)."""
    return features / (features.square().sum(1, keepdim=True) + 1e-12).sqrt()


def outside_of(features: Tensor, mean: Tensor, basis: Tensor) -> Tensor:
    """Squared length of what the components (channels, components) do not explain, shape (N, 1)."""
    centred = features - mean
    return centred.square().sum(1, keepdim=True) - (centred @ basis).square().sum(1, keepdim=True)


def scope_of(shapes: Mapping[str, Sequence[int]]) -> Scope | None:
    """An empty scope of the shapes in a file of weights; None if the model has none."""
    basis = shapes.get(f"{PREFIX}basis")
    return Scope(*basis) if basis else None
