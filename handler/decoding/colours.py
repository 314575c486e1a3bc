"""Any mode of Pillow as 8-bit RGB: transparent pixels on white, 9 to 16 bits scaled to 8."""

import numpy as np
from PIL import Image

from handler.decoding.formats import Prepared, unsupported

_MODES = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr"}


def to_rgb(photo: Image.Image, file: Prepared) -> Image.Image:
    """Convert a decoded photo.

    Args:
        file: what it was decoded from.

    Raises:
        RequestError: `unsupported_format` for a mode without a defined conversion.
    """
    if photo.mode.startswith("I;16"):
        return _from_16_bit(photo, file)
    if photo.mode not in _MODES:
        raise unsupported(f"a {file.format} with pixels of type {photo.mode}")
    if not photo.has_transparency_data:
        return photo if photo.mode == "RGB" else photo.convert("RGB")
    layer = photo.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")


def _from_16_bit(photo: Image.Image, file: Prepared) -> Image.Image:
    values = np.asarray(photo)
    grey = (values >> file.bits - 8).astype(np.uint8)
    if file.inverted:
        grey = ~grey
    transparent = photo.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey).convert("RGB")
