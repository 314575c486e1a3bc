"""Refuse early what certainly exceeds the limits. What no rule here knows is stopped by `handler.decoders`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handler.errors import TooLarge

if TYPE_CHECKING:  # pydantic would take half of the time in which a decoder process starts
    from handler.spec import Limits

ASPECT_RATIO = 200
"""Longer side / shorter side of a photo, at most. A screenshot of a long page has up to about 100."""

_BLOCKS = 1_000  # strips or tiles of a TIFF that are always accepted
_PARTS = {"JPEG": 5_000, "PNG": 20_000}  # segments, chunks: a file of 10 MB has up to about 200, and 1,300
_SCAN_PIXELS = 600_000_000  # 12 scans of a JPEG of 50 megapixels take about 1 s
# Bytes that a decoder certainly holds at once for a pixel: WebP two canvases, their copy and Pillow's picture; AVIF the
# planes, the RGB, its copy and Pillow's picture; JPEG 2000 four bytes for each sample, and Pillow's picture. A picture
# of four samples is converted to RGB, so there are two, and the strip that is converted.
_WEBP, _AVIF, _JPEG_2000_SAMPLE, _PICTURE, _TWO_PICTURES = 16, 11, 4, 4, 8.2


def check_size(size: tuple[int, int], limits: Limits) -> None:
    """Check width and height in pixels; (0, 0) if they are not known yet.

    Raises:
        RequestError: `too_many_pixels`, `too_costly`.
    """
    width, height = size
    if width * height > limits.pixels:
        raise TooLarge(
            "too_many_pixels",
            f"the photo has {width} x {height} pixels, more than the limit of {limits.pixels}: send a smaller photo",
        )
    if max(size) > ASPECT_RATIO * min(size):
        raise TooLarge(
            "too_costly",
            f"the photo has {width} x {height} pixels: one side is more than {ASPECT_RATIO} times the other. "
            "Send a part of it",
        )


def check_memory(form: str, size: tuple[int, int], samples: int, limits: Limits) -> None:
    """Check what decoding must take.

    Args:
        form: the format, one of `handler.decoding.formats.FORMATS`.
        size: width and height that are decoded, in pixels.
        samples: for each pixel.

    Raises:
        RequestError: `too_costly`.
    """
    picture = _TWO_PICTURES if samples == 4 else _PICTURE
    each = {"WEBP": _WEBP, "AVIF": _AVIF, "JPEG2000": _JPEG_2000_SAMPLE * samples + _PICTURE}.get(form, picture)
    if size[0] * size[1] * each > limits.photo_megabytes * 10**6:
        raise out_of_memory(limits)


def out_of_memory(limits: Limits) -> TooLarge:
    """413 for a photo that takes too much memory."""
    return TooLarge(
        "too_costly",
        f"decoding the photo takes more than {limits.photo_megabytes} MB of memory, the limit: send a smaller photo, "
        "or save it again as a baseline JPEG",
    )


def check_blocks(count: int, block: tuple[int, int], size: tuple[int, int]) -> None:
    """Check the strips or tiles of a TIFF.

    Args:
        count: how many it has; up to 4 planes may have their own.
        block: width and height of one.
        size: width and height of the photo.

    Raises:
        RequestError: `too_costly`.
    """
    across, down = (-(-side // max(1, part)) for side, part in zip(size, block, strict=True))
    padded = max(1_000_000, 4 * size[0] * size[1])
    if count > max(_BLOCKS, 4 * size[1], 4 * across * down) or across * down > 50_000 or block[0] * block[1] > padded:
        raise TooLarge(
            "too_costly",
            f"the TIFF has {count} strips or tiles of {block[0]} x {block[1]} pixels for a photo of "
            f"{size[0]} x {size[1]}: save it again",
        )


def check_scans(scans: int, size: tuple[int, int]) -> None:
    """Check the scans of a JPEG against its width and height.

    Raises:
        RequestError: `too_costly`.
    """
    if scans * size[0] * size[1] > _SCAN_PIXELS:
        raise TooLarge(
            "too_costly",
            f"the JPEG has {scans} scans of {size[0]} x {size[1]} pixels: save it again as a baseline JPEG",
        )


def check_parts(count: int, form: str) -> None:
    """Check the number of parts that a file's header has: segments of a JPEG, chunks of a PNG.

    Raises:
        RequestError: `too_costly`.
    """
    if count > _PARTS[form]:
        raise TooLarge("too_costly", f"the {form} has more than {_PARTS[form]} segments or chunks: save it again")
