"""Photos decoded once: kept in memory while there is room, decoded again each time where there is none.

What comes out is the same either way, so neither the memory of a machine nor `train.cache` changes a training.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from PIL import Image
from rich.console import Console

from config.recipe import Recipe
from handler.image import Pixels, open_photo, preprocess
from handler.spec import Input

MARGIN = 2
"""What is augmented has so many times the recipe's height and width, if the photo has: then a crop of a quarter of
its area still has the recipe's size."""
SHARE = 0.5
"""Of the memory that is free, where the recipe names no limit."""


class Pictures:
    """Photos by path, as the augmenter and as evaluation want them.

    Args:
        megabytes: of memory; default the recipe's `train.cache`, or else half of what is free now.
    """

    def __init__(self, recipe: Recipe, megabytes: int | None = None) -> None:
        self.recipe = recipe
        limit = recipe.train.cache if megabytes is None else megabytes
        self.limit = int(psutil.virtual_memory().available * SHARE) if limit is None else limit * 2**20
        self.used = 0
        self._kept: dict[tuple[str, Path], Any] = {}
        self._told = not self.limit

    def picture(self, path: Path) -> Image.Image:
        """What a training photo is augmented from: RGB, `MARGIN` times the recipe's size or smaller. Not to be changed.

        Raises:
            OSError, RequestError: as `handler.image.open_photo`.
        """
        return self._once("picture", path, lambda: bounded(open_whole(path, self.recipe), self.recipe.input))  # type: ignore[no-any-return]

    def pixels(self, path: Path) -> Pixels:
        """What is served of a photo: uint8 (channels, H, W). Not to be changed.

        Raises:
            OSError, RequestError: as `handler.image.preprocess`.
        """
        return self._once("pixels", path, lambda: preprocess(path.read_bytes(), self.recipe.input, self.recipe.limits))  # type: ignore[no-any-return]

    def _once(self, kind: str, path: Path, make: Callable[[], Any]) -> Any:
        if (kind, path) in self._kept:
            return self._kept[kind, path]
        made = make()
        size = made.width * made.height * 3 if kind == "picture" else made.nbytes
        if self.used + size <= self.limit:
            self._kept[kind, path] = made
            self.used += size
        elif not self._told:
            self._told = True
            Console(stderr=True).print(
                f"note: {len(self._kept)} decoded photos fill {self.limit / 2**20:.0f} MB: the others are decoded "
                "each time (train.cache in the recipe sets the megabytes)"
            )
        return made


def open_whole(path: Path, recipe: Recipe) -> Image.Image:
    """A photo, upright and RGB, every pixel.

    Raises:
        OSError, RequestError: as `handler.image.open_photo`.
    """
    return open_photo(path.read_bytes(), recipe.limits)


def bounded(photo: Image.Image, size: Input) -> Image.Image:
    """A photo scaled down, its shape kept, until its height or its width is `MARGIN` times the recipe's."""
    factor = max(MARGIN * size.width / photo.width, MARGIN * size.height / photo.height)
    if factor >= 1:
        return photo
    width, height = (max(1, round(side * factor)) for side in photo.size)
    return photo.resize((width, height), Image.Resampling.BILINEAR)
