"""Preprocessing: from the bytes of an image file to uint8 pixels, CHW, RGB or grey, in the recipe's size.

Training, calibration, evaluation and serving all call this module, so the served model sees exactly
the pixels that it was measured on. Scaling to floats, mean and std are part of the graph.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from handler.decoding.colours import to_rgb
from handler.decoding.common_case import is_common
from handler.decoding.costs import check_memory, check_size
from handler.decoding.formats import SUPPORTED, Prepared, damaged
from handler.decoding.orientation import SIDEWAYS, upright
from handler.decoding.recognise import open_prepared, prepare, refusal
from handler.decoding.tags import exif_orientation
from handler.errors import InvalidRequest, RequestError, TooLarge, Unsupported

if TYPE_CHECKING:  # as in handler.decoding.costs
    from handler.spec import Input, Limits

Pixels = npt.NDArray[np.uint8]

_ANIMATED = {"PNG", "WEBP", "AVIF"}
# A 50-megapixel photo may be one pixel high. Resizing all of it to a shorter side of 300 would exhaust the memory, so
# beyond this aspect ratio only the part that is kept gets resized.
_MAX_ASPECT_RATIO = 4
_JPEG_2000_PIXELS = 4_000_000
_LONG = 20  # height / width; more than a common photo has (handler.decoding.common_case)


def preprocess(data: bytes, size: Input, limits: Limits) -> Pixels:
    """Turn an image file into the input of the graph.

    Returns:
        uint8, shape (channels, height, width), RGB, or grey if the recipe has 1 channel.

    Raises:
        RequestError: `empty_image`, `image_too_large`, `too_many_pixels`,
            `unsupported_format`, `animated_image` or `corrupt_image`.
    """
    photo = open_photo(data, limits, size)
    return to_input(photo, size) if is_common(data) else to_array(fit(photo, size))


def open_photo(data: bytes, limits: Limits, size: Input | None = None) -> Image.Image:
    """Decode an image file completely: upright (EXIF), RGB, transparent pixels on white.

    Args:
        size: the input that the photo is decoded for. A large JPEG is then decoded at 1/2, 1/4 or 1/8 of its width
            and height, but never below `size.margin`. None: decode every pixel.

    Raises:
        RequestError: as `preprocess`.
    """
    if not data:
        raise InvalidRequest("empty_image", f"the photo is empty (0 bytes): {SUPPORTED}")
    if len(data) > limits.bytes:
        raise TooLarge(
            "image_too_large",
            f"the photo has {len(data)} bytes, more than the limit of {limits.bytes}: send a smaller file",
        )
    try:
        file = prepare(data)
        check_size(file.size, limits)
        check_memory(file.format, file.size, 1, limits)
        photo = _decoded(file, file.data, limits, size)
        if file.witness and photo.tobytes() != _decoded(file, file.witness, limits, size).tobytes():
            raise damaged()
        orientation = exif_orientation(photo.info.get("exif")) if file.orientation is None else file.orientation
        return to_rgb(upright(photo, orientation), file)
    except RequestError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooLarge(
            "too_many_pixels", f"the photo has more than {limits.pixels} pixels: send a smaller photo"
        ) from error
    except Exception as error:  # Pillow's decoders raise nearly every built-in exception on damaged files
        raise refusal(error) from error


def _decoded(file: Prepared, data: bytes, limits: Limits, size: Input | None) -> Image.Image:
    photo = open_prepared(file.format, data)
    check_size(photo.size, limits)
    if file.format in _ANIMATED and getattr(photo, "n_frames", 1) > 1:
        raise Unsupported("animated_image", f"the image is animated: {SUPPORTED}")
    if file.format == "JPEG" and size:
        photo.draft(None, _minimum_size(size, file.orientation or 1))
    if file.format != "JPEG2000":
        check_memory(file.format, photo.size, len(photo.getbands()), limits)
    elif size:  # without one the caller wants every pixel, and has the memory
        divisor = 1 if photo.mode == "P" else _reduce(photo, file.levels, _minimum_size(size, 1))
        decoded = (photo.width // divisor, photo.height // divisor)
        check_memory(file.format, decoded, len(photo.getbands()), limits)
    photo.load()
    return photo


def _reduce(photo: Image.Image, levels: int, minimum: tuple[int, int]) -> int:
    """Have a JPEG 2000 decoded at 1/2, 1/4 ... of its size, if all of it would take too long.

    Half of it is sharper than if it had been resized, so a smaller photo is decoded whole.

    Args:
        levels: how often it can be halved.
        minimum: width and height that must remain.

    Returns:
        what width and height are divided by.
    """
    divisor = 1
    while levels and photo.width * photo.height > _JPEG_2000_PIXELS * divisor**2:
        if min(photo.width // minimum[0], photo.height // minimum[1]) < 2 * divisor:
            break
        divisor, levels = 2 * divisor, levels - 1
    photo.reduce = divisor.bit_length() - 1  # type: ignore[method-assign, assignment]
    return divisor


def fit(photo: Image.Image, size: Input) -> Image.Image:
    """Resize a photo to the recipe's size, bilinear with antialiasing; to grey (Pillow's L) if it has 1 channel.

    `stretch` is torchvision's `Resize((height, width))`. `crop` and `pad` keep the aspect ratio: they cut off, or add
    black borders, around the centre. `crop` with `shorter` is torchvision's `Resize(shorter)` and
    `CenterCrop((height, width))`: identical pixels up to an aspect ratio of 4, within two levels of 255 beyond it.
    """
    photo = _resized(photo, size)
    return photo.convert("L") if size.channels == 1 else photo


def _resized(photo: Image.Image, size: Input) -> Image.Image:
    target = (size.width, size.height)
    if size.shorter:
        return _resize_and_crop(photo, size, size.shorter)
    if size.resize == "crop":
        return ImageOps.fit(photo, target, Image.Resampling.BILINEAR)
    if size.resize == "pad":
        return ImageOps.pad(photo, target, Image.Resampling.BILINEAR)
    return _stretched(photo, target)


def _stretched(photo: Image.Image, target: tuple[int, int]) -> Image.Image:
    """Resize; a long narrow photo first along its height, because Pillow would first make it wider."""
    if _is_long(photo):
        photo = photo.resize((photo.width, target[1]), Image.Resampling.BILINEAR)
    return photo.resize(target, Image.Resampling.BILINEAR)


def _is_long(photo: Image.Image) -> bool:
    return photo.height > _LONG * photo.width


def to_input(photo: Image.Image, size: Input) -> Pixels:
    """As `to_array(fit(photo, size))`, within one level of 255. torch does the `stretch`, in half of Pillow's time."""
    if size.resize != "stretch" or size.channels == 1 or _is_long(photo):
        return to_array(fit(photo, size))
    import torch  # imported here because most commands that open photos do not need it, and it takes seconds

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "the array is not writable": it is only read
        pixels = torch.from_numpy(np.asarray(photo)).permute(2, 0, 1)[None]
    target = (size.height, size.width)
    stretched = torch.nn.functional.interpolate(pixels, target, mode="bilinear", antialias=True)[0]
    planes: Pixels = stretched.contiguous().numpy()  # a 1 x 1 result is not contiguous
    return planes


def _resize_and_crop(photo: Image.Image, size: Input, shorter: int) -> Image.Image:
    """torchvision's Resize and CenterCrop with its rounding; of a very long photo only the crop is computed."""
    short, target = min(photo.size), (size.width, size.height)
    full = (int(shorter * photo.width / short), int(shorter * photo.height / short))
    left, upper = (round((side - part) / 2) for side, part in zip(full, target, strict=True))
    box = (left, upper, left + size.width, upper + size.height)
    if max(full) <= _MAX_ASPECT_RATIO * shorter:
        return photo.resize(full, Image.Resampling.BILINEAR).crop(box)
    scale_x, scale_y = photo.width / full[0], photo.height / full[1]
    right, lower = min(box[2] * scale_x, photo.width), min(box[3] * scale_y, photo.height)
    return photo.resize(target, Image.Resampling.BILINEAR, (box[0] * scale_x, box[1] * scale_y, right, lower))


def to_array(photo: Image.Image) -> Pixels:
    """A photo, RGB or grey, as uint8, CHW, contiguous."""
    bands = photo.getbands()
    planes = [np.frombuffer(photo.tobytes("raw", band), np.uint8) for band in bands]  # faster than a transpose
    return np.concatenate(planes).reshape(len(bands), photo.height, photo.width)


def _minimum_size(size: Input, orientation: int) -> tuple[int, int]:
    """Width and height, as stored in the file, below which a JPEG must not be scaled while decoding."""
    sides = (size.shorter, size.shorter) if size.shorter else (size.width, size.height)
    width, height = (math.ceil(side * size.margin) for side in sides)
    return (height, width) if orientation in SIDEWAYS else (width, height)
