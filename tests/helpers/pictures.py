"""Generated image files: awkward ones that are accepted or refused with an error code, and small ones to train on."""

import functools
import io
import random
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from PIL import Image

from config.recipe import Recipe
from dataset.draw import DRAWINGS, draw
from dataset.sample import draw_set


def photo(kind: str = "discs", seed: int = 5) -> Image.Image:
    return _photo(kind, seed).copy()


@functools.cache
def _photo(kind: str, seed: int) -> Image.Image:
    return draw(kind, seed).resize((320, 240))


def encode(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def turned(orientation: int) -> bytes:
    """A JPEG whose EXIF says that it lies on its side (6, 8), is mirrored (5) ..."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(photo(), "JPEG", exif=exif, quality=95)


def grey_16_bit() -> bytes:
    return encode(photo().convert("L").point(lambda v: v * 257, "I").convert("I;16"), "PNG")


def bomb(side: int = 30_000) -> bytes:
    """A PNG of a few bytes that says it has side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def multi_picture() -> bytes:
    """What many phones write: a JPEG with a second picture (depth, gain map) behind the first."""
    return encode(photo(), "MPO", save_all=True, append_images=[photo(seed=6).resize((64, 48))])


def animated(form: str) -> bytes:
    return encode(photo(), form, save_all=True, append_images=[photo(seed=6)], duration=100)


def alpha() -> bytes:
    image = photo().convert("RGBA")
    image.putalpha(128)
    return encode(image, "PNG")


def palette_with_transparency() -> bytes:
    return encode(photo().quantize(16), "PNG", transparency=0)


def many_scans() -> bytes:
    """A progressive JPEG whose last scan is repeated: small to send, long to decode."""
    data = encode(photo(), "JPEG", progressive=True)
    scan = data.rindex(b"\xff\xda")
    return data[:-2] + data[scan:-2] * 200 + data[-2:]


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


TAKEN: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: encode(photo(), "JPEG"),
    "jpeg_progressive": lambda: encode(photo(), "JPEG", progressive=True),
    "jpeg_cmyk": lambda: encode(photo().convert("CMYK"), "JPEG"),
    "jpeg_grey": lambda: encode(photo().convert("L"), "JPEG"),
    "jpeg_multi_picture": multi_picture,
    "jpeg_turned_6": lambda: turned(6),
    "jpeg_mirrored_5": lambda: turned(5),
    "jpeg_broken_exif": lambda: encode(photo(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\xff"),
    "png": lambda: encode(photo(), "PNG"),
    "png_alpha": alpha,
    "png_palette": lambda: encode(photo().quantize(16), "PNG"),
    "png_palette_transparent": palette_with_transparency,
    "png_grey_16_bit": grey_16_bit,
    "png_grey_alpha": lambda: encode(photo().convert("LA"), "PNG"),
    "png_black_and_white": lambda: encode(photo().convert("1"), "PNG"),
    "webp": lambda: encode(photo(), "WEBP"),
    "bmp": lambda: encode(photo(), "BMP"),
    "tiff": lambda: encode(photo(), "TIFF"),
    "tiff_lzw": lambda: encode(photo(), "TIFF", compression="tiff_lzw"),
    "avif": lambda: encode(photo(), "AVIF"),
    "jpeg_2000": lambda: encode(photo(), "JPEG2000"),
    "one_pixel": lambda: encode(Image.new("RGB", (1, 1)), "PNG"),
}
TAKEN = {name: functools.cache(make) for name, make in TAKEN.items()}

REFUSED: dict[str, tuple[Callable[[], bytes], int, str]] = {
    "gif": (lambda: encode(photo(), "GIF"), 415, "unsupported_format"),
    "gif_animated": (lambda: animated("GIF"), 415, "unsupported_format"),
    "webp_animated": (lambda: animated("WEBP"), 415, "animated_image"),
    "png_animated": (lambda: animated("PNG"), 415, "animated_image"),
    "avif_animated": (lambda: animated("AVIF"), 415, "animated_image"),
    "psd": (lambda: b"8BPS\0\1" + bytes(40), 415, "unsupported_format"),
    "html": (lambda: b"<html><body>404 Not Found</body></html>", 415, "unsupported_format"),
    "mp4": (lambda: b"\0\0\0\x18ftypmp42" + bytes(100), 415, "unsupported_format"),
    "pdf": (lambda: b"%PDF-1.7\n" + bytes(100), 415, "unsupported_format"),
    "tiff_float": (lambda: encode(photo().convert("F"), "TIFF"), 415, "unsupported_format"),
    "png_bomb": (bomb, 413, "too_many_pixels"),
    "png_just_too_many_pixels": (lambda: bomb(7072), 413, "too_many_pixels"),
    "jpeg_truncated": (lambda: half(encode(photo(), "JPEG")), 400, "corrupt_image"),
    "png_truncated": (lambda: half(encode(photo(), "PNG")), 400, "corrupt_image"),
    "webp_truncated": (lambda: half(encode(photo(), "WEBP")), 400, "corrupt_image"),
    "avif_truncated": (lambda: half(encode(photo(), "AVIF")), 400, "corrupt_image"),
    "jpeg_many_scans": (many_scans, 400, "corrupt_image"),
    "jpeg_header_only": (lambda: encode(photo(), "JPEG")[:20], 400, "corrupt_image"),
    "empty": (lambda: b"", 400, "empty_image"),
}
REFUSED = {name: (functools.cache(make), status, code) for name, (make, status, code) in REFUSED.items()}


OXFORD = ("Abyssinian", "american_bulldog")


def oxford(folder: Path) -> None:
    """Twenty photos of two classes in the layout of Oxford-IIIT Pet."""
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    lines: dict[str, list[str]] = {"trainval": [], "test": []}
    for number in range(20):
        name = f"{OXFORD[number % 2]}_{number}"
        (folder / "images" / f"{name}.jpg").write_bytes(encode(photo().rotate(number), "JPEG"))
        lines["test" if number >= 18 else "trainval"].append(f"{name} {number % 2 + 1} {number % 2 + 1} 1")
    for part, rows in lines.items():
        (folder / "annotations" / f"{part}.txt").write_text("\n".join(rows) + "\n")


def draw_small_set(folder: Path, recipe: Recipe, count: int, seed: int = 0) -> None:
    """As `dataset sample` draws, but a third of the size: decoding larger photos was half of a small training."""
    with mock.patch("dataset.sample.draw", _draw_small):
        draw_set(folder, recipe, count, seed)


def _draw_small(kind: str, seed: int, photos: Sequence[Image.Image] = ()) -> Image.Image:
    """RGB, 160 to 432 pixels wide."""
    rng = random.Random(f"{kind}-{seed}")
    width = rng.randrange(160, 433, 16)
    return DRAWINGS[kind](rng, width, int(width / rng.choice([4 / 3, 3 / 2, 16 / 9])))
