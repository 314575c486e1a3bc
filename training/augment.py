"""What a training photo goes through each time it is seen: crop, colour, shrinking, JPEG.

The last step is the handler's own `fit` and `to_array`, as everywhere.
"""

from typing import Any

import torch
from PIL import Image
from torchvision.transforms import v2

from config.recipe import Augment
from handler.image import Pixels, fit, to_array
from handler.spec import Input


class Augmenter:
    """Photo (RGB, any size) -> uint8 (3, H, W), differently each time; random numbers are torch's."""

    def __init__(self, settings: Augment, size: Input) -> None:
        self.settings = settings
        self.size = size
        steps: list[Any] = [v2.RandomApply([_Border()], settings.border)] if settings.border else []
        steps += [v2.RandomHorizontalFlip(settings.flip)]
        if settings.brightness or settings.contrast or settings.saturation:
            steps.append(v2.ColorJitter(settings.brightness, settings.contrast, settings.saturation))
        if settings.shrink:
            steps.append(_Shrink(settings.shrink))
        if settings.jpeg:
            steps.append(v2.JPEG(settings.jpeg))
        self.steps = v2.Compose(steps)

    def __call__(self, photo: Image.Image) -> Pixels:
        photo = self.crop(photo)
        photo.thumbnail((self.size.width * 2, self.size.height * 2), Image.Resampling.BILINEAR)
        return to_array(fit(self.steps(photo), self.size))

    def crop(self, photo: Image.Image) -> Image.Image:
        """A random part of the photo (torchvision's RandomResizedCrop, without its resize)."""
        top, left, height, width = (
            v2.RandomResizedCrop((self.size.height, self.size.width), self.settings.scale, self.settings.ratio)
            .make_params([Image.new("L", photo.size)])
            .values()
        )
        return photo.crop((left, top, left + width, top + height))


class _Border(torch.nn.Module):
    """Bars of one colour above and below a photo, or beside it, that make it up to 2.4 times as high or wide."""

    def forward(self, photo: Image.Image) -> Image.Image:
        factor, place, upright, shade = (float(value) for value in torch.rand(4))
        grown = (1, 1.1 + 1.3 * factor) if upright < 0.5 else (1.1 + 1.3 * factor, 1)
        width, height = int(photo.width * grown[0]), int(photo.height * grown[1])
        canvas = Image.new("RGB", (width, height), _bar_colour(shade))
        canvas.paste(photo, (int((width - photo.width) * place), int((height - photo.height) * place)))
        return canvas


def _bar_colour(shade: float) -> tuple[int, int, int]:
    """Mostly black or white, else a grey."""
    level = 0 if shade < 0.45 else 255 if shade < 0.75 else int(255 * (shade - 0.75) / 0.25)
    return level, level, level


class _Shrink(torch.nn.Module):
    """Scale a photo down by a random factor; `fit` will scale it up again."""

    def __init__(self, factors: tuple[float, float]) -> None:
        super().__init__()
        self.low, self.high = factors

    def forward(self, photo: Image.Image) -> Image.Image:
        factor = self.low + (self.high - self.low) * float(torch.rand(()))
        return photo.resize(
            (max(1, int(photo.width * factor)), max(1, int(photo.height * factor))), Image.Resampling.BILINEAR
        )
