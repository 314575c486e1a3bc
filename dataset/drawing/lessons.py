"""A virtual classroom on a screen: one large slide between lists of people, messages and buttons, mostly no camera."""

import random

from PIL import Image, ImageDraw, ImageFilter

from dataset.drawing.cameras import Camera
from dataset.drawing.papers import papers
from dataset.drawing.tools import Box, Colour, paste, shade, text_page, tone
from dataset.drawing.windows import NAMES, RED, page

Pen = ImageDraw.ImageDraw
WORDS = ("Welcome", "Lesson 3", "Energy", "Verbs", "Week 12", "Cells", "Europe", "Fractions", "Questions?", "Homework")


def lesson(rng: random.Random, width: int, height: int, camera: Camera) -> Image.Image:
    """Columns of people and messages beside a slide, as in virtual classrooms; some with a strip of small cameras."""
    dark = rng.random() < 0.6
    back = tone(rng, 5, 50, 12) if dark else tone(rng, 200, 250, 8)
    image = Image.new("RGB", (width, height), back)
    area = _frame(image, rng, dark)
    if rng.random() < 0.85:
        area = _columns(image, rng, area)
    if rng.random() < 0.4:
        area = _cameras(image, rng, area, camera)
    _presentation(image, rng, area)
    return image


def _frame(image: Image.Image, rng: random.Random, dark: bool) -> Box:
    """A browser's tabs, the title bar and the buttons below; returns what is left."""
    pen, (width, height) = ImageDraw.Draw(image), image.size
    top, bottom = 0.0, float(height)
    if rng.random() < 0.35:
        top = height * rng.uniform(0.05, 0.1)
        pen.rectangle((0, 0, width, top), fill=tone(rng, 205, 245, 8))
        pen.rounded_rectangle((width * 0.1, top * 0.55, width * 0.7, top * 0.9), top * 0.15, fill=(255, 255, 255))
    if rng.random() < 0.7:
        bar = height * rng.uniform(0.03, 0.08)
        pen.rectangle((0, top, width, top + bar), fill=tone(rng, 5, 60, 15) if dark else tone(rng, 60, 250, 60))
        _word(pen, rng, (width * rng.choice([0.3, 0.5]), top + bar / 2), bar * 0.5)
        top += bar
    if rng.random() < 0.75:
        bar = height * rng.uniform(0.05, 0.11)
        _actions(pen, rng, (0, bottom - bar, width, bottom))
        bottom -= bar
    return 0.0, top, float(width), bottom


def _actions(pen: Pen, rng: random.Random, box: Box) -> None:
    x0, y0, x1, y1 = box
    r, blue = (y1 - y0) * rng.uniform(0.25, 0.4), rng.choice([(15, 112, 215), (60, 120, 230), (70, 75, 85), RED])
    middle = x0 + (x1 - x0) * rng.uniform(0.5, 0.62)
    for place in (*range(-1, rng.randrange(1, 4)), rng.choice([-8, 7])):
        x, y = middle + place * r * 2.6, (y0 + y1) / 2
        pen.ellipse((x - r, y - r, x + r, y + r), fill=rng.choice([blue, blue, (235, 235, 240), (50, 60, 75)]))
        pen.rectangle((x - r * 0.3, y - r * 0.3, x + r * 0.3, y + r * 0.3), fill=(250, 250, 250))


def _columns(image: Image.Image, rng: random.Random, area: Box) -> Box:
    """People at the left and mostly messages beside them or at the right; returns what is left."""
    x0, y0, x1, y1 = area
    side = (x1 - x0) * rng.uniform(0.11, 0.2)
    _people(image, rng, (x0, y0, x0 + side, y1))
    x0 += side
    if rng.random() < 0.55:
        side = (x1 - x0) * rng.uniform(0.15, 0.27)
        if rng.random() < 0.6:
            _messages(image, rng, (x0, y0, x0 + side, y1))
            return x0 + side, y0, x1, y1
        _messages(image, rng, (x1 - side, y0, x1, y1))
        return x0, y0, x1 - side, y1
    return x0, y0, x1, y1


def _panel(image: Image.Image, rng: random.Random, box: Box) -> Colour:
    """An empty column; returns the colour of its text."""
    light = rng.random() < 0.75
    fill = tone(rng, 225, 255, 6) if light else tone(rng, 20, 60, 12)
    ImageDraw.Draw(image).rectangle(box, fill=fill, outline=(200, 205, 210) if light else (15, 18, 24))
    return (70, 80, 95) if light else (215, 220, 230)


def _people(image: Image.Image, rng: random.Random, box: Box) -> None:
    x0, y0, _, y1 = box
    ink, pen = _panel(image, rng, box), ImageDraw.Draw(image)
    step = (y1 - y0) * rng.uniform(0.045, 0.075)
    r, square = step * rng.uniform(0.32, 0.45), rng.random() < 0.3
    y = y0 + step
    for place in range(rng.randrange(3, 16)):
        if y > y1 - step:
            break
        if place in (0, 3) and rng.random() < 0.6:
            pen.text(
                (x0 + r, y),
                rng.choice(["USERS (9)", "MESSAGES", "NOTES", "Participants"]),
                ink,
                None,
                "ls",
                font_size=step * 0.4,
            )
            y += step
        name, x = rng.choice(NAMES), x0 + r * 2
        draw = pen.rectangle if square else pen.ellipse
        draw((x - r, y - r, x + r, y + r), fill=tone(rng, 60, 200, 90))
        pen.text((x, y), name[:2], "white", anchor="mm", font_size=max(7, r))
        pen.text((x + r * 1.6, y), name, ink, anchor="lm", font_size=max(7, step * 0.42))
        y += step


def _messages(image: Image.Image, rng: random.Random, box: Box) -> None:
    x0, y0, x1, y1 = box
    ink, pen = _panel(image, rng, box), ImageDraw.Draw(image)
    line = (y1 - y0) * rng.uniform(0.018, 0.028)
    y, width = y0 + line * 2, x1 - x0
    end = y0 + (y1 - y0) * rng.uniform(0.2, 0.9)
    while y < end:
        pen.text((x0 + width * 0.08, y), rng.choice(NAMES), ink, font_size=max(7, line * 0.9))
        for _ in range(rng.randrange(1, 5)):
            y += line * 1.4
            pen.rectangle((x0 + width * 0.08, y, x0 + width * rng.uniform(0.3, 0.92), y + line * 0.5), fill=ink)
        y += line * 2
    pen.rounded_rectangle((x0 + width * 0.05, y1 - line * 4, x1 - width * 0.05, y1 - line), 3, outline=ink)


def _cameras(image: Image.Image, rng: random.Random, area: Box, camera: Camera) -> Box:
    """A strip of one to four small cameras; returns what is left."""
    x0, y0, x1, y1 = area
    count, high = rng.randrange(1, 5), (y1 - y0) * rng.uniform(0.12, 0.26)
    wide, left = high * 4 / 3, x0 + (x1 - x0) * rng.uniform(0, 0.3)
    for place in range(count):
        box = (left + place * wide * 1.03, y0 + 2, left + place * wide * 1.03 + wide, y0 + high)
        if box[2] < x1:
            paste(image, camera(rng, int(wide), int(high)), box)
    return x0, y0 + high, x1, y1


def _presentation(image: Image.Image, rng: random.Random, area: Box) -> None:
    """A slide in the middle of what is left, with the bar that turns its pages and mostly some strokes of a pen."""
    x0, y0, x1, y1 = area
    shape = rng.choice([4 / 3, 4 / 3, 16 / 9, 3 / 2, (x1 - x0) / (y1 - y0)])
    high = min((y1 - y0) * rng.uniform(0.85, 1), (x1 - x0) / shape)
    left, top = x0 + (x1 - x0 - high * shape) / 2, y0 + (y1 - y0 - high) * rng.choice([0, 0.5])
    slide = _slide(rng, max(16, int(high * shape)), max(16, int(high)))
    paste(image, slide, (left, top, left + high * shape, top + high))
    if rng.random() < 0.6:
        bar, pen = high * rng.uniform(0.05, 0.08), ImageDraw.Draw(image)
        pen.rectangle((left, top + high - bar, left + high * shape, top + high), fill=tone(rng, 230, 255, 5))
        _word(pen, rng, ((x0 + x1) / 2, top + high - bar / 2), bar * 0.5)
    if rng.random() < 0.5:
        tools = high * 0.05
        for place in range(rng.randrange(3, 9)):
            y = top + high * 0.15 + place * tools
            box = (x1 - tools, y, x1, y + tools * 0.95)
            ImageDraw.Draw(image).rectangle(box, fill=tone(rng, 215, 255, 6), outline=(150, 155, 165))


def _slide(rng: random.Random, width: int, height: int) -> Image.Image:
    """Text, a title, a chart, a diagram, a map, a table, a photo's colours or a whiteboard."""
    show = rng.choice([page, page, papers, papers, papers, _title, _bullets, _bullets, _table, _board, _board])
    slide = show(rng, width, height).resize((width, height))
    if rng.random() < 0.3 and show is not _board:
        _strokes(ImageDraw.Draw(slide), rng, width, height)
    return slide


def _title(rng: random.Random, width: int, height: int) -> Image.Image:
    image = Image.new("RGB", (width, height))
    pen = ImageDraw.Draw(image)
    shade(pen, (0, 0, width, height), tone(rng, 40, 255, 70), rng.uniform(0.4, 1))
    if rng.random() < 0.4:
        _strokes(pen, rng, width, height, width // 6)
        image = image.filter(ImageFilter.GaussianBlur(width / 40))
        pen = ImageDraw.Draw(image)
    for line in range(rng.randrange(1, 4)):
        _word(pen, rng, (width / 2, height * (0.35 + 0.17 * line)), height * rng.uniform(0.05, 0.13))
    return image


def _bullets(rng: random.Random, width: int, height: int) -> Image.Image:
    image = Image.new("RGB", (width, height), tone(rng, 235, 255, 8) if rng.random() < 0.8 else tone(rng, 10, 80, 30))
    pen, ink = ImageDraw.Draw(image), tone(rng, 60, 160, 60)
    pen.rectangle((0, 0, width, height * rng.choice([0, 0, 0.14])), fill=ink)
    _word(pen, rng, (width * 0.35, height * 0.09), height * 0.08)
    y = height * 0.22
    while y < height * rng.uniform(0.6, 1):
        pen.ellipse((width * 0.07, y, width * 0.07 + height * 0.02, y + height * 0.02), fill=ink)
        pen.rectangle((width * 0.11, y, width * rng.uniform(0.4, 0.92), y + height * 0.022), fill=ink)
        y += height * rng.uniform(0.05, 0.11)
    if rng.random() < 0.5:
        box = (int(width * 0.58), int(height * 0.3), int(width * 0.95), int(height * 0.8))
        paste(image, papers(rng, box[2] - box[0], box[3] - box[1]), box)
    return image


def _table(rng: random.Random, width: int, height: int) -> Image.Image:
    image = Image.new("RGB", (width, height), tone(rng, 240, 255, 5))
    pen, columns, rows = ImageDraw.Draw(image), rng.randrange(2, 7), rng.randrange(3, 12)
    head = tone(rng, 60, 200, 70)
    for row in range(rows):
        for column in range(columns):
            x, y = width * (0.05 + 0.9 * column / columns), height * (0.12 + 0.8 * row / rows)
            box = (x, y, x + width * 0.9 / columns, y + height * 0.8 / rows)
            pen.rectangle(box, fill=None if row else head, outline=(140, 145, 150))
            part = rng.uniform(0.2, 0.8) * (box[2] - x)
            pen.rectangle((x + 4, y + (box[3] - y) * 0.4, x + part, y + (box[3] - y) * 0.6), fill=(90, 95, 100))
    return image


def _board(rng: random.Random, width: int, height: int) -> Image.Image:
    """A nearly empty page with handwriting, sometimes over lines of text."""
    image = Image.new("RGB", (width, height), (255, 255, 255) if rng.random() < 0.85 else tone(rng, 20, 60, 20))
    if rng.random() < 0.3:
        text_page(ImageDraw.Draw(image), rng, (0, 0, width, height))
    _strokes(ImageDraw.Draw(image), rng, width, height)
    return image


def _strokes(pen: Pen, rng: random.Random, width: int, height: int, thick: int = 0) -> None:
    for _ in range(rng.randrange(1, 9)):
        x, y, fill = rng.uniform(0, width), rng.uniform(0, height), tone(rng, 20, 230, 120)
        points = [(x, y)]
        for _ in range(rng.randrange(3, 25)):
            x, y = x + rng.gauss(0, 0.035) * width, y + rng.gauss(0, 0.035) * height
            points.append((x, y))
        pen.line(points, fill=fill, width=thick or max(1, int(height * rng.uniform(0.003, 0.012))), joint="curve")


def _word(pen: Pen, rng: random.Random, middle: tuple[float, float], size: float) -> None:
    fill = rng.choice([(255, 255, 255), (40, 50, 60), (120, 130, 140)])
    pen.text(middle, rng.choice(WORDS), fill, anchor="mm", font_size=max(8, size))
