"""The orientation that a file asks for, and turning its pixels upright."""

from PIL import ExifTags, Image, ImageOps

_ROTATED = range(2, 9)  # EXIF orientations other than upright
SIDEWAYS = range(5, 9)


def orientation_of(photo: Image.Image) -> int:
    """The EXIF orientation; 1 (upright) if there is none or it cannot be read."""
    try:
        return int(photo.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # the pixels are usable without a readable EXIF block
        return 1


def upright(photo: Image.Image) -> Image.Image:
    if orientation_of(photo) not in _ROTATED:  # exif_transpose would copy it
        return photo
    try:
        return ImageOps.exif_transpose(photo)
    except Exception:  # the pixels are usable without a readable EXIF block
        return photo
