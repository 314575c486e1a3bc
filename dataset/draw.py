"""Drawn photos: no people, no licence, any number of them.

They let a user try every command without photos, illustrate the documentation, and are the golden photos of an archive.
A `room` shows a lesson in a room: heads in rows before a board or a projected screen (which may show a grid of faces),
or a group that faces the camera. A `call` shows the window of a call: tiles, names, a tool bar, a shared page. `rooms`
and `screens` are more varied: rooms with laptops, large screens and faces close to the camera; laptops and phones in a
call, virtual classrooms that are mostly a slide, one caller who fills the screen, virtual rooms seen from above.
`lessons` are virtual classrooms alone, and `waiting` are calls in which nobody shows a camera. `papers` show no class:
logos, charts, maps, posters; `prints` are photographs of such. `pictures` are papers or single things: plants, animals,
vehicles. The other drawings are plain marks for tests with any number of classes.
"""

import random
from collections.abc import Callable, Sequence

from PIL import Image

from dataset.drawing.calls import call
from dataset.drawing.devices import prints
from dataset.drawing.marks import cross, disc, marks, stripe
from dataset.drawing.papers import papers
from dataset.drawing.rooms import changed_photo, room, rooms
from dataset.drawing.screens import lessons, photographed_screens, screens
from dataset.drawing.things import pictures
from dataset.drawing.windows import waiting


def draw(kind: str, seed: int, photos: Sequence[Image.Image] = ()) -> Image.Image:
    """Draw one photo.

    Args:
        kind: one of `DRAWINGS`.
        seed: same seed, same pixels (with the same Pillow).
        photos: of rooms, RGB; parts of them are what cameras show in `screens`, and `rooms` adds laptops or bars to
            one of them. The other kinds ignore them.

    Returns:
        RGB, 480 to 1280 pixels wide.

    Raises:
        KeyError: unknown kind.
    """
    rng = random.Random(f"{kind}-{seed}")
    width = rng.randrange(480, 1281, 16)
    height = int(width / rng.choice([4 / 3, 3 / 2, 16 / 9]))
    if photos and kind in WITH_PHOTOS:
        return WITH_PHOTOS[kind](rng, width, height, photos)
    return DRAWINGS[kind](rng, width, height)


DRAWINGS: dict[str, Callable[[random.Random, int, int], Image.Image]] = {
    "room": room,
    "call": call,
    "rooms": rooms,
    "screens": screens,
    "lessons": lessons,
    "waiting": waiting,
    "papers": papers,
    "prints": prints,
    "pictures": pictures,
    "discs": marks(disc),
    "stripes": marks(stripe),
    "crosses": marks(cross),
}
"""Kind of drawing -> function of (random numbers, width, height)."""

WITH_PHOTOS: dict[str, Callable[[random.Random, int, int, Sequence[Image.Image]], Image.Image]] = {
    "rooms": changed_photo,
    "screens": photographed_screens,
}
"""The same for kinds that can use photos of rooms."""
