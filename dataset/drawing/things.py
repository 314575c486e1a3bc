"""Single things that are no class: plants, animals, vehicles, dishes, landscapes, patterns; also small and coarse."""

import math
import random
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from dataset.drawing.papers import papers
from dataset.drawing.tools import Colour, photograph, shade, tone

Pen = ImageDraw.ImageDraw


def pictures(rng: random.Random, width: int, height: int) -> Image.Image:
    """What shows no class: papers or things."""
    return rng.choice([papers, things])(rng, width, height)


def things(rng: random.Random, width: int, height: int) -> Image.Image:
    """A thing before a blurred ground, as a camera sees it; every third one enlarged from a few pixels."""
    image = _ground(rng, width, height)
    show = rng.choices([_plants, _animal, _vehicle, _dish, _landscape, _nothing], [4, 4, 4, 2, 1, 1])[0]
    show(image, rng)
    image = _textured(image, rng, rng.uniform(0, 0.3))
    if rng.random() < 0.4:
        side = rng.choice([32, 48, 64, 96])
        small = image.resize((side, side), Image.Resampling.BOX)
        image = small.resize((width, height), rng.choice([Image.Resampling.NEAREST, Image.Resampling.BICUBIC]))
    return photograph(image, rng, noise=rng.choice([0, 2, 6]))


def _hue(rng: random.Random, low: int = 60, high: int = 255) -> Colour:
    """A strong colour: one or two of its parts are much darker."""
    parts = [rng.randint(low, high), rng.randint(low // 2, high), rng.randint(0, max(1, low))]
    rng.shuffle(parts)
    return parts[0], parts[1], parts[2]


def _ground(rng: random.Random, width: int, height: int) -> Image.Image:
    """Grass, leaves, sky, sea, a wall or a road, out of focus."""
    colour = rng.choice(
        [(60, 110, 40), (40, 70, 30), (110, 160, 220), (60, 100, 130), (150, 130, 100), (120, 120, 120)]
    )
    plain = rng.random() < 0.25
    colour = tone(rng, 170, 255, 20) if plain else _near(rng, colour, 35)
    image = Image.new("RGB", (width, height))
    pen = ImageDraw.Draw(image)
    shade(pen, (0, 0, width, height), colour, rng.uniform(0.4, 1))
    for _ in range(0 if plain else rng.randrange(0, 60)):
        x, y, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.01, 0.12) * width
        pen.ellipse((x - r, y - r * rng.uniform(0.3, 2), x + r, y + r), fill=_near(rng, colour, 50))
    if rng.random() < 0.5:
        y = height * rng.uniform(0.3, 0.85)
        pen.rectangle(
            (0, y, width, height), fill=_near(rng, rng.choice([(90, 130, 60), (130, 120, 105), (90, 90, 95)]), 30)
        )
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0.002, 0.03) * width))


def _near(rng: random.Random, colour: Colour, spread: int) -> Colour:
    red, green, blue = (max(0, min(255, part + rng.randint(-spread, spread))) for part in colour)
    return red, green, blue


def _textured(image: Image.Image, rng: random.Random, strength: float) -> Image.Image:
    """Multiply by smooth noise of several sizes, as leaves, fur and stone have."""
    noise = np.random.default_rng(rng.getrandbits(32))
    width, height = image.size
    total = np.zeros((height, width), np.float32)
    for cells in (4, 12, 40, 120):
        small = Image.fromarray(noise.normal(0, 1, (cells, cells)).astype(np.float32))
        total += np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)) / 2
    pixels = np.asarray(image, dtype=np.float32) * (1 + strength * total[:, :, None])
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _turned(x: float, y: float, r: float, angle: float, side: float = 0) -> tuple[float, float]:
    """A point at a distance from another one, and a distance beside it."""
    return (
        x + r * math.cos(angle) - side * math.sin(angle),
        y + r * math.sin(angle) + side * math.cos(angle),
    )


def _leaf(pen: Pen, x: float, y: float, r: float, angle: float, wide: float, fill: Colour) -> None:
    """A pointed or round oval that begins at a point."""
    edge = [(t / 8, math.sin(math.pi * t / 8) * wide) for t in range(9)]
    outline = [_turned(x, y, along * r, angle, side * r) for along, side in edge]
    pen.polygon([*outline, *(_turned(x, y, along * r, angle, -side * r) for along, side in reversed(edge))], fill=fill)


def _plants(image: Image.Image, rng: random.Random) -> None:
    """One or several flowers, near or far, with stalks and leaves."""
    pen, (width, height) = ImageDraw.Draw(image), image.size
    count = rng.choice([1, 1, 1, 2, 4, 12])
    petal, heart, petals = (
        _hue(rng) if rng.random() < 0.7 else (245, 240, 245),
        _hue(rng),
        rng.choice([5, 6, 8, 14, 24]),
    )
    wide, layers = rng.uniform(0.08, 0.4), rng.choice([1, 1, 2, 4])
    for _ in range(count):
        r = min(width, height) * rng.uniform(0.2, 0.5) / count**0.5
        x, y = rng.uniform(0.25, 0.75) * width, rng.uniform(0.25, 0.65) * height
        green = _near(rng, (60, 120, 40), 40)
        pen.line((x, y, x + rng.uniform(-1, 1) * r, height), fill=green, width=max(2, int(r / 10)))
        for _ in range(rng.randrange(0, 4)):
            _leaf(pen, x, height, r * rng.uniform(0.8, 2), rng.uniform(-2.6, -0.5), 0.2, _near(rng, green, 30))
        for layer in range(layers):
            for number in range(petals):
                angle = 2 * math.pi * (number + layer / 2) / petals + rng.uniform(-0.15, 0.15)
                size = r * (1 - layer / (layers + 1)) * rng.uniform(0.85, 1.1)
                _leaf(pen, x, y, size, angle, wide, _near(rng, petal, 28))
        core = r * rng.uniform(0.1, 0.4)
        pen.ellipse((x - core, y - core, x + core, y + core), fill=heart)


def _animal(image: Image.Image, rng: random.Random) -> None:
    """A body, a head with eyes and ears, legs or wings, and a tail, or only the head."""
    pen, (width, height) = ImageDraw.Draw(image), image.size
    fur = rng.choice([tone(rng, 20, 240, 15), _near(rng, (140, 95, 55), 40), _near(rng, (90, 110, 60), 30), _hue(rng)])
    size = min(width, height) * rng.uniform(0.12, 0.32)
    x, y, way = width * rng.uniform(0.35, 0.65), height * rng.uniform(0.35, 0.7), rng.choice([-1, 1])
    if rng.random() < 0.75:
        long, thick = size * rng.uniform(1, 2.2), size * rng.uniform(0.5, 0.9)
        for place in (-0.8, -0.6, 0.55, 0.75) if rng.random() < 0.7 else (-0.1, 0.1):
            left = x + place * long
            pen.rectangle((left, y, left + size * 0.18, y + size * rng.uniform(1.1, 1.6)), fill=_near(rng, fur, 18))
        _leaf(pen, x - way * long * 0.9, y, size * 1.5, rng.uniform(-0.8, 0.8) + (math.pi if way > 0 else 0), 0.1, fur)
        pen.ellipse((x - long, y - thick, x + long, y + thick), fill=fur)
        if rng.random() < 0.3:
            _leaf(pen, x, y, size * 2, rng.uniform(-2.4, -0.7), 0.25, _near(rng, fur, 35))
        x, y, size = x + way * long, y - thick * rng.uniform(0.2, 1.4), size * rng.uniform(0.4, 0.7)
    for side in (-1, 1):
        _leaf(
            pen,
            x + side * size * 0.5,
            y - size * 0.5,
            size * rng.uniform(0.6, 1.3),
            -math.pi / 2 + side * 0.4,
            0.3,
            fur,
        )
    pen.ellipse((x - size, y - size, x + size, y + size), fill=_near(rng, fur, 12))
    for side in (-1, 1):
        eye = (x + side * size * 0.4, y - size * 0.2, size * 0.12)
        pen.ellipse((eye[0] - eye[2], eye[1] - eye[2], eye[0] + eye[2], eye[1] + eye[2]), fill=(15, 12, 10))
    pen.ellipse((x - size * 0.3, y + size * 0.2, x + size * 0.3, y + size * 0.6), fill=_near(rng, fur, 45))


def _vehicle(image: Image.Image, rng: random.Random) -> None:
    rng.choice([_car, _car, _plane, _ship])(ImageDraw.Draw(image), rng, *image.size)


def _car(pen: Pen, rng: random.Random, width: int, height: int) -> None:
    """A car or lorry from the side."""
    long, x, y = width * rng.uniform(0.45, 0.85), width / 2, height * rng.uniform(0.45, 0.7)
    paint, high = _hue(rng) if rng.random() < 0.6 else tone(rng, 20, 250, 8), long * rng.uniform(0.12, 0.2)
    left, right = x - long / 2, x + long / 2
    if rng.random() < 0.4:
        pen.rectangle((left, y - high * 2.2, right - long * 0.28, y + high), fill=paint)
        pen.rectangle((right - long * 0.26, y - high, right, y + high), fill=_near(rng, paint, 40))
    else:
        roof = [
            (left + long * 0.15, y),
            (left + long * 0.28, y - high),
            (right - long * 0.3, y - high),
            (right - long * 0.15, y),
        ]
        pen.polygon(roof, fill=tone(rng, 40, 190, 20))
        pen.rounded_rectangle((left, y - high * 0.1, right, y + high), high * 0.4, fill=paint)
    for place in (0.2, 0.8):
        wheel, r = left + long * place, high * rng.uniform(0.45, 0.6)
        pen.ellipse((wheel - r, y + high - r, wheel + r, y + high + r), fill=(20, 20, 22))
        pen.ellipse((wheel - r / 2, y + high - r / 2, wheel + r / 2, y + high + r / 2), fill=(150, 150, 155))


def _plane(pen: Pen, rng: random.Random, width: int, height: int) -> None:
    x, y, r = width / 2, height * rng.uniform(0.3, 0.65), width * rng.uniform(0.3, 0.48)
    turn, paint = rng.uniform(-0.4, 0.4), tone(rng, 60, 250, 15)
    start = _turned(x, y, -r, turn)
    for angle, size in ((2.3, 0.9), (-2.3, 0.6)):
        _leaf(pen, *_turned(x, y, r * 0.1, turn), r * size, turn + angle, 0.12, _near(rng, paint, 30))
        _leaf(pen, *start, r * size * 0.4, turn + angle, 0.2, _near(rng, paint, 50))
    _leaf(pen, *start, 2 * r, turn, rng.uniform(0.05, 0.1), paint)


def _ship(pen: Pen, rng: random.Random, width: int, height: int) -> None:
    long, x, y = width * rng.uniform(0.4, 0.85), width / 2, height * rng.uniform(0.5, 0.7)
    pen.rectangle((0, y + long * 0.06, width, height), fill=_near(rng, (50, 95, 130), 35))
    left, right, paint = x - long / 2, x + long / 2, _hue(rng) if rng.random() < 0.5 else tone(rng, 20, 245, 10)
    hull = [(left, y), (right, y), (right - long * 0.12, y + long * 0.12), (left + long * 0.08, y + long * 0.12)]
    pen.polygon(hull, fill=paint)
    if rng.random() < 0.5:
        pen.polygon([(x, y - long * 0.6), (x, y), (x + long * 0.35, y)], fill=tone(rng, 200, 255, 10))
        pen.line((x, y - long * 0.65, x, y), fill=(60, 50, 40), width=max(2, int(long / 80)))
    for floor in range(rng.randrange(1, 4)):
        box = (
            left + long * 0.15 * (floor + 1),
            y - long * 0.07 * (floor + 1),
            right - long * 0.3,
            y - long * 0.07 * floor,
        )
        pen.rectangle(box, fill=tone(rng, 190, 255, 8))


def _dish(image: Image.Image, rng: random.Random) -> None:
    """Fruit or food, alone or on a plate, from above."""
    pen, (width, height) = ImageDraw.Draw(image), image.size
    x, y, r = width / 2, height / 2, min(width, height) * rng.uniform(0.3, 0.48)
    if rng.random() < 0.6:
        pen.ellipse((x - r, y - r, x + r, y + r), fill=tone(rng, 210, 255, 8), outline=(170, 170, 170), width=4)
    kind = _hue(rng)
    for _ in range(rng.randrange(1, 25)):
        size, angle, away = r * rng.uniform(0.12, 0.4), rng.uniform(0, 6.3), rng.uniform(0, 0.6) * r
        px, py = _turned(x, y, away, angle)
        pen.ellipse((px - size, py - size * rng.uniform(0.6, 1), px + size, py + size), fill=_near(rng, kind, 30))


def _landscape(image: Image.Image, rng: random.Random) -> None:
    """Hills, trees and houses under a sky."""
    pen, (width, height) = ImageDraw.Draw(image), image.size
    shade(pen, (0, 0, width, height), _near(rng, (140, 180, 230), 50), rng.uniform(0.7, 1))
    for row in range(rng.randrange(1, 5)):
        y, fill = height * (0.4 + 0.13 * row), _near(rng, (80, 110, 70), 40)
        rim = [(width * n / 12, y + rng.uniform(-0.1, 0.1) * height) for n in range(13)]
        pen.polygon([(0, height), *rim, (width, height)], fill=fill)
    for _ in range(rng.randrange(0, 14)):
        x, y, r = rng.uniform(0, width), height * rng.uniform(0.45, 0.9), height * rng.uniform(0.03, 0.15)
        pen.rectangle((x - r * 0.1, y, x + r * 0.1, y + r * 1.4), fill=(80, 60, 40))
        pen.ellipse((x - r, y - r, x + r, y + r * 0.7), fill=_near(rng, (50, 100, 45), 35))


def _nothing(image: Image.Image, rng: random.Random) -> None:
    """A surface alone: stripes, spots or stone."""
    pen, (width, height) = ImageDraw.Draw(image), image.size
    fill, step = _hue(rng), rng.uniform(0.02, 0.15) * width
    draw: Callable[[tuple[float, float, float, float]], None] = rng.choice(
        [lambda box: pen.rectangle(box, fill=fill), lambda box: pen.ellipse(box, fill=_near(rng, fill, 40))]
    )
    for column in range(int(width / step) + 1):
        for row in range(int(height / step) + 1):
            x, y = column * step, row * step
            draw((x, y, x + step * 0.5, y + step * rng.uniform(0.5, 1)))
