"""The windows of a call on a computer."""

import random
from collections.abc import Callable

from PIL import Image, ImageDraw

from dataset.drawing.people import face
from dataset.drawing.tools import Box, photograph, shade, text_page, tone


def call(rng: random.Random, width: int, height: int) -> Image.Image:
    dark = rng.random() < 0.75
    image = Image.new("RGB", (width, height), tone(rng, 10, 50, 12) if dark else tone(rng, 225, 252, 8))
    pen = ImageDraw.Draw(image)
    top = height * rng.choice([0.0, 0.04, 0.09])
    bar = height * rng.choice([0.0, 0.07, 0.1])
    pen.rectangle((0, 0, width, top), fill=tone(rng, 30, 235, 10))
    area = (width * 0.01, top + height * 0.01, width * 0.99, height - bar - height * 0.01)
    layout = rng.choice(["grid", "grid", "grid", "shared", "speaker", "chat"])
    _LAYOUTS[layout](pen, rng, area)
    if bar:
        tool_bar(pen, rng, width, height, bar)
    return photograph(image, rng, noise=rng.choice([0, 0, 2]))


def _grid(pen: ImageDraw.ImageDraw, rng: random.Random, area: Box) -> None:
    columns = rng.randrange(2, 7)
    tiles(pen, rng, area, columns, max(1, columns - rng.randrange(0, 3)))


def _shared(pen: ImageDraw.ImageDraw, rng: random.Random, area: Box) -> None:
    x0, y0, x1, y1 = area
    if rng.random() < 0.5:
        cut = x0 + (x1 - x0) * rng.uniform(0.72, 0.85)
        page, strip, shape = (x0, y0, cut - 4, y1), (cut, y0, x1, y1), (1, rng.randrange(3, 7))
    else:
        cut = y0 + (y1 - y0) * rng.uniform(0.15, 0.28)
        page, strip, shape = (x0, cut + 4, x1, y1), (x0, y0, x1, cut), (rng.randrange(3, 8), 1)
    pen.rectangle(page, fill=rng.choice([(252, 252, 252), (245, 247, 250), (40, 44, 52)]))
    text_page(pen, rng, page)
    tiles(pen, rng, strip, *shape)


def _speaker(pen: ImageDraw.ImageDraw, rng: random.Random, area: Box) -> None:
    tile(pen, rng, area, camera=True)
    x0, y0, x1, y1 = area
    w, h = (x1 - x0) * 0.2, (y1 - y0) * 0.2
    for place in range(rng.randrange(0, 4)):
        tile(pen, rng, (x1 - w - 6, y0 + 6 + place * (h + 6), x1 - 6, y0 + 6 + place * (h + 6) + h), camera=True)


def _chat(pen: ImageDraw.ImageDraw, rng: random.Random, area: Box) -> None:
    x0, y0, x1, y1 = area
    cut = x0 + (x1 - x0) * rng.uniform(0.18, 0.3)
    pen.rectangle((x0, y0, cut, y1), fill=tone(rng, 225, 252, 8))
    text_page(pen, rng, (x0, y0, cut, y1))
    _shared(pen, rng, (cut + 6, y0, x1, y1))


def tiles(pen: ImageDraw.ImageDraw, rng: random.Random, area: Box, columns: int, rows: int) -> None:
    x0, y0, x1, y1 = area
    w, h, gap = (x1 - x0) / columns, (y1 - y0) / rows, rng.choice([1, 3, 6])
    cameras = rng.uniform(0.4, 1)
    for place in range(columns * rows - (rng.randrange(0, columns) if rows > 1 else 0)):
        x, y = x0 + place % columns * w, y0 + place // columns * h
        if w > 2 * gap + 4 and h > 2 * gap + 4:
            tile(pen, rng, (x + gap, y + gap, x + w - gap, y + h - gap), camera=rng.random() < cameras)


def tile(pen: ImageDraw.ImageDraw, rng: random.Random, box: Box, camera: bool) -> None:
    x0, y0, x1, y1 = box
    w, h = x1 - x0, y1 - y0
    size = min(w, h) * rng.uniform(0.2, 0.32)
    x, y = (x0 + x1) / 2 + rng.uniform(-0.1, 0.1) * w, y0 + h * rng.uniform(0.4, 0.55)
    if camera:
        shade(pen, box, tone(rng, 60, 230, 40), rng.uniform(0.6, 1))
        for _ in range(rng.randrange(0, 3)):
            sx, sy = rng.uniform(x0, x1 - w * 0.2), rng.uniform(y0, y1 - h * 0.3)
            pen.rectangle((sx, sy, sx + w * 0.2, sy + h * 0.3), fill=tone(rng, 40, 240, 60))
        pen.chord(
            (x - size * 1.9, y + size * 0.9, x + size * 1.9, y1 + (y1 - y)), 180, 360, fill=tone(rng, 20, 220, 110)
        )
        pen.rectangle((x0, y1, x1, y1 + 1), fill=(0, 0, 0))
        face(pen, rng, x, y, size)
    else:
        pen.rectangle(box, fill=tone(rng, 30, 70, 10))
        pen.ellipse((x - size, y - size, x + size, y + size), fill=tone(rng, 60, 200, 90))
        pen.text((x, y), rng.choice("ABDJKLMSTW"), fill="white", anchor="mm", font_size=max(8, size))
    name = rng.choice(["Anna", "Bo", "Chen", "Dana", "Eli", "Fatou", "Ines", "Li Wei", "Omar", "Yuki"])
    pen.text((x0 + 4, y1 - 3), name, fill="white", anchor="ls", font_size=max(7, h * 0.07))


def tool_bar(pen: ImageDraw.ImageDraw, rng: random.Random, width: int, height: int, bar: float) -> None:
    pen.rectangle((0, height - bar, width, height), fill=rng.choice([(28, 28, 30), (36, 40, 48), (250, 250, 250)]))
    count = rng.randrange(4, 10)
    for place in range(count):
        x, y, r = width * (0.5 + 0.055 * (place - count / 2)), height - bar / 2, bar * 0.28
        fill = (215, 50, 45) if place == count - 1 else rng.choice([(150, 155, 160), (70, 75, 85), (60, 110, 220)])
        pen.ellipse((x - r, y - r, x + r, y + r), fill=fill)


_LAYOUTS: dict[str, Callable[[ImageDraw.ImageDraw, random.Random, Box], None]] = {
    "grid": _grid,
    "shared": _shared,
    "speaker": _speaker,
    "chat": _chat,
}
