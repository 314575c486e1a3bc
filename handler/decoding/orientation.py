"""Turning a photo upright."""

from PIL import Image

SIDEWAYS = range(5, 9)
"""EXIF orientations that swap width and height."""

_METHODS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright(photo: Image.Image, orientation: int) -> Image.Image:
    """Turn the pixels as EXIF asks. `ImageOps.exif_transpose` also writes the EXIF block, and fails on odd tags."""
    method = _METHODS.get(orientation)
    return photo if method is None else photo.transpose(method)
