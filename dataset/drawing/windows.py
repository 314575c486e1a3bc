"""What a computer, a tablet or a phone shows in a call."""

import random

from PIL import Image, ImageDraw, ImageFilter

from dataset.drawing.cameras import Camera
from dataset.drawing.tools import Box, Colour, paste, text_page, tone

NAMES = ("Anna", "Bo", "Chen", "Dana", "Eli", "Fatou", "Ines", "Li Wei", "Omar", "Yuki")
RED: Colour = (215, 50, 45)


def window(rng: random.Random, width: int, height: int, camera: Camera) -> Image.Image:
    """Tiles with cameras and letters, or a shared page beside some tiles, above buttons."""
    image = Image.new("RGB", (width, height), _background(rng))
    pen = ImageDraw.Draw(image)
    bar = height * rng.choice([0, 0.06, 0.08, 0.12])
    area = (0.0, height * rng.choice([0, 0, 0.05]), float(width), height - bar)
    if rng.random() < 0.4 and width > height:
        area = _shared(image, rng, area)
    count = rng.choice([1, 2, 2, 3, 4, 4, 6, 9, 12, 20])
    _tiles(image, rng, area, count, camera)
    if bar:
        _buttons(pen, rng, (0, height - bar, width, height), round_ones=rng.random() < 0.5)
    return image


def full_frame(rng: random.Random, width: int, height: int, camera: Camera) -> Image.Image:
    """One camera that fills the screen, under a few buttons, mostly with the own camera in a corner."""
    image = camera(rng, width, height)
    if rng.random() < 0.3:
        _darkened(image, rng)
    short = min(width, height)
    if rng.random() < 0.8:
        _own_camera(image, rng, camera)
    bar = short * rng.uniform(0.12, 0.26)
    bottom = height - short * rng.uniform(0, 0.06)
    _buttons(ImageDraw.Draw(image), rng, (0, bottom - bar, width, bottom), round_ones=True)
    if rng.random() < 0.6:
        _title(ImageDraw.Draw(image), rng, width, short)
    return image


def phone(rng: random.Random, width: int, height: int, camera: Camera) -> Image.Image:
    """A portrait screen: one camera, or two to four one below the other."""
    if rng.random() < 0.5:
        return full_frame(rng, width, height, camera)
    image = Image.new("RGB", (width, height), _background(rng))
    bar = width * rng.uniform(0.16, 0.26)
    _tiles(image, rng, (0, width * rng.choice([0, 0.1]), width, height - bar), rng.choice([2, 2, 3, 4, 6]), camera)
    _buttons(ImageDraw.Draw(image), rng, (0, height - bar, width, height), round_ones=True)
    return image


def waiting(rng: random.Random, width: int, height: int) -> Image.Image:
    """A call in which nobody shows a camera: a letter or a name in a nearly empty window, often behind a list."""
    dark = rng.random() < 0.9
    image = Image.new("RGB", (width, height), tone(rng, 5, 55, 12) if dark else tone(rng, 200, 240, 8))
    pen, short = ImageDraw.Draw(image), min(width, height)
    top, bottom = height * rng.choice([0, 0, 0.03, 0.05]), height * rng.choice([1, 1, 0.95])
    bar = height * rng.choice([0, 0.06, 0.09, 0.12])
    pen.rectangle((0, 0, width, top), fill=tone(rng, 30, 250, 30))
    _task_bar(pen, rng, (0, bottom, width, height))
    middle = top + (bottom - bar - top) * rng.uniform(0.4, 0.55)
    ink = (255, 255, 255) if dark else (40, 45, 55)
    if rng.random() < 0.7:
        draw, r = rng.choice([pen.ellipse, pen.rectangle]), short * rng.uniform(0.05, 0.16)
        draw((width / 2 - r, middle - r, width / 2 + r, middle + r), fill=tone(rng, 60, 220, 90))
        pen.text((width / 2, middle), rng.choice(NAMES)[0], (255, 255, 255), anchor="mm", font_size=r * 1.1)
    else:
        pen.text((width / 2, middle), rng.choice(NAMES), ink, anchor="mm", font_size=short * rng.uniform(0.06, 0.16))
    pen.text((width * 0.01, bottom - bar - 4), rng.choice(NAMES), ink, anchor="ls", font_size=max(8, short * 0.03))
    if rng.random() < 0.4:
        w = short * rng.uniform(0.14, 0.25)
        left = rng.choice([(width - w) / 2, width - w - 6, 6])
        paste(image, _letter(rng, int(w), int(w * 0.8)), (left, top + 6, left + w, top + 6 + w * 0.8))
    if bar:
        _buttons(pen, rng, (0, bottom - bar, width, bottom), round_ones=rng.random() < 0.3)
    if rng.random() < 0.35:
        _list(pen, rng, width, height)
    return image


def page(rng: random.Random, width: int, height: int) -> Image.Image:
    """A document, program text or slide: no call."""
    dark = rng.random() < 0.3
    image = Image.new("RGB", (width, height), tone(rng, 15, 60, 10) if dark else tone(rng, 225, 255, 8))
    pen = ImageDraw.Draw(image)
    edge = width * rng.choice([0, 0.15, 0.25])
    pen.rectangle((0, 0, edge, height), fill=tone(rng, 30, 235, 15))
    for column in range(rng.choice([1, 1, 2])):
        left = edge + (width - edge) * column / 2
        text_page(pen, rng, (left, 0, left + (width - edge) / rng.choice([1, 2]), height))
    return image


def _task_bar(pen: ImageDraw.ImageDraw, rng: random.Random, box: Box) -> None:
    """The bar of a desktop with small marks; of no height, nothing."""
    x0, y0, x1, y1 = box
    pen.rectangle(box, fill=tone(rng, 10, 250, 20))
    side = (y1 - y0) / 2
    for place in range(rng.randrange(4, 14)):
        x = x0 + (x1 - x0) * (0.02 + 0.03 * place)
        pen.rectangle((x, y0 + side / 2, x + side, y1 - side / 2), fill=tone(rng, 40, 230, 80))


def _list(pen: ImageDraw.ImageDraw, rng: random.Random, width: int, height: int) -> None:
    """Names with a word to click on beside some of them, and a button below."""
    w, h = width * rng.uniform(0.22, 0.45), height * rng.uniform(0.2, 0.7)
    x, y = (width - w) / 2 + rng.uniform(-0.1, 0.1) * width, height * rng.uniform(0.05, 0.15)
    light = rng.random() < 0.7
    pen.rounded_rectangle((x, y, x + w, y + h), 5, fill=tone(rng, 235, 255, 6) if light else tone(rng, 10, 50, 8))
    ink, size = (60, 65, 75) if light else (220, 220, 225), max(8, min(width, height) * 0.028)
    for line in range(1, min(7, int(h / size / 2.2) - 1)):
        base = y + line * size * 2.2
        pen.text((x + size, base), rng.choice(NAMES), ink, anchor="ls", font_size=size)
        if rng.random() < 0.5:
            pen.text((x + w - size, base), "Admit", (30, 110, 220), anchor="rs", font_size=size)
    pen.rounded_rectangle((x + w * 0.6, y + h - size * 2, x + w - size, y + h - size * 0.6), 3, fill=(30, 110, 230))


def _background(rng: random.Random) -> Colour:
    return tone(rng, 5, 60, 12) if rng.random() < 0.7 else tone(rng, 215, 255, 10)


def _shared(image: Image.Image, rng: random.Random, area: Box) -> Box:
    """Draw a shared page; returns what is left for the tiles."""
    x0, y0, x1, y1 = area
    cut = x0 + (x1 - x0) * rng.uniform(0.6, 0.85)
    paste(image, page(rng, int(cut - x0), int(y1 - y0)), (x0, y0, cut, y1))
    return cut, y0, x1, y1


def _tiles(image: Image.Image, rng: random.Random, area: Box, count: int, camera: Camera) -> None:
    x0, y0, x1, y1 = area
    columns = _columns(count, (x1 - x0) / (y1 - y0))
    rows = -(-count // columns)
    w, h, gap = (x1 - x0) / columns, (y1 - y0) / rows, rng.choice([0, 0.01, 0.03]) * min(image.size)
    corner, cameras = rng.choice([0, 0, 0.05, 0.12]), rng.choice([0.4, 0.8, 1, 1])
    for place in range(count):
        x, y = x0 + place % columns * w + gap / 2, y0 + place // columns * h + gap / 2
        box = (x, y, x + w - gap, y + h - gap)
        if min(box[2] - box[0], box[3] - box[1]) > 6:
            _tile(image, rng, box, corner, camera if rng.random() < cameras else None)


def _columns(count: int, shape: float) -> int:
    """The number of columns with which tiles are nearest to 4:3."""
    return min(range(1, count + 1), key=lambda columns: abs(shape / columns * -(-count // columns) - 4 / 3))


def _tile(image: Image.Image, rng: random.Random, box: Box, corner: float, camera: Camera | None) -> None:
    width, height = int(box[2] - box[0]), int(box[3] - box[1])
    short = min(width, height)
    picture = camera(rng, width, height) if camera else _letter(rng, width, height)
    pen = ImageDraw.Draw(picture)
    pen.text((4, height - 3), rng.choice(NAMES), fill="white", anchor="ls", font_size=max(7, short * 0.09))
    paste(image, picture, box, corner * short)


def _letter(rng: random.Random, width: int, height: int) -> Image.Image:
    """A switched-off camera: the first letter of a name in a disc."""
    picture = Image.new("RGB", (width, height), tone(rng, 15, 80, 12))
    x, y, r = width / 2, height / 2, min(width, height) * rng.uniform(0.15, 0.3)
    pen = ImageDraw.Draw(picture)
    pen.ellipse((x - r, y - r, x + r, y + r), fill=tone(rng, 60, 200, 90))
    pen.text((x, y), rng.choice(NAMES)[0], fill="white", anchor="mm", font_size=max(8, r))
    return picture


def _own_camera(image: Image.Image, rng: random.Random, camera: Camera) -> None:
    width, height = image.size
    short = min(width, height)
    w, h = short * rng.uniform(0.2, 0.34), short * rng.uniform(0.2, 0.4)
    edge = short * rng.uniform(0.02, 0.06)
    x = rng.choice([edge, width - w - edge])
    y = rng.choice([edge, edge, height - h - short * 0.3])
    _tile(image, rng, (x, y, x + w, y + h), rng.choice([0, 0.08, 0.15]), camera)


def _buttons(pen: ImageDraw.ImageDraw, rng: random.Random, box: Box, round_ones: bool) -> None:
    """A row of buttons, one of them mostly red."""
    x0, y0, x1, y1 = box
    if not round_ones or rng.random() < 0.4:
        pen.rectangle(box, fill=rng.choice([(20, 20, 22), (36, 40, 48), (250, 250, 250), (30, 34, 60)]))
    count, r = rng.randrange(3, 8), (y1 - y0) * rng.uniform(0.28, 0.42)
    step = min((x1 - x0) / (count + 0.5), r * rng.uniform(2.3, 3.5))
    red = rng.choice([0, count // 2, count - 1, -1])
    plain = rng.choice([(255, 255, 255), (90, 95, 105), (60, 62, 68), (150, 155, 160)])
    for place in range(count):
        x, y = (x0 + x1) / 2 + step * (place - (count - 1) / 2), (y0 + y1) / 2
        fill = RED if place == red else plain
        if round_ones:
            pen.ellipse((x - r, y - r, x + r, y + r), fill=fill)
        mark = (250, 250, 250) if sum(fill) < 600 else (60, 60, 60)
        pen.rectangle((x - r * 0.35, y - r * 0.3, x + r * 0.35, y + r * 0.3), fill=mark if round_ones else fill)


def _title(pen: ImageDraw.ImageDraw, rng: random.Random, width: int, short: int) -> None:
    place = rng.choice([width * 0.05, width * 0.4])
    text = rng.choice(NAMES) + rng.choice(["", " 00:12", " 12:04", "\ncalling ..."])
    pen.text((place, short * 0.05), text, fill="white", font_size=max(9, short * rng.uniform(0.03, 0.07)))


def _darkened(image: Image.Image, rng: random.Random) -> None:
    """The blurred picture of the background behind a narrower one, as players show a portrait video."""
    width, height = image.size
    part = int(width * rng.uniform(0.5, 0.85))
    left = (width - part) // 2
    middle = image.crop((left, 0, left + part, height))
    image.paste(image.filter(ImageFilter.GaussianBlur(30)).point(lambda level: level // 3))
    image.paste(middle, (left, 0))
