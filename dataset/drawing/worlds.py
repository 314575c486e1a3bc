"""Virtual rooms seen from above: floors and furniture of a game, with the cameras of those who are near."""

import random

from PIL import Image, ImageDraw

from dataset.drawing.cameras import Camera
from dataset.drawing.people import HAIR, SKIN
from dataset.drawing.tools import Box, Colour, paste, tone
from dataset.drawing.windows import NAMES, RED


def world(rng: random.Random, width: int, height: int, camera: Camera) -> Image.Image:
    """A floor with furniture and figures, bubbles or tiles with cameras, mostly a bar of buttons."""
    image = _floor(rng, width, height)
    pen = ImageDraw.Draw(image)
    places = [(rng.uniform(0.08, 0.92) * width, rng.uniform(0.12, 0.85) * height) for _ in range(rng.randrange(1, 12))]
    bubbles = rng.random() < 0.6
    if bubbles:
        size = min(width, height) * rng.uniform(0.08, 0.2)
        radius = size * rng.choice([0.5, 0.5, 0.2, 0.1])
        for x, y in places:
            paste(
                image,
                camera(rng, int(size), int(size)),
                (x - size / 2, y - size / 2, x + size / 2, y + size / 2),
                radius,
            )
            _label(pen, rng, x, y + size * 0.6, size * 0.2)
    else:
        for x, y in places:
            _label(pen, rng, x, y - height * 0.05, height * 0.02)
    if not bubbles or rng.random() < 0.2:
        _row(image, rng, camera)
    _bars(pen, rng, width, height)
    return image


def _floor(rng: random.Random, width: int, height: int) -> Image.Image:
    """Drawn with few pixels and enlarged, as pixel art is; or with many."""
    scale = rng.choice([1, 2, 3, 4])
    image = Image.new("RGB", (-(-width // scale), -(-height // scale)), tone(rng, 40, 200, 60))
    cell = max(4, int(image.height / rng.uniform(9, 22)))
    _pattern(image, rng, cell)
    pen = ImageDraw.Draw(image)
    for _ in range(rng.randrange(2, 5)):
        pen.rectangle(_cells(image, rng, cell, 10), fill=tone(rng, 50, 220, 70), outline=tone(rng, 20, 120, 30))
    for _ in range(rng.randrange(6, 28)):
        _furniture(pen, rng, _cells(image, rng, cell, 3), cell)
    for _ in range(rng.randrange(2, 12)):
        box = _cells(image, rng, cell, 1)
        _figure(pen, rng, box[0], box[1], cell)
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST).crop(
        (0, 0, width, height)
    )


def _pattern(image: Image.Image, rng: random.Random, cell: int) -> None:
    """Boards, squares, grass or a plain floor."""
    pen = ImageDraw.Draw(image)
    base = tone(rng, 60, 210, 70)
    kind = rng.choice(["boards", "squares", "grass", "plain"])
    pen.rectangle((0, 0, *image.size), fill=base)
    for row in range(image.height // cell + 1):
        for column in range(image.width // cell + 1):
            x, y = column * cell, row * cell
            shift = rng.randint(-8, 8) if kind == "boards" else 14 * ((row + column) % 2) if kind == "squares" else 0
            fill = tuple(max(0, min(255, level + shift)) for level in base)
            if kind in ("boards", "squares"):
                pen.rectangle((x, y, x + cell - (kind == "boards"), y + cell - 1), fill=fill)
            elif kind == "grass" and rng.random() < 0.4:
                pen.line((x, y, x + 1, y + 2), fill=tuple(max(0, level - 25) for level in base))


def _cells(image: Image.Image, rng: random.Random, cell: int, most: int) -> Box:
    """A box of whole cells."""
    x, y = rng.randrange(0, image.width // cell + 1) * cell, rng.randrange(0, image.height // cell + 1) * cell
    return x, y, x + rng.randint(1, most) * cell - 1, y + rng.randint(1, most) * cell - 1


def _furniture(pen: ImageDraw.ImageDraw, rng: random.Random, box: Box, cell: int) -> None:
    x0, y0, x1, y1 = box
    colour = tone(rng, 40, 220, 80)
    darker: Colour = (colour[0] // 2, colour[1] // 2, colour[2] // 2)
    kind = rng.choice(["table", "round", "plant", "wall", "screen"])
    if kind == "table":
        pen.rectangle((x0, y0 + cell // 4, x1, y1 + cell // 4), fill=darker)
        pen.rectangle(box, fill=colour, outline=darker)
    elif kind == "round":
        pen.ellipse(box, fill=colour, outline=darker)
    elif kind == "plant":
        pen.rectangle((x0 + cell // 3, y0 + cell // 2, x0 + cell * 2 // 3, y0 + cell), fill=(150, 90, 50))
        pen.ellipse((x0, y0 - cell // 3, x0 + cell, y0 + cell * 2 // 3), fill=(40 + colour[0] // 5, 140, 60))
    elif kind == "wall":
        pen.rectangle((x0, y0, x0 + 6 * cell, y0 + cell), fill=darker)
        pen.rectangle((x0, y0, x0 + 6 * cell, y0 + cell // 3), fill=colour)
    else:
        pen.rectangle((x0, y0, x0 + 2 * cell, y0 + cell), fill=(240, 244, 250), outline=(40, 40, 50))


def _figure(pen: ImageDraw.ImageDraw, rng: random.Random, x: float, y: float, cell: int) -> None:
    """A small figure of a game."""
    pen.rectangle((x + cell * 0.25, y, x + cell * 0.75, y + cell), fill=tone(rng, 30, 230, 110))
    pen.rectangle((x + cell * 0.2, y - cell * 0.5, x + cell * 0.8, y + cell * 0.15), fill=rng.choice(SKIN))
    pen.rectangle((x + cell * 0.15, y - cell * 0.6, x + cell * 0.85, y - cell * 0.3), fill=rng.choice(HAIR))


def _label(pen: ImageDraw.ImageDraw, rng: random.Random, x: float, y: float, size: float) -> None:
    size = max(8, size)
    name = rng.choice(NAMES)
    half = size * 0.35 * len(name)
    pen.rounded_rectangle((x - half, y - size * 0.6, x + half, y + size * 0.6), size * 0.6, fill=(30, 30, 36))
    pen.text((x, y), name, fill="white", anchor="mm", font_size=size)


def _row(image: Image.Image, rng: random.Random, camera: Camera) -> None:
    """Tiles along the upper edge or the right one."""
    width, height = image.size
    w, h = width * rng.uniform(0.13, 0.2), height * rng.uniform(0.12, 0.2)
    along = rng.random() < 0.7
    for place in range(rng.randrange(1, 6)):
        x = width * 0.04 + place * w * 1.06 if along else width - w * 1.08
        y = height * 0.03 if along else height * 0.04 + place * h * 1.08
        paste(image, camera(rng, int(w), int(h)), (x, y, x + w, y + h), h * 0.12)


def _bars(pen: ImageDraw.ImageDraw, rng: random.Random, width: int, height: int) -> None:
    bar = rng.choice([0, 0.07, 0.09]) * height
    colour = rng.choice([(32, 37, 64), (24, 24, 28), (250, 250, 250), (60, 20, 24)])
    if bar:
        left = width * rng.choice([0, 0.25])
        pen.rounded_rectangle((left, height - bar, width - left, height), bar * 0.3, fill=colour)
        for place in range(rng.randrange(3, 9)):
            x, y, r = width * (0.33 + 0.05 * place), height - bar / 2, bar * 0.26
            fill = RED if rng.random() < 0.15 else rng.choice([(150, 155, 160), (70, 75, 105), (80, 160, 120)])
            pen.ellipse((x - r, y - r, x + r, y + r), fill=fill)
    if rng.random() < 0.3:
        pen.rectangle((width * 0.78, 0, width, height), fill=colour)
        for line in range(rng.randrange(3, 14)):
            y = height * (0.08 + 0.055 * line)
            pen.rectangle((width * 0.8, y, width * rng.uniform(0.85, 0.97), y + height * 0.02), fill=(150, 155, 170))
