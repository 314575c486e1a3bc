"""People: faces, whole persons, heads seen from behind, groups."""

import random

from PIL import ImageDraw

from dataset.drawing.tools import Colour, tone

SKIN: list[Colour] = [(244, 210, 184), (224, 172, 130), (196, 134, 92), (141, 85, 54), (92, 58, 40), (250, 224, 200)]
HAIR: list[Colour] = [(24, 20, 18), (60, 40, 26), (110, 74, 40), (170, 130, 80), (120, 120, 122), (70, 30, 20)]


def audience(pen: ImageDraw.ImageDraw, rng: random.Random, width: int, height: int, horizon: float) -> None:
    rows = rng.randrange(2, 6)
    for row in range(rows):
        near = (row + 1) / rows
        size = height * (0.018 + 0.05 * near)
        y = horizon + (height - horizon) * (0.08 + 0.85 * (near - 1 / rows) + 0.05)
        desk = tone(rng, 90, 200, 40)
        x = rng.uniform(-2, 2) * size
        while x < width + size:
            if rng.random() < 0.8:
                back_of_head(pen, rng, x, y + rng.uniform(-0.4, 0.4) * size, size)
            x += size * rng.uniform(2.2, 3.6)
        if rng.random() < 0.7:
            pen.rectangle((0, y + size * 1.9, width, y + size * 2.4), fill=desk)


def back_of_head(pen: ImageDraw.ImageDraw, rng: random.Random, x: float, y: float, size: float) -> None:
    pen.ellipse((x - size * 1.5, y + size * 0.8, x + size * 1.5, y + size * 4), fill=tone(rng, 20, 220, 110))
    pen.rectangle((x - size * 0.3, y + size * 0.6, x + size * 0.3, y + size * 1.2), fill=rng.choice(SKIN))
    pen.ellipse((x - size * 0.8, y - size, x + size * 0.8, y + size), fill=rng.choice(HAIR))


def standing_group(pen: ImageDraw.ImageDraw, rng: random.Random, width: int, height: int, horizon: float) -> None:
    for row in range(rng.randrange(1, 4)):
        size = height * rng.uniform(0.04, 0.055) * (1 + 0.15 * row)
        count = rng.randrange(4, 11)
        for place in range(count):
            x = width * (0.12 + 0.76 * (place + 0.5) / count) + rng.uniform(-0.4, 0.4) * size
            person(pen, rng, x, horizon * 0.9 + row * size * 2.2, size)


def person(pen: ImageDraw.ImageDraw, rng: random.Random, x: float, y: float, size: float) -> None:
    pen.rounded_rectangle((x - size * 1.3, y + size, x + size * 1.3, y + size * 6), size, fill=tone(rng, 20, 230, 110))
    pen.rectangle((x - size, y + size * 5, x + size, y + size * 9), fill=tone(rng, 20, 110, 30))
    face(pen, rng, x, y, size)


def face(pen: ImageDraw.ImageDraw, rng: random.Random, x: float, y: float, size: float) -> None:
    hair = rng.choice(HAIR)
    pen.ellipse((x - size * 0.9, y - size * 1.15, x + size * 0.9, y + size * 0.9), fill=hair)
    pen.ellipse((x - size * 0.72, y - size * 0.8, x + size * 0.72, y + size), fill=rng.choice(SKIN))
    for side in (-1, 1):
        pen.ellipse(
            (x + side * size * 0.3 - size * 0.1, y - size * 0.1, x + side * size * 0.3 + size * 0.1, y + size * 0.06),
            fill=hair,
        )
    pen.arc(
        (x - size * 0.3, y + size * 0.1, x + size * 0.3, y + size * 0.65),
        20,
        160,
        fill=(150, 60, 60),
        width=max(1, int(size / 10)),
    )
