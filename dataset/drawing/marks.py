"""Plain marks, for tests with any number of classes."""

import random
from collections.abc import Callable

from PIL import Image, ImageDraw

from dataset.drawing.tools import Box, photograph, tone


def marks(
    mark: Callable[[ImageDraw.ImageDraw, random.Random, Box], None],
) -> Callable[[random.Random, int, int], Image.Image]:
    def drawing(rng: random.Random, width: int, height: int) -> Image.Image:
        image = Image.new("RGB", (width, height), tone(rng, 170, 250, 30))
        pen = ImageDraw.Draw(image)
        for _ in range(rng.randrange(4, 9)):
            size = rng.uniform(0.12, 0.3) * height
            x, y = rng.uniform(0, width - size), rng.uniform(0, height - size)
            mark(pen, rng, (x, y, x + size, y + size))
        return photograph(image, rng, noise=3)

    return drawing


def disc(pen: ImageDraw.ImageDraw, rng: random.Random, box: Box) -> None:
    pen.ellipse(box, fill=tone(rng, 10, 90, 40))


def stripe(pen: ImageDraw.ImageDraw, rng: random.Random, box: Box) -> None:
    x0, y0, x1, y1 = box
    for part in range(0, 5, 2):
        pen.rectangle((x0, y0 + (y1 - y0) * part / 5, x1, y0 + (y1 - y0) * (part + 1) / 5), fill=tone(rng, 10, 90, 40))


def cross(pen: ImageDraw.ImageDraw, rng: random.Random, box: Box) -> None:
    x0, y0, x1, y1 = box
    fill, thick = tone(rng, 10, 90, 40), int((x1 - x0) / 5)
    pen.line((x0, y0, x1, y1), fill=fill, width=thick)
    pen.line((x0, y1, x1, y0), fill=fill, width=thick)
