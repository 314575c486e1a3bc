"""What shows no class: logos, charts, diagrams, maps, posters, lists."""

import math
import random

from PIL import Image, ImageDraw

from dataset.drawing.tools import Box, Colour, text_page, tone

Pen = ImageDraw.ImageDraw
WORDS = ("open", "data", "school", "maps", "club", "code", "spring", "lab", "city", "green", "lecture", "2026", "free")


def papers(rng: random.Random, width: int, height: int) -> Image.Image:
    """A logo, chart, diagram, map, poster or list on paper of one colour."""
    if rng.random() < 0.35:
        width, height = rng.choice([(480, 480), (480, 640), (height, height), (width, height // 2)])
    dark = rng.random() < 0.25
    image = Image.new("RGB", (width, height), tone(rng, 0, 70, 25) if dark else tone(rng, 235, 255, 10))
    show = rng.choices([_logo, _chart, _diagram, _map, _poster, _list], [5, 3, 2, 2, 3, 1])[0]
    show(ImageDraw.Draw(image), rng, width, height)
    return image


def _ink(rng: random.Random) -> Colour:
    return tone(rng, 30, 220, 120)


def _word(pen: Pen, rng: random.Random, x: float, y: float, size: float, fill: Colour) -> None:
    text = " ".join(rng.sample(WORDS, rng.choice([1, 1, 2])))
    text = text.upper() if rng.random() < 0.4 else text.title()
    pen.text((x, y), text, fill=fill, anchor="mm", font_size=max(8, size))


def _logo(pen: Pen, rng: random.Random, width: int, height: int) -> None:
    """Some shapes in one or two colours, often beside or above a word."""
    short = min(width, height)
    beside = width > 1.5 * height
    x, y = (width * 0.25, height / 2) if beside else (width / 2, height * rng.choice([0.4, 0.5]))
    r = short * rng.uniform(0.18, 0.42)
    colours = [_ink(rng), _ink(rng), (255, 255, 255)]
    for number in range(rng.randrange(1, 6)):
        _shape(pen, rng, x, y, r, rng.choice(colours) if number else colours[0])
        r *= rng.uniform(0.5, 0.95)
        x, y = x + rng.uniform(-0.3, 0.3) * r, y + rng.uniform(-0.3, 0.3) * r
    if rng.random() < 0.7:
        place = (width * 0.68, height / 2) if beside else (width / 2, height * 0.87)
        _word(pen, rng, *place, short * rng.uniform(0.08, 0.2), colours[0])


def _shape(pen: Pen, rng: random.Random, x: float, y: float, r: float, fill: Colour) -> None:
    kind = rng.choice(["disc", "ring", "sector", "polygon", "polygon", "box", "letter"])
    box = (x - r, y - r, x + r, y + r)
    if kind == "disc":
        pen.ellipse(box, fill=fill)
    elif kind == "ring":
        pen.ellipse(box, outline=fill, width=max(2, int(r * rng.uniform(0.06, 0.3))))
    elif kind == "sector":
        start = rng.randrange(360)
        pen.pieslice(box, start, start + rng.randrange(60, 300), fill=fill)
    elif kind == "polygon":
        pen.polygon(_star(rng, x, y, r), fill=fill)
    elif kind == "box":
        pen.rounded_rectangle(box, r * rng.choice([0, 0.2, 0.5]), fill=fill)
    else:
        pen.text((x, y), rng.choice("ABCDEGKMNQRSXZ&@#"), fill=fill, anchor="mm", font_size=max(8, r * 1.6))


def _star(rng: random.Random, x: float, y: float, r: float) -> list[tuple[float, float]]:
    corners, inner, turn = rng.randrange(3, 9), rng.choice([1, 1, 0.4, 0.6]), rng.uniform(0, 6)
    return [
        (
            x + r * (inner if n % 2 else 1) * math.cos(turn + math.pi * n / corners),
            y + r * (inner if n % 2 else 1) * math.sin(turn + math.pi * n / corners),
        )
        for n in range(2 * corners)
    ]


def _chart(pen: Pen, rng: random.Random, width: int, height: int) -> None:
    """Bars, lines, points or sectors with axes and a title."""
    left, top, right, bottom = width * 0.12, height * 0.16, width * 0.93, height * 0.86
    grey = (130, 130, 130)
    _word(pen, rng, width / 2, height * 0.08, height * 0.05, grey)
    if rng.random() < 0.2:
        start, r = 0.0, min(width, height) * 0.33
        while start < 360:
            end = start + rng.uniform(20, 140)
            pen.pieslice(
                (width / 2 - r, height / 2 - r, width / 2 + r, height / 2 + r), start, min(end, 360), fill=_ink(rng)
            )
            start = end
        return
    for line in range(6):
        y = top + (bottom - top) * line / 5
        pen.line((left, y, right, y), fill=(200, 200, 200))
        pen.text((left - 6, y), str(100 - 20 * line), fill=grey, anchor="rm", font_size=max(8, height * 0.025))
    pen.line((left, top, left, bottom, right, bottom), fill=grey, width=2)
    for _ in range(rng.randrange(1, 4)):
        _series(pen, rng, (left, top, right, bottom))


def _series(pen: Pen, rng: random.Random, box: Box) -> None:
    left, top, right, bottom = box
    count, fill, kind = rng.randrange(4, 24), _ink(rng), rng.choice(["bars", "line", "points"])
    level = rng.random()
    points = []
    for place in range(count):
        level = min(1, max(0, level + rng.uniform(-0.25, 0.25)))
        points.append((left + (right - left) * (place + 0.5) / count, bottom - (bottom - top) * level))
    half = (right - left) / count * 0.3
    if kind == "line":
        pen.line(points, fill=fill, width=3)
    for x, y in points if kind != "line" else []:
        pen.rectangle((x - half, y, x + half, bottom) if kind == "bars" else (x - 3, y - 3, x + 3, y + 3), fill=fill)


def _diagram(pen: Pen, rng: random.Random, width: int, height: int) -> None:
    """Boxes with words, joined by lines."""
    columns, rows = rng.randrange(2, 6), rng.randrange(2, 5)
    w, h = width / columns, height / rows
    centres = [((n % columns + 0.5) * w, (n // columns + 0.5) * h) for n in range(columns * rows) if rng.random() < 0.8]
    for _ in range(len(centres) if len(centres) > 1 else 0):
        pen.line((*rng.choice(centres), *rng.choice(centres)), fill=(120, 120, 120), width=2)
    for x, y in centres:
        box = (x - w * 0.36, y - h * 0.25, x + w * 0.36, y + h * 0.25)
        pen.rounded_rectangle(box, h * rng.choice([0, 0.1]), fill=_ink(rng), outline=(60, 60, 60))
        _word(pen, rng, x, y, min(w, h) * 0.12, (255, 255, 255))


def _map(pen: Pen, rng: random.Random, width: int, height: int) -> None:
    """Land in the sea, roads, and marks of places."""
    pen.rectangle((0, 0, width, height), fill=tone(rng, 170, 240, 40))
    land = tone(rng, 150, 245, 30)
    for _ in range(rng.randrange(2, 9)):
        x, y, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.08, 0.4) * width
        angles = sorted(rng.uniform(0, 2 * math.pi) for _ in range(rng.randrange(8, 30)))
        rim = [(a, r * rng.uniform(0.5, 1)) for a in angles]
        pen.polygon(
            [(x + d * math.cos(a), y + d * 0.7 * math.sin(a)) for a, d in rim], fill=land, outline=(130, 130, 130)
        )
    for _ in range(rng.choice([0, 6, 25])):
        ends = [rng.uniform(-0.1, 1.1) * side for side in (width, height, width, height)]
        pen.line(ends, fill=rng.choice([(255, 255, 255), (250, 200, 90), (140, 140, 140)]), width=rng.randrange(1, 6))
    for _ in range(rng.randrange(0, 30)):
        x, y, r = rng.uniform(0, width), rng.uniform(0, height), height * 0.012
        pen.ellipse((x - r, y - r, x + r, y + r), fill=_ink(rng))


def _poster(pen: Pen, rng: random.Random, width: int, height: int) -> None:
    """Large words over coloured areas."""
    for _ in range(rng.randrange(1, 5)):
        x, y = rng.uniform(-0.2, 0.9) * width, rng.uniform(-0.2, 0.9) * height
        _shape(pen, rng, x, y, rng.uniform(0.15, 0.6) * min(width, height), _ink(rng))
    for line in range(rng.randrange(1, 5)):
        size = height * rng.uniform(0.05, 0.14)
        _word(
            pen,
            rng,
            width / 2,
            height * (0.18 + 0.2 * line),
            size,
            rng.choice([(255, 255, 255), (20, 20, 30), _ink(rng)]),
        )


def _list(pen: Pen, rng: random.Random, width: int, height: int) -> None:
    """A page of a document or of a web site."""
    pen.rectangle((0, 0, width, height * rng.choice([0, 0.1])), fill=_ink(rng))
    text_page(pen, rng, (0, height * 0.05, width, height))
