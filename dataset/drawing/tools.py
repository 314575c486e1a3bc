"""Colours, shading and grain of every drawing."""

import random
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom, pixels."""
Point = tuple[float, float]
Corners = tuple[Point, Point, Point, Point]
"""Left top, right top, right bottom, left bottom, pixels."""


def tone(rng: random.Random, low: int, high: int, spread: int) -> Colour:
    base = rng.randint(low, high)
    red, green, blue = (max(0, min(255, base + rng.randint(-spread, spread))) for _ in range(3))
    return red, green, blue


def shade(pen: ImageDraw.ImageDraw, box: Box, colour: Colour, end: float) -> None:
    x0, y0, x1, y1 = box
    for y in range(int(y0), int(y1) + 1):
        part = 1 + (end - 1) * (y - y0) / max(1, y1 - y0)
        pen.line((x0, y, x1, y), fill=(int(colour[0] * part), int(colour[1] * part), int(colour[2] * part)))


def photograph(image: Image.Image, rng: random.Random, noise: float) -> Image.Image:
    """Grain and a little blur, as a camera adds; a screen has nearly none."""
    if not noise:
        return image
    grain = Image.frombytes("L", image.size, rng.randbytes(image.width * image.height)).convert("RGB")
    blurred = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.2)))
    return Image.blend(blurred, grain, noise / 100)


def text_page(pen: ImageDraw.ImageDraw, rng: random.Random, box: Box) -> None:
    x0, y0, x1, y1 = box
    w, h = x1 - x0, y1 - y0
    ink = tone(rng, 30, 140, 40)
    pen.rectangle((x0 + w * 0.08, y0 + h * 0.08, x0 + w * rng.uniform(0.4, 0.8), y0 + h * 0.15), fill=ink)
    for line in range(rng.randrange(3, 9)):
        y = y0 + h * (0.24 + 0.08 * line)
        if y + h * 0.03 < y1:
            pen.rectangle((x0 + w * 0.08, y, x0 + w * rng.uniform(0.3, 0.6), y + max(2, h * 0.02)), fill=ink)
    for bar in range(rng.choice([0, 3, 5])):
        x = x0 + w * (0.64 + 0.06 * bar)
        pen.rectangle((x, y0 + h * rng.uniform(0.3, 0.7), x + w * 0.04, y0 + h * 0.85), fill=tone(rng, 50, 220, 90))


def paste(image: Image.Image, picture: Image.Image, box: Box, radius: float = 0) -> None:
    """Paste a picture into a box, with round corners of this radius in pixels."""
    left, top, right, bottom = (int(value) for value in box)
    size = (max(1, right - left), max(1, bottom - top))
    mask = Image.new("L", size, 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, size[0] - 1, size[1] - 1), radius, fill=255)
    image.paste(picture.resize(size), (left, top), mask)


def stand(image: Image.Image, picture: Image.Image, corners: Corners) -> None:
    """Paste a picture in perspective: its corners go to these points."""
    across, down = zip(*corners, strict=True)
    left, top = int(min(across)), int(min(down))
    size = (int(max(across)) + 1 - left, int(max(down)) + 1 - top)
    points = [(x - left, y - top) for x, y in corners]
    mask = Image.new("L", size, 0)
    ImageDraw.Draw(mask).polygon(points, fill=255)
    turned = picture.transform(
        size, Image.Transform.PERSPECTIVE, _coefficients(points, picture.size), Image.Resampling.BILINEAR
    )
    image.paste(turned, (left, top), mask)


def _coefficients(points: Sequence[Point], size: tuple[int, int]) -> list[float]:
    """Of `Image.Transform.PERSPECTIVE`: from points of the result to the corners of the picture."""
    width, height = size
    rows: list[list[float]] = []
    values: list[float] = []
    for (x, y), (u, v) in zip(points, ((0, 0), (width, 0), (width, height), (0, height)), strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return [float(value) for value in np.linalg.solve(np.array(rows), np.array(values))]
