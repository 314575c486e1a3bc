"""Photos as the world sends them: re-compressed by messengers, turned, darkened, between bars."""

from collections.abc import Callable
from io import BytesIO

from PIL import ExifTags, Image, ImageOps

from handler.image import open_photo
from handler.spec import Input, Limits

PHONE = (900, 1600)
"""Width and height of a phone's screenshot, pixels."""
_QUARTER_TURN = 6  # EXIF: turn right by a quarter to see it upright


def as_jpeg(photo: Image.Image, quality: int = 75, exif: Image.Exif | None = None) -> bytes:
    """A photo as the bytes of a JPEG file, without EXIF unless given."""
    buffer = BytesIO()
    photo.save(buffer, "JPEG", quality=quality, exif=exif or b"")
    return buffer.getvalue()


def decoded(data: bytes, size: Input | None = None) -> Image.Image:
    """What we encoded ourselves: a change of a legal photo is never refused for its size."""
    return open_photo(data, Limits(bytes=2**31), size)


def compressed(photo: Image.Image, side: int, quality: int) -> Image.Image:
    """Scaled down to at most `side` pixels and saved as JPEG, as messengers do."""
    photo = photo.copy()
    photo.thumbnail((side, side))
    return decoded(as_jpeg(photo, quality))


def turned_by_exif(photo: Image.Image) -> Image.Image:
    """Stored lying on its side with an EXIF tag that says so, as phones do, and read again."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = _QUARTER_TURN
    return decoded(as_jpeg(photo.transpose(Image.Transpose.ROTATE_90), 95, exif))


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "all re-encoded as JPEG 75": lambda photo: decoded(as_jpeg(photo)),
    "640 pixels, JPEG 35": lambda photo: compressed(photo, 640, 35),
    "200 pixels, JPEG 30": lambda photo: compressed(photo, 200, 30),
    "twice the size": lambda photo: photo.resize((photo.width * 2, photo.height * 2), Image.Resampling.BILINEAR),
    "turned by EXIF": turned_by_exif,
    "a quarter turn, EXIF lost": lambda photo: photo.rotate(90, expand=True),
    "less than half as bright": lambda photo: photo.point(lambda value: value * 0.45),
    "between black bars on a phone": lambda photo: ImageOps.pad(photo, PHONE, color="black"),
    "between white bars on a phone": lambda photo: ImageOps.pad(photo, PHONE, color="white"),
}
"""Name -> what is done to an upright RGB photo."""
