"""Independent decoders: libvips, and imagecodecs where libvips has no decoder."""

from typing import Any

import imagecodecs
import numpy as np
import pyvips

from benchmarks.differential.case import Pixels

_BITS = {"uchar": 8, "ushort": 16}


def libvips(data: bytes) -> Pixels | None:
    """Upright, RGB, on white; None if libvips cannot decode it."""
    try:
        image = pyvips.Image.new_from_buffer(data, "", fail_on="none").autorot()
        if image.interpretation == "cmyk":
            return _from_inks(image.numpy())
        if image.format not in _BITS or image.interpretation not in ("srgb", "b-w", "rgb16", "grey16", "rgb"):
            return None
        return seen(image.numpy(), image.hasalpha(), _BITS[image.format])
    except pyvips.Error:
        return None


def others(data: bytes) -> Pixels | None:
    """JPEG 2000 and BMP by imagecodecs; None if it cannot decode it."""
    try:
        if data.startswith(b"BM"):
            return seen(np.asarray(imagecodecs.bmp_decode(data)), False, 8)
        if data[:4] in (b"\0\0\0\x0c", b"\xff\x4f\xff\x51"):
            values = np.asarray(imagecodecs.jpeg2k_decode(data))
            return seen(values, values.ndim == 3 and values.shape[2] in (2, 4), 8 * values.dtype.itemsize)
    except (ValueError, RuntimeError, NotImplementedError):
        return None
    return None


def seen(values: np.ndarray[Any, Any], alpha: bool, bits: int) -> Pixels:
    """Whole numbers, shape (height, width) or (height, width, channels), as RGB on white."""
    scaled = values.reshape(*values.shape[:2], -1) / ((1 << bits) - 1)
    if alpha:
        scaled = scaled[..., :-1] * scaled[..., -1:] + 1 - scaled[..., -1:]
    return np.broadcast_to(np.rint(scaled[..., :3] * 255).astype(np.uint8), (*values.shape[:2], 3))


def _from_inks(values: np.ndarray[Any, Any]) -> Pixels:
    scaled = values / (255 if values.dtype == np.uint8 else 65535)
    return np.rint((1 - scaled[..., :3]) * (1 - scaled[..., 3:4]) * 255).astype(np.uint8)
