"""Drawn photos: no people, no licence, any number of them.

They let a user try every command without photos, illustrate the documentation, and are the golden photos of an archive.
A `room` shows a lesson in a room: heads in rows before a board or a projected screen (which may show a grid of faces),
or a group that faces the camera. A `call` shows a screen: tiles, names, a tool bar, a shared page. The other drawings
are plain marks for tests with any number of classes.
"""

import random
from collections.abc import Callable

from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]

SKIN: list[Colour] = [(244, 210, 184), (224, 172, 130), (196, 134, 92), (141, 85, 54), (92, 58, 40), (250, 224, 200)]
HAIR: list[Colour] = [(24, 20, 18), (60, 40, 26), (110, 74, 40), (170, 130, 80), (120, 120, 122), (70, 30, 20)]


def draw(kind: str, seed: int) -> Image.Image:
    """Draw one photo.

    Args:
        kind: one of `DRAWINGS`.
        seed: same seed, same pixels (with the same Pillow).

    Returns:
        RGB, 480 to 1280 pixels wide.

    Raises:
        KeyError: unknown kind.
    """
    rng = random.Random(f"{kind}-{seed}")
    width = rng.randrange(480, 1281, 16)
    height = int(width / rng.choice([4 / 3, 3 / 2, 16 / 9]))
    return DRAWINGS[kind](rng, width, height)


def _room(rng: random.Random, width: int, height: int) -> Image.Image:
    image = Image.new("RGB", (width, height))
    pen = ImageDraw.Draw(image)
    horizon = height * rng.uniform(0.45, 0.62)
    _shade(pen, (0, 0, width, horizon), _tone(rng, 110, 245, 24), rng.uniform(0.75, 0.95))
    _shade(pen, (0, horizon, width, height), _tone(rng, 60, 180, 30), rng.uniform(0.5, 0.9))
    _ceiling(pen, rng, width, height)
    _board(image, rng, width, horizon)
    if rng.random() < 0.3:
        _standing_group(pen, rng, width, height, horizon)
    else:
        if rng.random() < 0.6:
            _person(pen, rng, rng.uniform(0.1, 0.9) * width, horizon * 0.62, height * 0.05)
        _audience(pen, rng, width, height, horizon)
    return _photograph(image, rng, noise=rng.uniform(4, 14))


def _ceiling(pen: ImageDraw.ImageDraw, rng: random.Random, width: int, height: int) -> None:
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
        _tiles(pen, rng, (x + 6, y + 6, x + w - 6, y + h - 6), rng.randrange(2, 5), rng.randrange(2, 4))
    else:
        _page(pen, rng, box)


def _audience(pen: ImageDraw.ImageDraw, rng: random.Random, width: int, height: int, horizon: float) -> None:
    rows = rng.randrange(2, 6)
    for row in range(rows):
        near = (row + 1) / rows
        size = height * (0.018 + 0.05 * near)
        y = horizon + (height - horizon) * (0.08 + 0.85 * (near - 1 / rows) + 0.05)
        desk = _tone(rng, 90, 200, 40)
        x = rng.uniform(-2, 2) * size
        while x < width + size:
            if rng.random() < 0.8:
                _back_of_head(pen, rng, x, y + rng.uniform(-0.4, 0.4) * size, size)
            x += size * rng.uniform(2.2, 3.6)
        if rng.random() < 0.7:
            pen.rectangle((0, y + size * 1.9, width, y + size * 2.4), fill=desk)


def _back_of_head(pen: ImageDraw.ImageDraw, rng: random.Random, x: float, y: float, size: float) -> None:
    pen.ellipse((x - size * 1.5, y + size * 0.8, x + size * 1.5, y + size * 4), fill=_tone(rng, 20, 220, 110))
    pen.rectangle((x - size * 0.3, y + size * 0.6, x + size * 0.3, y + size * 1.2), fill=rng.choice(SKIN))
    pen.ellipse((x - size * 0.8, y - size, x + size * 0.8, y + size), fill=rng.choice(HAIR))


def _standing_group(pen: ImageDraw.ImageDraw, rng: random.Random, width: int, height: int, horizon: float) -> None:
    for row in range(rng.randrange(1, 4)):
        size = height * rng.uniform(0.04, 0.055) * (1 + 0.15 * row)
        count = rng.randrange(4, 11)
        for place in range(count):
            x = width * (0.12 + 0.76 * (place + 0.5) / count) + rng.uniform(-0.4, 0.4) * size
            _person(pen, rng, x, horizon * 0.9 + row * size * 2.2, size)


def _person(pen: ImageDraw.ImageDraw, rng: random.Random, x: float, y: float, size: float) -> None:
    pen.rounded_rectangle((x - size * 1.3, y + size, x + size * 1.3, y + size * 6), size, fill=_tone(rng, 20, 230, 110))
    pen.rectangle((x - size, y + size * 5, x + size, y + size * 9), fill=_tone(rng, 20, 110, 30))
    _face(pen, rng, x, y, size)


def _face(pen: ImageDraw.ImageDraw, rng: random.Random, x: float, y: float, size: float) -> None:
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


def _call(rng: random.Random, width: int, height: int) -> Image.Image:
    dark = rng.random() < 0.75
    image = Image.new("RGB", (width, height), _tone(rng, 10, 50, 12) if dark else _tone(rng, 225, 252, 8))
    pen = ImageDraw.Draw(image)
    top = height * rng.choice([0.0, 0.04, 0.09])
    bar = height * rng.choice([0.0, 0.07, 0.1])
    pen.rectangle((0, 0, width, top), fill=_tone(rng, 30, 235, 10))
    area = (width * 0.01, top + height * 0.01, width * 0.99, height - bar - height * 0.01)
    layout = rng.choice(["grid", "grid", "grid", "shared", "speaker", "chat"])
    _LAYOUTS[layout](pen, rng, area)
    if bar:
        _tool_bar(pen, rng, width, height, bar)
    return _photograph(image, rng, noise=rng.choice([0, 0, 2]))


def _grid(pen: ImageDraw.ImageDraw, rng: random.Random, area: Box) -> None:
    columns = rng.randrange(2, 7)
    _tiles(pen, rng, area, columns, max(1, columns - rng.randrange(0, 3)))


def _shared(pen: ImageDraw.ImageDraw, rng: random.Random, area: Box) -> None:
    x0, y0, x1, y1 = area
    if rng.random() < 0.5:
        cut = x0 + (x1 - x0) * rng.uniform(0.72, 0.85)
        page, strip, shape = (x0, y0, cut - 4, y1), (cut, y0, x1, y1), (1, rng.randrange(3, 7))
    else:
        cut = y0 + (y1 - y0) * rng.uniform(0.15, 0.28)
        page, strip, shape = (x0, cut + 4, x1, y1), (x0, y0, x1, cut), (rng.randrange(3, 8), 1)
    pen.rectangle(page, fill=rng.choice([(252, 252, 252), (245, 247, 250), (40, 44, 52)]))
    _page(pen, rng, page)
    _tiles(pen, rng, strip, *shape)


def _speaker(pen: ImageDraw.ImageDraw, rng: random.Random, area: Box) -> None:
    _tile(pen, rng, area, camera=True)
    x0, y0, x1, y1 = area
    w, h = (x1 - x0) * 0.2, (y1 - y0) * 0.2
    for place in range(rng.randrange(0, 4)):
        _tile(pen, rng, (x1 - w - 6, y0 + 6 + place * (h + 6), x1 - 6, y0 + 6 + place * (h + 6) + h), camera=True)


def _chat(pen: ImageDraw.ImageDraw, rng: random.Random, area: Box) -> None:
    x0, y0, x1, y1 = area
    cut = x0 + (x1 - x0) * rng.uniform(0.18, 0.3)
    pen.rectangle((x0, y0, cut, y1), fill=_tone(rng, 225, 252, 8))
    _page(pen, rng, (x0, y0, cut, y1))
    _shared(pen, rng, (cut + 6, y0, x1, y1))


def _tiles(pen: ImageDraw.ImageDraw, rng: random.Random, area: Box, columns: int, rows: int) -> None:
    x0, y0, x1, y1 = area
    w, h, gap = (x1 - x0) / columns, (y1 - y0) / rows, rng.choice([1, 3, 6])
    cameras = rng.uniform(0.4, 1)
    for place in range(columns * rows - (rng.randrange(0, columns) if rows > 1 else 0)):
        x, y = x0 + place % columns * w, y0 + place // columns * h
        if w > 2 * gap + 4 and h > 2 * gap + 4:
            _tile(pen, rng, (x + gap, y + gap, x + w - gap, y + h - gap), camera=rng.random() < cameras)


def _tile(pen: ImageDraw.ImageDraw, rng: random.Random, box: Box, camera: bool) -> None:
    x0, y0, x1, y1 = box
    w, h = x1 - x0, y1 - y0
    size = min(w, h) * rng.uniform(0.2, 0.32)
    x, y = (x0 + x1) / 2 + rng.uniform(-0.1, 0.1) * w, y0 + h * rng.uniform(0.4, 0.55)
    if camera:
        _shade(pen, box, _tone(rng, 60, 230, 40), rng.uniform(0.6, 1))
        for _ in range(rng.randrange(0, 3)):
            sx, sy = rng.uniform(x0, x1 - w * 0.2), rng.uniform(y0, y1 - h * 0.3)
            pen.rectangle((sx, sy, sx + w * 0.2, sy + h * 0.3), fill=_tone(rng, 40, 240, 60))
        pen.chord(
            (x - size * 1.9, y + size * 0.9, x + size * 1.9, y1 + (y1 - y)), 180, 360, fill=_tone(rng, 20, 220, 110)
        )
        pen.rectangle((x0, y1, x1, y1 + 1), fill=(0, 0, 0))
        _face(pen, rng, x, y, size)
    else:
        pen.rectangle(box, fill=_tone(rng, 30, 70, 10))
        pen.ellipse((x - size, y - size, x + size, y + size), fill=_tone(rng, 60, 200, 90))
        pen.text((x, y), rng.choice("ABDJKLMSTW"), fill="white", anchor="mm", font_size=max(8, size))
    name = rng.choice(["Anna", "Bo", "Chen", "Dana", "Eli", "Fatou", "Ines", "Li Wei", "Omar", "Yuki"])
    pen.text((x0 + 4, y1 - 3), name, fill="white", anchor="ls", font_size=max(7, h * 0.07))


def _tool_bar(pen: ImageDraw.ImageDraw, rng: random.Random, width: int, height: int, bar: float) -> None:
    pen.rectangle((0, height - bar, width, height), fill=rng.choice([(28, 28, 30), (36, 40, 48), (250, 250, 250)]))
    count = rng.randrange(4, 10)
    for place in range(count):
        x, y, r = width * (0.5 + 0.055 * (place - count / 2)), height - bar / 2, bar * 0.28
        fill = (215, 50, 45) if place == count - 1 else rng.choice([(150, 155, 160), (70, 75, 85), (60, 110, 220)])
        pen.ellipse((x - r, y - r, x + r, y + r), fill=fill)


def _page(pen: ImageDraw.ImageDraw, rng: random.Random, box: Box) -> None:
    x0, y0, x1, y1 = box
    w, h = x1 - x0, y1 - y0
    ink = _tone(rng, 30, 140, 40)
    pen.rectangle((x0 + w * 0.08, y0 + h * 0.08, x0 + w * rng.uniform(0.4, 0.8), y0 + h * 0.15), fill=ink)
    for line in range(rng.randrange(3, 9)):
        y = y0 + h * (0.24 + 0.08 * line)
        if y + h * 0.03 < y1:
            pen.rectangle((x0 + w * 0.08, y, x0 + w * rng.uniform(0.3, 0.6), y + max(2, h * 0.02)), fill=ink)
    for bar in range(rng.choice([0, 3, 5])):
        x = x0 + w * (0.64 + 0.06 * bar)
        pen.rectangle((x, y0 + h * rng.uniform(0.3, 0.7), x + w * 0.04, y0 + h * 0.85), fill=_tone(rng, 50, 220, 90))


def _marks(
    mark: Callable[[ImageDraw.ImageDraw, random.Random, Box], None],
) -> Callable[[random.Random, int, int], Image.Image]:
    def drawing(rng: random.Random, width: int, height: int) -> Image.Image:
        image = Image.new("RGB", (width, height), _tone(rng, 170, 250, 30))
        pen = ImageDraw.Draw(image)
        for _ in range(rng.randrange(4, 9)):
            size = rng.uniform(0.12, 0.3) * height
            x, y = rng.uniform(0, width - size), rng.uniform(0, height - size)
            mark(pen, rng, (x, y, x + size, y + size))
        return _photograph(image, rng, noise=3)

    return drawing


def _disc(pen: ImageDraw.ImageDraw, rng: random.Random, box: Box) -> None:
    pen.ellipse(box, fill=_tone(rng, 10, 90, 40))


def _stripe(pen: ImageDraw.ImageDraw, rng: random.Random, box: Box) -> None:
    x0, y0, x1, y1 = box
    for part in range(0, 5, 2):
        pen.rectangle((x0, y0 + (y1 - y0) * part / 5, x1, y0 + (y1 - y0) * (part + 1) / 5), fill=_tone(rng, 10, 90, 40))


def _cross(pen: ImageDraw.ImageDraw, rng: random.Random, box: Box) -> None:
    x0, y0, x1, y1 = box
    fill, thick = _tone(rng, 10, 90, 40), int((x1 - x0) / 5)
    pen.line((x0, y0, x1, y1), fill=fill, width=thick)
    pen.line((x0, y1, x1, y0), fill=fill, width=thick)


def _tone(rng: random.Random, low: int, high: int, spread: int) -> Colour:
    base = rng.randint(low, high)
    red, green, blue = (max(0, min(255, base + rng.randint(-spread, spread))) for _ in range(3))
    return red, green, blue


def _shade(pen: ImageDraw.ImageDraw, box: Box, colour: Colour, end: float) -> None:
    x0, y0, x1, y1 = box
    for y in range(int(y0), int(y1) + 1):
        part = 1 + (end - 1) * (y - y0) / max(1, y1 - y0)
        pen.line((x0, y, x1, y), fill=(int(colour[0] * part), int(colour[1] * part), int(colour[2] * part)))


def _photograph(image: Image.Image, rng: random.Random, noise: float) -> Image.Image:
    """Grain and a little blur, as a camera adds; a screen has nearly none."""
    if not noise:
        return image
    grain = Image.frombytes("L", image.size, rng.randbytes(image.width * image.height)).convert("RGB")
    blurred = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.2)))
    return Image.blend(blurred, grain, noise / 100)


_LAYOUTS: dict[str, Callable[[ImageDraw.ImageDraw, random.Random, Box], None]] = {
    "grid": _grid,
    "shared": _shared,
    "speaker": _speaker,
    "chat": _chat,
}

DRAWINGS: dict[str, Callable[[random.Random, int, int], Image.Image]] = {
    "room": _room,
    "call": _call,
    "discs": _marks(_disc),
    "stripes": _marks(_stripe),
    "crosses": _marks(_cross),
}
"""Kind of drawing -> function of (random numbers, width, height)."""
