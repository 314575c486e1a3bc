"""Random augmentation of training photos: crop, borders, shrinking, JPEG, flip, colour.

The last steps are the handler's `fit` and `to_array`, as in serving; flip and colour come between them, on the
fewest pixels.
"""

from typing import Any

import torch
from PIL import Image
from torchvision.transforms import v2

from config.recipe import Augment
from handler.image import Pixels, fit, to_array
from handler.spec import Input


class Augmenter:
    """Photo (RGB, any size) -> uint8 (channels, H, W), random each time; uses torch's random numbers."""

    def __init__(self, settings: Augment, size: Input) -> None:
        self.settings = settings
        self.size = size
        self.part = v2.RandomResizedCrop((size.height, size.width), settings.scale, settings.ratio)
        steps: list[Any] = [v2.RandomApply([_Border()], settings.border)] if settings.border else []
        if settings.jpeg:
            steps.append(v2.JPEG(settings.jpeg))
        self.steps = v2.Compose(steps) if steps else v2.Identity()
        last: list[Any] = [v2.RandomHorizontalFlip(settings.flip)]
        if settings.brightness or settings.contrast or settings.saturation:
            last.append(v2.ColorJitter(settings.brightness, settings.contrast, settings.saturation))
        self.last = v2.Compose(last)

    def __call__(self, photo: Image.Image) -> Pixels:
        return to_array(self.last(fit(self.steps(self.scaled(photo, self.crop(photo))), self.size)))

    def crop(self, photo: Image.Image) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of a random crop (torchvision's RandomResizedCrop, without its resize)."""
        if self.settings.sides:
            return self._crop_of_sides(photo)
        shape = torch.empty(1).expand(3, photo.height, photo.width)  # a shape without memory
        top, left, height, width = self.part.make_params([shape]).values()
        return left, top, left + width, top + height

    def _crop_of_sides(self, photo: Image.Image) -> tuple[int, int, int, int]:
        """A crop of the recipe's size from the photo scaled to a random shorter side, in the photo's own pixels."""
        low, high = self.settings.sides or (0, 0)
        factor = min(photo.size) / int(torch.randint(low, high + 1, ()))
        width, height = (max(1, round(side * factor)) for side in (self.size.width, self.size.height))
        free = (max(0, photo.width - width), max(0, photo.height - height))
        left, top = (int(torch.randint(0, most + 1, ())) for most in free)
        return left, top, left + width, top + height

    def scaled(self, photo: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
        """A part of a photo, scaled once: to at most twice the recipe's size, and further down by `shrink`."""
        width, height = box[2] - box[0], box[3] - box[1]
        if not (self.settings.shrink or self.settings.jpeg):
            return photo.crop(box)
        factor = min(1.0, 2 * self.size.width / width, 2 * self.size.height / height)
        if self.settings.shrink:
            low, high = self.settings.shrink
            factor *= low + (high - low) * float(torch.rand(()))
        size = (max(1, int(width * factor)), max(1, int(height * factor)))
        return photo.resize(size, Image.Resampling.BILINEAR, box)


class _Border(torch.nn.Module):
    """Adds bars of one colour above and below or left and right, up to 2.4 times the height or width."""

    def forward(self, photo: Image.Image) -> Image.Image:
        factor, position, upright, shade = (float(value) for value in torch.rand(4))
        grown = (1, 1.1 + 1.3 * factor) if upright < 0.5 else (1.1 + 1.3 * factor, 1)
        width, height = int(photo.width * grown[0]), int(photo.height * grown[1])
        canvas = Image.new("RGB", (width, height), _bar_colour(shade))
        canvas.paste(photo, (int((width - photo.width) * position), int((height - photo.height) * position)))
        return canvas


def _bar_colour(shade: float) -> tuple[int, int, int]:
    """Black or white for three of four photos, otherwise a grey."""
    level = 0 if shade < 0.45 else 255 if shade < 0.75 else int(255 * (shade - 0.75) / 0.25)
    return level, level, level
