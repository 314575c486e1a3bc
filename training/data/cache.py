"""A cache of decoded photos: in memory up to a limit; photos beyond it are decoded each time.

The pixels are the same either way, so neither the memory of a machine nor `train.cache` changes a training.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

from common.console import err_console
from common.words import number_of
from config.recipe import Recipe
from handler.image import Pixels, open_photo, preprocess
from handler.spec import Input

MARGIN = 2
"""Photos for augmentation are kept at up to this many times the recipe's height and width, so that a crop of a quarter
of the area still has the recipe's size."""
SHARE = 0.5
"""The share of the free memory that is used where the recipe sets no limit."""


class Pictures:
    """Decoded photos by path, for augmentation and for evaluation.

    Args:
        megabytes: of memory; default the recipe's `train.cache`, or else half of the free memory.
    """

    def __init__(self, recipe: Recipe, megabytes: int | None = None) -> None:
        self.recipe = recipe
        limit = recipe.train.cache if megabytes is None else megabytes
        self.limit = int(psutil.virtual_memory().available * SHARE) if limit is None else limit * 2**20
        self.used = 0
        self._kept: dict[tuple[str, Path], Any] = {}
        self._reported = not self.limit

    def picture(self, path: Path) -> Image.Image:
        """The image to augment: RGB, `MARGIN` times the recipe's size or smaller. Do not modify it.

        Raises:
            OSError, RequestError: as `handler.image.open_photo`.
        """
        return self._once("picture", path, lambda: bounded(open_whole(path, self.recipe), self.recipe.input))  # type: ignore[no-any-return]

    def pixels(self, path: Path) -> Pixels:
        """The pixels as they are served: uint8 (channels, H, W). Do not modify them.

        Raises:
            OSError, RequestError: as `handler.image.preprocess`.
        """
        return self._once("pixels", path, lambda: preprocess(path.read_bytes(), self.recipe.input, self.recipe.limits))  # type: ignore[no-any-return]

    def _once(self, kind: str, path: Path, make: Callable[[], Any]) -> Any:
        if (kind, path) in self._kept:
            return self._kept[kind, path]
        value = make()
        size = value.width * value.height * 3 if kind == "picture" else value.nbytes
        if self.used + size <= self.limit:
            self._kept[kind, path] = value
            self.used += size
        elif not self._reported:
            self._reported = True
            err_console.print(
                f"note: {number_of(len(self._kept), 'decoded photo fills', 'decoded photos fill')} the limit "
                f"of {self.limit / 2**20:.0f} MB: the others are decoded each time "
                "(train.cache in the recipe sets the megabytes)"
            )
        return value


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
