"""Any mode of Pillow as 8-bit RGB: transparent pixels on white, 16 bits scaled to 8."""

import numpy as np
from PIL import Image

from handler.decoding.formats import SUPPORTED
from handler.errors import Unsupported


def to_rgb(photo: Image.Image) -> Image.Image:
    if photo.mode.startswith("I"):
        return _from_16_bit(photo)
    if photo.mode == "F":
        raise Unsupported("unsupported_format", f"floating-point pixels are not supported: {SUPPORTED}")
    if not photo.has_transparency_data:
        return photo if photo.mode == "RGB" else photo.convert("RGB")
    layer = photo.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")


def _from_16_bit(photo: Image.Image) -> Image.Image:
    values = np.asarray(photo)
    if values.dtype != np.uint16:  # mode I holds 16 bits in 32
        values = values.clip(0, 0xFFFF).astype(np.uint16)
    grey = (values >> 8).astype(np.uint8)
    transparent = photo.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey).convert("RGB")
