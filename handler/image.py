"""The one preprocessing: bytes of a picture file -> uint8, CHW, RGB or grey, of the recipe's size.

Training, calibration, evaluation and the served archive all call this module, so
what a model was measured on is what it is served. Scaling to floats, mean and
std are inside the graph.
"""

import math
import warnings
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps

from handler.errors import InvalidRequest, RequestError, TooLarge, Unsupported
from handler.spec import Input, Limits

Pixels = npt.NDArray[np.uint8]

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000")
_ANIMATED = {"PNG", "WEBP", "AVIF"}
# The first bytes of what we take: tells a damaged photo (400) from no photo at all (415).
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
# A progressive JPEG has about ten scans; each costs time by its pixels, and a file may repeat one thousands of times.
_SCANS = 100
# A photo of 50 megapixels may be one pixel high: brought to a shorter side of 300 as a whole, it would fill any memory.
_LONGEST = 4
_TURNED = range(2, 9)  # EXIF orientations other than upright
_SIDEWAYS = range(5, 9)
_TAKEN = "send a still JPEG, PNG, WebP, BMP, TIFF, AVIF or JPEG 2000"


def preprocess(data: bytes, size: Input, limits: Limits) -> Pixels:
    """Turn a picture file into the array that the graph takes.

    Returns:
        uint8, shape (channels, height, width), RGB, or grey where the recipe has 1 channel.

    Raises:
        RequestError: `empty_image`, `image_too_large`, `too_many_pixels`,
            `unsupported_format`, `animated_image` or `corrupt_image`.
    """
    return to_input(open_photo(data, limits, size), size)


def open_photo(data: bytes, limits: Limits, size: Input | None = None) -> Image.Image:
    """Decode a picture file whole, upright (EXIF) and in RGB, transparency on white.

    Args:
        size: what the photo is for, as in `preprocess`: a large JPEG is decoded at 1/2, 1/4 or 1/8 of its width and
            height, never below its `margin`. None: every pixel.

    Raises: as `preprocess`.
    """
    if not data:
        raise InvalidRequest("empty_image", "the photo has no bytes: " + _TAKEN)
    if len(data) > limits.bytes:
        raise TooLarge("image_too_large", f"the photo has {len(data)} bytes, at most {limits.bytes} are taken")
    try:
        photo = Image.open(BytesIO(data), formats=FORMATS)
        _check(photo, limits)
        if photo.format in ("JPEG", "MPO"):
            if _scans(data) > _SCANS:
                raise InvalidRequest("corrupt_image", f"the JPEG has more than {_SCANS} scans: save it again")
            if size:
                photo.draft(None, _least(size, _orientation(photo)))
        photo.load()
        return _to_rgb(_upright(photo))
    except RequestError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooLarge("too_many_pixels", f"at most {limits.pixels} pixels are taken") from error
    except Exception as error:  # Pillow's decoders raise nearly every built-in exception on damaged files
        raise _broken(data, error) from error


def fit(photo: Image.Image, size: Input) -> Image.Image:
    """Bring a photo to the recipe's size, bilinear with antialias, and to grey (Pillow's L) where it has 1 channel.

    `stretch` is torchvision's `Resize((height, width))`; `crop` and `pad` keep the
    shape of things, cutting or filling (black) around the centre. `crop` with `shorter` is
    torchvision's `Resize(shorter)` and `CenterCrop((height, width))`: the same pixels, up to 1 : 4; beyond, where
    the whole would have to be made large for little, within two levels.
    """
    photo = _sized(photo, size)
    return photo.convert("L") if size.channels == 1 else photo


def _sized(photo: Image.Image, size: Input) -> Image.Image:
    target = (size.width, size.height)
    if size.shorter:
        return _resize_and_crop(photo, size, size.shorter)
    if size.resize == "crop":
        return ImageOps.fit(photo, target, Image.Resampling.BILINEAR)
    if size.resize == "pad":
        return ImageOps.pad(photo, target, Image.Resampling.BILINEAR)
    return photo.resize(target, Image.Resampling.BILINEAR)


def to_input(photo: Image.Image, size: Input) -> Pixels:
    """`to_array(fit(photo, size))`, within one level of it; a stretch is torch's, in half of Pillow's time."""
    if size.resize != "stretch" or size.channels == 1:
        return to_array(fit(photo, size))
    import torch  # here, because most commands that open photos need none of it

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the array is read-only: it is only read
        pixels = torch.from_numpy(np.asarray(photo)).permute(2, 0, 1)[None]
    target = (size.height, size.width)
    stretched = torch.nn.functional.interpolate(pixels, target, mode="bilinear", antialias=True)[0]
    planes: Pixels = stretched.contiguous().numpy()  # of one pixel they are not
    return planes


def _resize_and_crop(photo: Image.Image, size: Input, shorter: int) -> Image.Image:
    """torchvision's two steps, rounded as it rounds; of a very long photo only what is kept is computed."""
    short, kept = min(photo.size), (size.width, size.height)
    whole = (int(shorter * photo.width / short), int(shorter * photo.height / short))
    left, upper = (round((side - part) / 2) for side, part in zip(whole, kept, strict=True))
    box = (left, upper, left + size.width, upper + size.height)
    if max(whole) <= _LONGEST * shorter:
        return photo.resize(whole, Image.Resampling.BILINEAR).crop(box)
    across, down = photo.width / whole[0], photo.height / whole[1]
    right, lower = min(box[2] * across, photo.width), min(box[3] * down, photo.height)
    return photo.resize(kept, Image.Resampling.BILINEAR, (box[0] * across, box[1] * down, right, lower))


def to_array(photo: Image.Image) -> Pixels:
    """A photo, RGB or grey, as uint8, CHW, contiguous."""
    bands = photo.getbands()
    planes = [np.frombuffer(photo.tobytes("raw", band), np.uint8) for band in bands]  # faster than a transpose
    return np.concatenate(planes).reshape(len(bands), photo.height, photo.width)


def _check(photo: Image.Image, limits: Limits) -> None:
    if photo.width * photo.height > limits.pixels:
        raise TooLarge(
            "too_many_pixels",
            f"the photo has {photo.width} x {photo.height} pixels, at most {limits.pixels} in all are taken",
        )
    if photo.format in _ANIMATED and getattr(photo, "n_frames", 1) > 1:
        raise Unsupported("animated_image", "the picture is animated: " + _TAKEN)


def _scans(data: bytes) -> int:
    """How often the marker of a scan (FF DA) stands in a file; ten times as fast as `bytes.count`."""
    values = np.frombuffer(data, np.uint8)
    return int(np.count_nonzero((values[:-1] == 0xFF) & (values[1:] == 0xDA)))


def _least(size: Input, orientation: int) -> tuple[int, int]:
    """Width and height, as they lie in the file, that must be left of a photo."""
    least = (size.shorter, size.shorter) if size.shorter else (size.width, size.height)
    width, height = (math.ceil(side * size.margin) for side in least)
    return (height, width) if orientation in _SIDEWAYS else (width, height)


def _orientation(photo: Image.Image) -> int:
    """EXIF's, 1 (upright) where there is none or it cannot be read."""
    try:
        return int(photo.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a broken EXIF block is no reason to refuse sound pixels
        return 1


def _upright(photo: Image.Image) -> Image.Image:
    if _orientation(photo) not in _TURNED:  # exif_transpose would copy it
        return photo
    try:
        return ImageOps.exif_transpose(photo)
    except Exception:  # a broken EXIF block is no reason to refuse sound pixels
        return photo


def _to_rgb(photo: Image.Image) -> Image.Image:
    if photo.mode.startswith("I"):
        return _from_16_bit(photo)
    if photo.mode == "F":
        raise Unsupported("unsupported_format", "floating-point pixels are not taken: " + _TAKEN)
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


def _broken(data: bytes, error: Exception) -> RequestError:
    known = data.startswith(_SIGNATURES) or data[8:12] == b"WEBP" or data[4:12] in (b"ftypavif", b"ftypavis")
    if known and not _undecodable(error):
        return InvalidRequest("corrupt_image", "the photo is truncated or damaged: send the whole file again")
    return Unsupported("unsupported_format", "not a picture that we take: " + _TAKEN)


def _undecodable(error: Exception) -> bool:
    """A sound file in a variant that this Pillow was built without."""
    return isinstance(error, OSError) and "not available" in str(error)
