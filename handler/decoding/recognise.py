"""Recognise a file by its first bytes, and prepare it for its decoder."""

from collections.abc import Callable
from io import BytesIO

from PIL import Image, UnidentifiedImageError

from handler.decoding import bmp, boxes, jpeg, png, tiff
from handler.decoding.common_case import webp_size
from handler.decoding.formats import SUPPORTED, Prepared, damaged, unsupported
from handler.errors import RequestError, Unsupported

_OTHERS = (
    (b"GIF8", "GIF"),
    (b"8BPS", "PSD"),
    (b"%PDF", "PDF"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\0\0\1\0", "ICO"),
    (b"FUJIFILM", "a camera's raw photo"),
    (b"IIRO", "a camera's raw photo"),
    (b"IIU\0", "a camera's raw photo"),
    (b"<svg", "SVG"),
    (b"<?xml", "SVG"),
    (b"<!DOCTYPE html", "HTML"),
    (b"<html", "HTML"),
    (b"version https://git-lfs", "a Git LFS pointer"),
)
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def format_of(data: bytes) -> str | None:
    """One of `handler.decoding.formats.FORMATS`, by the first bytes; None: another format."""
    starts = {
        "JPEG": (b"\xff\xd8\xff",),
        "PNG": (png.SIGNATURE,),
        "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
        "BMP": (b"BM",),
        "JPEG2000": (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"),
    }
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    if boxes.is_avif(data):
        return "AVIF"
    return next((form for form, start in starts.items() if data.startswith(start)), None)


def prepare(data: bytes) -> Prepared:
    """Reduce a file to what its pixels need.

    Raises:
        RequestError: `unsupported_format` for another format or a variant that is not decoded here; `corrupt_image`.
    """
    form = format_of(data)
    if form is None:
        raise _other(data)
    return _PREPARE[form](data)


def _prepare_bmp(data: bytes) -> Prepared:
    header = bmp.read_header(data)
    return Prepared("BMP", data, (header.width, header.height), orientation=1)


_PREPARE: dict[str, Callable[[bytes], Prepared]] = {
    "JPEG": jpeg.prepare,
    "PNG": png.prepare,
    "TIFF": tiff.prepare,
    "BMP": _prepare_bmp,
    "AVIF": boxes.prepare_avif,
    "WEBP": lambda data: Prepared("WEBP", data, webp_size(data)),
    "JPEG2000": boxes.prepare_jpeg_2000,
}


def open_prepared(form: str, data: bytes) -> Image.Image:
    """Open a prepared file; of formats other than BMP only the header is read.

    Args:
        form: one of `handler.decoding.formats.FORMATS`.

    Raises:
        RequestError: `unsupported_format`, or `corrupt_image` for a BMP.
        Exception: nearly every other one, for a damaged file.
    """
    if form == "BMP":
        return bmp.decode(data, bmp.read_header(data))
    try:
        return Image.open(BytesIO(data), formats=(form,))
    except UnidentifiedImageError:
        if form == "TIFF":  # its directory is complete, so the file is sound
            raise unsupported("a TIFF with this combination of colours, depth and extra samples") from None
        raise


def refusal(error: Exception) -> RequestError:
    """The error of a file that its decoder refused."""
    if isinstance(error, OSError) and "not available" in str(error):
        return Unsupported("unsupported_format", f"unsupported image format: {SUPPORTED}")
    return damaged()


def _other(data: bytes) -> RequestError:
    name = next((name for start, name in _OTHERS if data[:20].lower().startswith(start.lower())), "")
    if data[4:8] == b"ftyp":
        name = "HEIC" if data[8:12] in _HEIC else "a video or another format with boxes"
    found = f" ({name})" if name else ""
    return Unsupported("unsupported_format", f"unsupported image format{found}: {SUPPORTED}")
