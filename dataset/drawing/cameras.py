"""What the camera of a caller shows: a face at home, somebody at a board, a wall."""

import random
from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw, ImageFilter

from dataset.drawing.people import SKIN, face, person
from dataset.drawing.tools import photograph, shade, text_page, tone

Camera = Callable[[random.Random, int, int], Image.Image]
"""Function of (random numbers, width, height): RGB of this size."""


def camera(rng: random.Random, width: int, height: int) -> Image.Image:
    """A drawn camera picture."""
    show = rng.choices([_caller, _lecturer, _corner], [7, 2, 1])[0]
    image = _home(rng, width, height)
    show(image, rng)
    return photograph(image, rng, noise=rng.uniform(1, 8))


def _home(rng: random.Random, width: int, height: int) -> Image.Image:
    """A wall with a window, shelves and pictures, out of focus."""
    image = Image.new("RGB", (width, height))
    pen = ImageDraw.Draw(image)
    shade(pen, (0, 0, width, height), tone(rng, 50, 240, 40), rng.uniform(0.5, 1))
    for _ in range(rng.randrange(1, 7)):
        x, y = rng.uniform(-0.1, 0.95) * width, rng.uniform(-0.1, 0.8) * height
        w, h = rng.uniform(0.08, 0.4) * width, rng.uniform(0.08, 0.5) * height
        pen.rectangle((x, y, x + w, y + h), fill=tone(rng, 20, 250, 70), outline=tone(rng, 30, 120, 30))
        if rng.random() < 0.4:
            for part in range(1, 8):
                left = x + w * part / 8
                pen.rectangle((left, y + h * 0.1, left + w * 0.1, y + h), fill=tone(rng, 20, 230, 110))
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.012) * max(width, height)))


def _caller(image: Image.Image, rng: random.Random) -> None:
    width, height = image.size
    pen = ImageDraw.Draw(image)
    size = min(width, height) * rng.uniform(0.16, 0.34)
    x, y = width * rng.uniform(0.38, 0.62), height * rng.uniform(0.36, 0.55)
    pen.ellipse((x - size * 2, y + size * 1.1, x + size * 2, y + size * 7), fill=tone(rng, 20, 225, 110))
    pen.rectangle((x - size * 0.32, y + size * 0.7, x + size * 0.32, y + size * 1.4), fill=rng.choice(SKIN))
    face(pen, rng, x, y, size)
    if rng.random() < 0.3:
        pen.arc(
            (x - size, y - size * 1.2, x + size, y + size), 180, 360, fill=(30, 30, 32), width=max(2, int(size / 8))
        )


def _lecturer(image: Image.Image, rng: random.Random) -> None:
    width, height = image.size
    pen = ImageDraw.Draw(image)
    box = (width * rng.uniform(0, 0.2), height * rng.uniform(0, 0.15), width * rng.uniform(0.7, 1), height * 0.8)
    pen.rectangle(box, fill=rng.choice([(250, 250, 252), (36, 70, 52), (225, 235, 250)]))
    text_page(pen, rng, box)
    person(pen, rng, width * rng.uniform(0.2, 0.9), height * rng.uniform(0.3, 0.6), height * rng.uniform(0.06, 0.14))


def _corner(image: Image.Image, rng: random.Random) -> None:
    """Nobody is there: a table or the floor."""
    width, height = image.size
    y = height * rng.uniform(0.4, 0.9)
    slope = rng.uniform(-0.3, 0.3) * height
    ImageDraw.Draw(image).polygon(
        [(0, y), (width, y + slope), (width, height), (0, height)], fill=tone(rng, 60, 210, 60)
    )


def camera_of(photos: Sequence[Image.Image]) -> Camera:
    """A camera that shows parts of photos, a tenth of one or more."""

    def show(rng: random.Random, width: int, height: int) -> Image.Image:
        photo = rng.choice(photos)
        share = rng.uniform(0.1, 1) ** 0.5
        w = share * min(photo.width, photo.height * width / height)
        h = w * height / width
        x, y = rng.uniform(0, photo.width - w), rng.uniform(0, photo.height - h)
        return photo.resize((width, height), Image.Resampling.BILINEAR, (x, y, x + w, y + h))

    return show
