"""One generated file, and the picture from which all of them are made."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
HEIGHT, WIDTH = 29, 37  # odd, so that rows, tiles and subsampled blocks are filled up
EXACT, ROUNDED, LOSSY = (1.0, 3.0), (2.0, 5.0), (4.0, 90.0)
"""Largest mean and largest single difference of a channel, in levels of 255, that still count as agreement."""


@dataclass(frozen=True)
class Case:
    """A file and what may become of it.

    Attributes:
        name: format, then its properties.
        written: what was written: RGB, upright, on white, shape (height, width, 3); None if only decoders know.
        tolerance: mean and maximum.
        code: the error code with which the file must be refused; empty if it must be decoded.
        may_refuse: whether `unsupported_format` is an answer too, because the kind is rare.
    """

    name: str
    source: bytes | Callable[[], bytes]
    written: Pixels | None = None
    tolerance: tuple[float, float] = EXACT
    code: str = ""
    may_refuse: bool = False

    @property
    def data(self) -> bytes:
        """The file; written only now where `source` is a function."""
        return self.source if isinstance(self.source, bytes) else self.source()


def picture(seed: int, channels: int, height: int = HEIGHT, width: int = WIDTH) -> npt.NDArray[np.float64]:
    """A smooth picture with a dark and a light bar, 0 to 1, shape (height, width, channels)."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width] / np.array([height, width])[:, None, None]
    waves = [np.sin(rows * a + columns * b + c) / 2 + 0.5 for a, b, c in rng.uniform(1, 6, (channels, 3))]
    stacked = np.stack(waves, axis=2)
    stacked[: height // 5, : width // 3] = 0.05
    stacked[-height // 5 :, width // 2 :] = 0.95
    return stacked


def eight_bits(values: npt.NDArray[np.floating]) -> Pixels:
    """0 to 1 as 0 to 255."""
    whole: Pixels = np.rint(values * 255).clip(0, 255).astype(np.uint8)
    return whole


def on_white(colours: npt.NDArray[np.floating], alpha: npt.NDArray[np.floating]) -> Pixels:
    """RGB or grey of 0 to 1 with its alpha, shown on white."""
    return rgb(colours * alpha[..., None] + 1 - alpha[..., None])


def rgb(colours: npt.NDArray[np.floating]) -> Pixels:
    """RGB or grey of 0 to 1, shape (height, width, channels), as 8-bit RGB."""
    return np.broadcast_to(eight_bits(colours), (*colours.shape[:2], 3))


def levels(values: npt.NDArray[np.floating], bits: int) -> npt.NDArray[np.int64]:
    """0 to 1 as whole numbers of so many bits."""
    whole: npt.NDArray[np.int64] = np.rint(values * ((1 << bits) - 1)).astype(np.int64)
    return whole


def turned(pixels: Pixels, orientation: int) -> Pixels:
    """What is seen of stored pixels with an EXIF orientation from 1 to 8."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    across = orientation in (2, 3, 6, 7)
    down = orientation in (3, 4, 7, 8)
    return pixels[:: -1 if down else 1, :: -1 if across else 1]
