"""Lessons in a room."""

import random
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFilter

from dataset.drawing.calls import tiles
from dataset.drawing.devices import place_laptop
from dataset.drawing.people import audience, back_of_head, person, standing_group
from dataset.drawing.tools import paste, photograph, shade, text_page, tone
from dataset.drawing.windows import page


def room(rng: random.Random, width: int, height: int) -> Image.Image:
    image = Image.new("RGB", (width, height))
    pen = ImageDraw.Draw(image)
    horizon = height * rng.uniform(0.45, 0.62)
    shade(pen, (0, 0, width, horizon), tone(rng, 110, 245, 24), rng.uniform(0.75, 0.95))
    shade(pen, (0, horizon, width, height), tone(rng, 60, 180, 30), rng.uniform(0.5, 0.9))
    ceiling(pen, rng, width, height)
    _board(image, rng, width, horizon)
    if rng.random() < 0.3:
        standing_group(pen, rng, width, height, horizon)
    else:
        if rng.random() < 0.6:
            person(pen, rng, rng.uniform(0.1, 0.9) * width, horizon * 0.62, height * 0.05)
        audience(pen, rng, width, height, horizon)
    return photograph(image, rng, noise=rng.uniform(4, 14))


def ceiling(pen: ImageDraw.ImageDraw, rng: random.Random, width: int, height: int) -> None:
    for row in range(rng.randrange(0, 4)):
        y, size = height * (0.02 + 0.05 * row), width * 0.12 / (1 + row)
        for column in range(rng.randrange(2, 5)):
            x = width * (0.15 + 0.22 * column)
            pen.polygon([(x, y), (x + size, y), (x + size * 0.9, y + 6), (x + size * 0.1, y + 6)], fill=(255, 253, 240))


def _board(image: Image.Image, rng: random.Random, width: int, horizon: float) -> None:
    w, h = width * rng.uniform(0.22, 0.5), horizon * rng.uniform(0.35, 0.6)
    x, y = rng.uniform(0.08, 0.9) * (width - w), horizon * rng.uniform(0.12, 0.3)
    box = (x, y, x + w, y + h)
    pen = ImageDraw.Draw(image)
    pen.rectangle(box, fill=rng.choice([(250, 250, 252), (36, 70, 52), (225, 235, 250)]), outline=(80, 80, 80), width=4)
    if rng.random() < 0.25:
        tiles(pen, rng, (x + 6, y + 6, x + w - 6, y + h - 6), rng.randrange(2, 5), rng.randrange(2, 4))
    else:
        text_page(pen, rng, box)


def rooms(rng: random.Random, width: int, height: int) -> Image.Image:
    """A lesson in a room, and where it resembles a screen: laptops, a large screen, close faces, from above."""
    show = rng.choices([room, _with_laptop, _dark, _close, _from_above, _framed], [4, 3, 2, 3, 1, 2])[0]
    return show(rng, width, height)


def _with_laptop(rng: random.Random, width: int, height: int) -> Image.Image:
    """Laptops before the viewer, which show no call."""
    return with_laptop(room(rng, width, height), rng)


def with_laptop(image: Image.Image, rng: random.Random) -> Image.Image:
    """Add laptops that show pages to a photo of a room."""
    for _ in range(rng.choice([1, 1, 2, 3])):
        screen = page(rng, 640, rng.choice([400, 480]))
        place_laptop(image, rng, screen, rng.uniform(0.15, 0.45), (rng.uniform(0.1, 0.9), rng.uniform(0.6, 0.9)))
    return photograph(image, rng, noise=2)


def _dark(rng: random.Random, width: int, height: int) -> Image.Image:
    """A dark hall: a bright screen over the heads of the audience."""
    image = Image.new("RGB", (width, height), tone(rng, 5, 45, 8))
    pen = ImageDraw.Draw(image)
    share, top = rng.uniform(0.4, 0.85), height * rng.uniform(0.03, 0.15)
    box = (width * (1 - share) / 2, top, width * (1 + share) / 2, top + height * rng.uniform(0.35, 0.55))
    paste(image, page(rng, 640, 400), box)
    if rng.random() < 0.7:
        person(pen, rng, width * rng.uniform(0.1, 0.9), height * 0.45, height * rng.uniform(0.04, 0.07))
    audience(pen, rng, width, height, height * 0.62)
    return photograph(image.point(lambda level: int(level * 0.8)), rng, noise=rng.uniform(5, 14))


def _close(rng: random.Random, width: int, height: int) -> Image.Image:
    """One to four people close to the camera, others or a board behind them."""
    image = room(rng, width, height).filter(ImageFilter.GaussianBlur(rng.uniform(0, 4)))
    pen = ImageDraw.Draw(image)
    count = rng.randrange(1, 5)
    for place in range(count):
        size = height * rng.uniform(0.09, 0.2)
        x = width * (place + rng.uniform(0.3, 0.7)) / count
        person(pen, rng, x, height * rng.uniform(0.3, 0.65), size)
    return photograph(image, rng, noise=rng.uniform(3, 10))


def _from_above(rng: random.Random, width: int, height: int) -> Image.Image:
    """Tables from above, with people around them."""
    image = Image.new("RGB", (width, height))
    pen = ImageDraw.Draw(image)
    shade(pen, (0, 0, width, height), tone(rng, 70, 210, 30), rng.uniform(0.6, 1))
    for _ in range(rng.randrange(2, 7)):
        x, y, w = rng.uniform(0, 1) * width, rng.uniform(0, 1) * height, rng.uniform(0.12, 0.3) * width
        h = w * rng.uniform(0.3, 0.6)
        for seat in range(rng.randrange(2, 7)):
            across = x + w * (seat // 2 + 0.5) / 3
            back_of_head(pen, rng, across, y - h * 0.3 if seat % 2 else y + h * 1.1, w * 0.1)
        pen.polygon([(x, y), (x + w, y), (x + w * 1.1, y + h), (x - w * 0.1, y + h)], fill=tone(rng, 120, 240, 30))
        for _ in range(rng.randrange(0, 4)):
            u, v = x + rng.uniform(0.1, 0.8) * w, y + rng.uniform(0.1, 0.7) * h
            pen.rectangle((u, v, u + w * 0.12, v + h * 0.2), fill=tone(rng, 20, 250, 20))
    return photograph(image, rng, noise=rng.uniform(4, 12))


def _framed(rng: random.Random, width: int, height: int) -> Image.Image:
    return framed(room(rng, width, height), rng)


def framed(photo: Image.Image, rng: random.Random) -> Image.Image:
    """A photo between bars, as a phone or a viewer shows it."""
    level = rng.choice([0, 0, 255, rng.randrange(256)])
    width, height = (480, rng.randrange(720, 1060)) if rng.random() < 0.6 else photo.size
    image = Image.new("RGB", (width, height), (level, level, level))
    inner = photo.copy()
    inner.thumbnail((width, int(height * rng.uniform(0.5, 0.95))))
    image.paste(inner, ((width - inner.width) // 2, (height - inner.height) // 2))
    return image


def changed_photo(rng: random.Random, width: int, height: int, photos: Sequence[Image.Image]) -> Image.Image:
    """A photo of a room, in its own shape and about this large, with laptops before it or bars around it."""
    photo = rng.choice(photos).copy()
    photo.thumbnail((width, width))
    return with_laptop(photo, rng) if rng.random() < 0.5 else framed(photo, rng)
