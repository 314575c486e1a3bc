"""Any mode of Pillow as 8-bit RGB: transparent pixels on white, 9 to 16 bits scaled to 8."""

import numpy as np
from PIL import Image

from handler.decoding.formats import Prepared, unsupported

_STRIP = 2**19  # pixels
_OPAQUE = 255
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
    if photo.mode == "La":
        photo = photo.convert("LA")
    if file.unclear_alpha and photo.getchannel("A").getextrema() != (_OPAQUE, _OPAQUE):
        raise unsupported(f"a {file.format} that does not say what its fourth channel is")
    return _on_white(photo)


def _on_white(photo: Image.Image) -> Image.Image:
    """Strip by strip: as a whole, three more copies of the photo would be in memory."""
    result, rows = Image.new("RGB", photo.size), 1 + _STRIP // photo.width
    for top in range(0, photo.height, rows):
        strip = photo.crop((0, top, photo.width, min(top + rows, photo.height))).convert("RGBA")
        white = Image.new("RGBA", strip.size, "white")
        result.paste(Image.alpha_composite(white, strip).convert("RGB"), (0, top))
    return result


def _from_16_bit(photo: Image.Image, file: Prepared) -> Image.Image:
    values = np.asarray(photo)
    grey = (values >> file.bits - 8).astype(np.uint8)
    if file.inverted:
        grey = ~grey
    transparent = photo.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey).convert("RGB")
