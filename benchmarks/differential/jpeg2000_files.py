"""JPEG 2000: depths and channels by OpenJPEG, in boxes written by hand: colours, palettes, kinds of channels."""

import itertools
import struct
from collections.abc import Iterator

import imagecodecs
import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.differential.case import (
    EXACT,
    HEIGHT,
    LOSSY,
    ROUNDED,
    WIDTH,
    Case,
    Pixels,
    levels,
    on_white,
    picture,
    rgb,
)

_SRGB, _GREY, _YCC, _CMYK, _LAB = 16, 17, 18, 12, 14
_USUAL = ((0, 0, 1), (1, 0, 2), (2, 0, 3), (3, 1, 0))
_REVERSED = ((0, 0, 3), (1, 0, 2), (2, 0, 1), (3, 1, 0))


def cases(seed: int) -> Iterator[Case]:
    yield from _depths(seed)
    yield from _boxes(seed)
    yield from _without_end(seed)


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def codestream(pixels: npt.NDArray[np.uint8], mixed: bool = True) -> bytes:
    flat = np.ascontiguousarray(pixels)
    return bytes(imagecodecs.jpeg2k_encode(flat, 0, codecformat="j2k", reversible=True, mct=mixed))


def in_boxes(pixels: npt.NDArray[np.uint8], colours: int, *boxes: bytes, mixed: bool = True) -> bytes:
    """A JP2 file of 8 bits whose header has these additional boxes."""
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    size = struct.pack(">IIHBBBB", HEIGHT, WIDTH, channels, 7, 7, 0, 0)
    header = box(b"ihdr", size) + box(b"colr", struct.pack(">BBBI", 1, 0, 0, colours)) + b"".join(boxes)
    start = box(b"jP  ", b"\r\n\x87\n") + box(b"ftyp", b"jp2 \0\0\0\0jp2 ")
    return start + box(b"jp2h", header) + box(b"jp2c", codestream(pixels, mixed))


def definitions(*rows: tuple[int, int, int]) -> bytes:
    """A cdef box: channel, kind (0 colour, 1 alpha, 2 premultiplied alpha), colour."""
    return box(b"cdef", struct.pack(">H", len(rows)) + b"".join(struct.pack(">HHH", *row) for row in rows))


def _boxes(seed: int) -> Iterator[Case]:
    values = picture(seed, 4)
    four = levels(values, 8).astype(np.uint8)
    three, seen = four[..., :3], four / 255
    ycc = np.asarray(Image.fromarray(np.ascontiguousarray(three)).convert("YCbCr"))
    shown = on_white(seen[..., :3], seen[..., 3])
    yield Case("jpeg 2000 in boxes", in_boxes(three, _SRGB), three)
    yield Case("jpeg 2000 YCC", in_boxes(ycc, _YCC, mixed=False), three, ROUNDED)
    yield Case("jpeg 2000 CMYK", in_boxes(255 - four, _CMYK), rgb(seen[..., :3] * seen[..., 3:]))
    yield Case("jpeg 2000 CIELAB", in_boxes(three, _LAB), code="unsupported_format")
    yield Case("jpeg 2000 alpha", in_boxes(four, _SRGB, definitions(*_USUAL)), shown)
    for rows in ((*_USUAL[:3], (3, 2, 0)), (*_USUAL[:3], (3, 65535, 65535)), _REVERSED):
        yield Case(f"jpeg 2000 channels {rows}", in_boxes(four, _SRGB, definitions(*rows)), code="unsupported_format")
    colours = np.random.default_rng(seed).integers(0, 256, (256, 3)).astype(np.uint8)
    palette = box(b"pclr", struct.pack(">HB", 256, 3) + b"\7\7\7" + colours.tobytes())
    mapping = box(b"cmap", b"".join(struct.pack(">HBB", 0, 1, number) for number in range(3)))
    data = in_boxes(four[..., 0], _SRGB, palette, mapping)
    yield Case("jpeg 2000 palette", data, colours[four[..., 0]], may_refuse=True)


def _without_end(seed: int) -> Iterator[Case]:
    three = levels(picture(seed, 3), 8).astype(np.uint8)
    for name, data in {"jp2": in_boxes(three, _SRGB), "j2k": codestream(three)}.items():
        yield Case(f"jpeg 2000 {name} without end", data[:-2], three)
        yield Case(f"jpeg 2000 {name} cut", data[:-30], code="corrupt_image")


def _depths(seed: int) -> Iterator[Case]:
    for channels, bits, form, reversible in itertools.product(
        (1, 2, 3, 4), (4, 8, 10, 12, 16), ("jp2", "j2k"), (True, False)
    ):
        values = levels(picture(seed, channels), bits)
        pixels = values.astype(np.uint8 if bits <= 8 else np.uint16)
        seen = values / ((1 << bits) - 1)
        written: Pixels = on_white(seen[..., :-1], seen[..., -1]) if channels in (2, 4) else rgb(seen)
        flat = pixels[..., 0] if channels == 1 else pixels
        try:
            data = bytes(
                imagecodecs.jpeg2k_encode(
                    np.ascontiguousarray(flat),
                    0 if reversible else 45,
                    codecformat=form,
                    bitspersample=bits,
                    reversible=reversible,
                )
            )
        except (ValueError, RuntimeError):
            continue
        name = f"jpeg 2000 {channels} channels, {bits} bits, {form}, reversible {reversible}"
        yield Case(
            name, data, written, EXACT if reversible else LOSSY, may_refuse=bits != 8 and (channels > 1 or bits < 8)
        )
