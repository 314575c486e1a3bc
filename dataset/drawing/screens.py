"""A class on screens, in all the ways that a photo may show one."""

import random
from collections.abc import Sequence

from PIL import Image

from dataset.drawing.calls import call
from dataset.drawing.cameras import Camera, camera, camera_of
from dataset.drawing.devices import desk, place_laptop, place_phone
from dataset.drawing.lessons import lesson
from dataset.drawing.tools import photograph
from dataset.drawing.windows import full_frame, phone, window
from dataset.drawing.worlds import world


def screens(rng: random.Random, width: int, height: int) -> Image.Image:
    """A call's window, a virtual classroom, one caller who fills it, a device in a call, or a virtual room."""
    if rng.random() < 0.2:
        return call(rng, width, height)
    show = rng.choices([lesson, window, _full_frame, _laptop, _phone, world], [6, 2, 3, 3, 1, 3])[0]
    return show(rng, width, height, camera)


def lessons(rng: random.Random, width: int, height: int) -> Image.Image:
    """A virtual classroom, mostly a slide."""
    return lesson(rng, width, height, camera)


def photographed_screens(rng: random.Random, width: int, height: int, photos: Sequence[Image.Image]) -> Image.Image:
    """As `screens`, but the cameras show parts of photos of rooms.

    No such photo fills the whole screen: that taught a network that rooms are calls (docs/log.md).
    """
    show = rng.choice([lesson, window, _laptop, _phone, world])
    return show(rng, width, height, camera_of(photos))


def _full_frame(rng: random.Random, width: int, height: int, shown: Camera) -> Image.Image:
    if rng.random() < 0.5:
        return phone(rng, 480, int(480 * rng.uniform(1.5, 2.2)), shown)
    return full_frame(rng, width, height, shown)


def _laptop(rng: random.Random, width: int, height: int, shown: Camera) -> Image.Image:
    image = desk(rng, width, height)
    side = (800, rng.choice([480, 600]))
    screen = full_frame(rng, *side, shown) if rng.random() < 0.2 else window(rng, *side, shown)
    place_laptop(image, rng, screen, rng.uniform(0.5, 0.95))
    return photograph(image, rng, noise=rng.uniform(3, 10))


def _phone(rng: random.Random, width: int, height: int, shown: Camera) -> Image.Image:
    image = desk(rng, width, height)
    if rng.random() < 0.75:
        place_phone(image, rng, phone(rng, 400, rng.randrange(640, 860), shown), rng.uniform(0.6, 0.95))
    else:
        place_phone(image, rng, window(rng, 800, 560, shown), rng.uniform(0.4, 0.8))
    return photograph(image, rng, noise=rng.uniform(3, 10))
