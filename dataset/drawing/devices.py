"""Photographs of a laptop, a monitor, a tablet or a phone, or of printed pages."""

import math
import random

from PIL import Image, ImageDraw, ImageFilter

from dataset.drawing.papers import papers
from dataset.drawing.people import SKIN
from dataset.drawing.things import things
from dataset.drawing.tools import Colour, Corners, Point, photograph, shade, stand, tone


def desk(rng: random.Random, width: int, height: int) -> Image.Image:
    """A desk before a wall, or a desk from above, with a cup, paper and a plant."""
    image = Image.new("RGB", (width, height))
    pen = ImageDraw.Draw(image)
    edge = height * rng.choice([0, rng.uniform(0.3, 0.8)])
    shade(pen, (0, 0, width, edge), tone(rng, 20, 240, 40), rng.uniform(0.5, 1))
    shade(pen, (0, edge, width, height), tone(rng, 30, 230, 50), rng.uniform(0.6, 1))
    for _ in range(rng.randrange(0, 4)):
        x, y, r = rng.uniform(0, 1) * width, rng.uniform(0.1, 1) * height, rng.uniform(0.03, 0.12) * height
        draw = pen.ellipse if rng.random() < 0.6 else pen.rectangle
        draw((x - r, y - r * rng.uniform(0.5, 2), x + r, y + r), fill=tone(rng, 20, 250, 90))
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 6)))


def place_laptop(
    image: Image.Image, rng: random.Random, screen: Image.Image, share: float, centre: Point | None = None
) -> None:
    """Add a laptop; its screen takes this share of the image's width.

    Args:
        centre: the middle of the screen, in shares of width and height.
    """
    width, height = image.size
    w = width * share
    h = w * screen.height / screen.width
    across, down = centre or (rng.uniform(0.42, 0.58), rng.uniform(0.3, 0.5))
    corners = _quadrilateral(rng, width * across, height * down, w, h)
    pen = ImageDraw.Draw(image)
    case = tone(rng, 10, 60, 6) if rng.random() < 0.6 else tone(rng, 150, 215, 8)
    if rng.random() < 0.85:
        _keyboard(pen, rng, corners, h, case)
    else:
        _foot(pen, corners, h, case)
    _mount(image, rng, screen, corners, case if rng.random() < 0.4 else (12, 12, 14), w * 0.025)


def place_phone(image: Image.Image, rng: random.Random, screen: Image.Image, share: float) -> None:
    """Add a phone or tablet, in a hand or on the desk; its screen takes this share of the image's height."""
    width, height = image.size
    h = height * share
    w = h * screen.width / screen.height
    x, y = width * rng.uniform(0.35, 0.65), height * rng.uniform(0.4, 0.6)
    corners = _quadrilateral(rng, x, y, w, h, turn=rng.choice([0.05, 0.3]))
    if rng.random() < 0.5:
        _hand(image, rng, x, y, w, h)
    _mount(image, rng, screen, corners, tone(rng, 8, 40, 5), min(w, h) * 0.05)


def prints(rng: random.Random, width: int, height: int) -> Image.Image:
    """A photograph of pages or books: one to three on a desk, or many side by side."""
    image = desk(rng, width, height)
    if rng.random() < 0.5:
        _side_by_side(image, rng)
    else:
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            _page(image, rng)
    if rng.random() < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 2)))
    return photograph(image, rng, noise=rng.uniform(2, 8))


def _page(image: Image.Image, rng: random.Random) -> None:
    width, height = image.size
    h = height * rng.uniform(0.5, 0.98)
    w = min(width * 0.98, h * (rng.uniform(0.62, 0.8) if rng.random() < 0.6 else rng.uniform(1.2, 1.6)))
    show = papers if rng.random() < 0.8 else things
    corners = _quadrilateral(
        rng, width * rng.uniform(0.35, 0.65), height * rng.uniform(0.42, 0.58), w, h, rng.choice([0.03, 0.15, 0.5])
    )
    stand(image, show(rng, int(w), int(h)), corners)


def _side_by_side(image: Image.Image, rng: random.Random) -> None:
    rows = rng.choice([1, 2, 2, 3])
    columns = rng.randrange(max(2, rows), 6)
    width, height = image.width / columns, image.height / rows
    for place in range(rows * columns):
        w, h = width * rng.uniform(0.75, 0.99), height * rng.uniform(0.8, 1)
        x = (place % columns + 0.5 + rng.uniform(-0.03, 0.03)) * width
        corners = _quadrilateral(rng, x, (place // columns + 0.5) * height, w, h, rng.choice([0.01, 0.03, 0.06]))
        if rng.random() < 0.95:
            stand(image, papers(rng, max(40, int(w)), max(40, int(h))), corners)


def _quadrilateral(rng: random.Random, x: float, y: float, w: float, h: float, turn: float = 0.06) -> Corners:
    """The corners of a screen that is seen a little from the side and turned by up to `turn` radians."""
    angle = rng.uniform(-turn, turn)
    left, right = (rng.uniform(0.86, 1) for _ in range(2))
    top = rng.uniform(0.9, 1.02)
    points = [(-w * top, -h * left), (w * top, -h * right), (w, h * right), (-w, h * left)]
    cos, sin = math.cos(angle), math.sin(angle)
    a, b, c, d = [(x + (u * cos - v * sin) / 2, y + (u * sin + v * cos) / 2) for u, v in points]
    return a, b, c, d


def _mount(
    image: Image.Image,
    rng: random.Random,
    screen: Image.Image,
    corners: Corners,
    case: Colour,
    edge: float,
) -> None:
    """The screen with its frame; brighter or darker than the room, with a reflection."""
    framed = Image.new("RGB", (screen.width + 2 * _rim(screen), screen.height + 2 * _rim(screen)), case)
    framed.paste(_lit(rng, screen), (_rim(screen), _rim(screen)))
    outline = _grown(corners, edge)
    ImageDraw.Draw(image).polygon(outline, fill=case)
    stand(image, framed, outline)


def _rim(screen: Image.Image) -> int:
    return max(3, int(0.03 * min(screen.size)))


def _grown(corners: Corners, edge: float) -> Corners:
    x, y = (sum(point[axis] for point in corners) / 4 for axis in (0, 1))
    a, b, c, d = [(u + math.copysign(edge, u - x), v + math.copysign(edge, v - y)) for u, v in corners]
    return a, b, c, d


def _lit(rng: random.Random, screen: Image.Image) -> Image.Image:
    gain, lift = rng.uniform(0.6, 1.15), rng.uniform(0, 40)
    shown = screen.point(lambda level: int(min(255, level * gain + lift)))
    if rng.random() < 0.3:
        light = Image.new("L", screen.size, 0)
        x = rng.uniform(0, 1) * screen.width
        slope = rng.uniform(0.1, 0.5) * screen.width
        ImageDraw.Draw(light).polygon(
            [(x, 0), (x + slope, 0), (x, screen.height), (x - slope, screen.height)], fill=rng.randrange(20, 90)
        )
        shown.paste((255, 255, 255), mask=light.filter(ImageFilter.GaussianBlur(20)))
    return shown


def _keyboard(pen: ImageDraw.ImageDraw, rng: random.Random, corners: Corners, height: float, case: Colour) -> None:
    """The lower half of a laptop, which widens towards the viewer."""
    (_, _, right, left), depth, wider = corners, height * rng.uniform(0.25, 0.7), rng.uniform(0.02, 0.2)
    grow = (right[0] - left[0]) * wider

    def point(across: float, down: float) -> Point:
        x = left[0] + (right[0] - left[0]) * across + grow * down * (2 * across - 1)
        return x, left[1] + (right[1] - left[1]) * across + depth * down + height * 0.03

    pen.polygon([point(-0.03, 0), point(1.03, 0), point(1.03, 1), point(-0.03, 1)], fill=case)
    keys = tone(rng, 15, 60, 6) if sum(case) > 300 else tone(rng, 30, 110, 6)
    for row in range(5):
        for column in range(13):
            x, y = 0.04 + column * 0.071, 0.08 + row * 0.1
            pen.polygon([point(x, y), point(x + 0.06, y), point(x + 0.06, y + 0.075), point(x, y + 0.075)], fill=keys)
    pen.polygon([point(0.35, 0.64), point(0.65, 0.64), point(0.65, 0.93), point(0.35, 0.93)], fill=keys)


def _foot(pen: ImageDraw.ImageDraw, corners: Corners, height: float, case: Colour) -> None:
    x, y = (corners[2][0] + corners[3][0]) / 2, max(corners[2][1], corners[3][1])
    pen.rectangle((x - height * 0.12, y, x + height * 0.12, y + height * 0.3), fill=case)
    pen.rectangle((x - height * 0.4, y + height * 0.28, x + height * 0.4, y + height * 0.34), fill=case)


def _hand(image: Image.Image, rng: random.Random, x: float, y: float, w: float, h: float) -> None:
    pen = ImageDraw.Draw(image)
    skin, r = rng.choice(SKIN), min(w, h) * 0.14
    pen.ellipse((x - w * 0.6, y + h * 0.1, x + w * 0.75, y + h * 1.2), fill=skin)
    for finger in range(4):
        top = y + h * (0.02 + 0.11 * finger)
        pen.rounded_rectangle((x - w * 0.62, top, x + w * 0.2, top + r * 1.6), r * 0.8, fill=skin)
