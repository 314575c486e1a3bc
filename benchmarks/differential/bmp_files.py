"""BMP files, written by hand: depths, palettes, bit fields, headers, alpha, run lengths, top-down rows."""

import struct
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from benchmarks.differential.case import Case, Pixels, levels, on_white, picture, rgb
from benchmarks.differential.png_files import Samples, pack

_HEADERS = (12, 40, 52, 56, 108, 124)
_FIELDS = {
    16: ((0xF800, 0x7E0, 0x1F, 0), (0x7C00, 0x3E0, 0x1F, 0), (0xF00, 0xF0, 0xF, 0xF000), (0x7C00, 0x3E0, 0x1F, 0x8000)),
    32: (
        (0xFF0000, 0xFF00, 0xFF, 0),
        (0xFF0000, 0xFF00, 0xFF, 0xFF000000),
        (0xFF, 0xFF00, 0xFF0000, 0xFF000000),
        (0xFF000000, 0xFF0000, 0xFF00, 0xFF),
        (0x3FF00000, 0xFFC00, 0x3FF, 0xC0000000),
        (0x1F, 0x7E0, 0xF800, 0),
    ),
}
_RGB, _RLE8, _RLE4, _BIT_FIELDS = 0, 1, 2, 3


def write(
    body: bytes,
    bits: int,
    header: int,
    palette: bytes = b"",
    compression: int = 0,
    masks: tuple[int, ...] = (),
    flipped: bool = False,
    shape: tuple[int, int] = (29, 37),
    colours: int = 0,
) -> bytes:
    height, width = shape
    if header == 12:
        head = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        fields = (width, -height if flipped else height, 1, bits, compression, len(body), 0, 0, colours, 0)
        head = struct.pack("<IiiHHIIiiII", header, *fields) + struct.pack(f"<{len(masks)}I", *masks)
        head = head.ljust(header, b"\0")
    offset = 14 + len(head) + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(body), 0, 0, offset) + head + palette + body


def rows_of(samples: Samples, bits: int, flipped: bool = False) -> bytes:
    """Rows from the bottom up, filled up to four bytes."""
    ordered = samples if flipped else samples[::-1]
    rows = [pack(row[None], bits, "<") for row in ordered]
    return b"".join(row.ljust((len(row) + 3) // 4 * 4, b"\0") for row in rows)


def cases(seed: int) -> Iterator[Case]:
    for header in _HEADERS:
        for flipped in (False, True) if header > 12 else (False,):
            yield from _palettes(seed, header, flipped)
            yield from _true_colour(seed, header, flipped)
            if header > 12:
                yield from _bit_fields(seed, header, flipped)
    yield from _run_lengths(seed)


def _palettes(seed: int, header: int, flipped: bool) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for bits in (1, 4, 8):
        ramps = {"grey ramp": np.arange(1 << bits) * 255 // ((1 << bits) - 1), "dark ramp": np.arange(1 << bits)}
        choices = {name: np.repeat(ramp[:, None], 3, 1) for name, ramp in ramps.items()}
        choices |= {"random": rng.integers(0, 256, (1 << bits, 3)), "two": np.array([[0, 0, 0], [255, 255, 255]])}
        choices |= {"two swapped": choices["two"][::-1]}
        for name, colours in choices.items():
            if header == 12 and len(colours) < 1 << bits:
                continue
            indices = np.minimum(levels(picture(seed, 1), bits), len(colours) - 1)
            stored = np.zeros((len(colours), 3 if header == 12 else 4), np.uint8)
            stored[:, 2::-1] = colours
            used = len(colours) if len(colours) < 1 << bits else 0
            body = rows_of(indices, bits, flipped)
            data = write(body, bits, header, stored.tobytes(), flipped=flipped, colours=used)
            written = rgb(colours[indices[..., 0]] / 255)
            yield Case(f"bmp {bits} bits, header {header}, palette {name}, flipped {flipped}", data, written)


def _true_colour(seed: int, header: int, flipped: bool) -> Iterator[Case]:
    values = picture(seed, 3)
    eight = levels(values, 8)
    written = rgb(eight / 255)
    blue_first = eight[..., ::-1]
    yield _plain(f"24 bits, header {header}, flipped {flipped}", blue_first, 24, header, flipped, written)
    for fourth in (0, 255, 128):
        stored = np.concatenate([blue_first, np.full((*eight.shape[:2], 1), fourth)], axis=2)
        name = f"32 bits, header {header}, flipped {flipped}, fourth byte {fourth}"
        yield _plain(name, stored, 32, header, flipped, written)
    five = levels(values, 5)
    stored = (five[..., :1] << 10) + (five[..., 1:2] << 5) + five[..., 2:]
    data = write(rows_of(stored, 16, flipped), 16, header, flipped=flipped)
    yield Case(f"bmp 16 bits, header {header}, flipped {flipped}", data, rgb(five / 31))


def _plain(name: str, stored: Samples, bits: int, header: int, flipped: bool, written: Pixels) -> Case:
    return Case(f"bmp {name}", write(rows_of(stored, 8, flipped), bits, header, flipped=flipped), written)


def _bit_fields(seed: int, header: int, flipped: bool) -> Iterator[Case]:
    for bits, choices in _FIELDS.items():
        for masks in choices:
            for kind in ("varied", "zero") if masks[3] and header >= 56 else ("varied",):
                values = picture(seed, 4)
                values[..., 3] *= kind == "varied"
                packed, seen = _packed(values, masks)
                declared = masks if header >= 56 else masks[:3]
                data = write(rows_of(packed, bits, flipped), bits, header, b"", _BIT_FIELDS, declared, flipped)
                shown = len(declared) == 4 and bool(masks[3]) and kind == "varied"
                written = on_white(seen[..., :3], seen[..., 3]) if shown else rgb(seen[..., :3])
                name = f"bmp {bits} bits, header {header}, masks {masks[0]:x} {masks[3]:x}"
                yield Case(f"{name}, alpha {kind}, flipped {flipped}", data, written)


def _packed(values: npt.NDArray[np.float64], masks: tuple[int, ...]) -> tuple[Samples, npt.NDArray[np.float64]]:
    packed, seen = np.zeros((*values.shape[:2], 1), np.int64), np.ones_like(values)
    for channel, mask in enumerate(masks):
        if mask:
            shift = (mask & -mask).bit_length() - 1
            width = (mask >> shift).bit_length()
            stored = levels(values[..., channel], width)
            packed[..., 0] += stored << shift
            seen[..., channel] = stored / ((1 << width) - 1)
    return packed, seen


def _run_lengths(seed: int) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for nibbles in (False, True):
        count = 16 if nibbles else 256
        colours = rng.integers(0, 256, (count, 3))
        stored = np.zeros((count, 4), np.uint8)
        stored[:, 2::-1] = colours
        for style in ("runs", "literal", "empty rows", "delta", "early end"):
            indices = levels(picture(seed, 1), 4 if nibbles else 8)[..., 0]
            if style in ("empty rows", "delta"):
                indices[3:6] = 0
            if style == "early end":
                indices[:4] = 0
            body = encoded(indices[::-1], nibbles, style)
            compression, bits = (_RLE4, 4) if nibbles else (_RLE8, 8)
            data = write(body, bits, 40, stored.tobytes(), compression)
            yield Case(f"bmp run lengths of {bits} bits, {style}", data, rgb(colours[indices] / 255))


def encoded(rows: npt.NDArray[np.int64], nibbles: bool, style: str) -> bytes:
    out = bytearray()
    for number, row in enumerate(rows):
        if style == "early end" and not rows[number:].any():
            break
        if style == "delta" and not row.any() and number + 1 < len(rows):
            out += bytes([0, 2, 0, 1])
            continue
        if style == "literal":
            out += _literal(row, nibbles)
        elif row.any() or style != "empty rows":
            for value in row:
                out += bytes([1, value << 4 | value if nibbles else value])
        out += b"\0\0"
    return bytes(out[:-2] if style == "runs" else out) + b"\0\1"


def _literal(row: npt.NDArray[np.int64], nibbles: bool) -> bytes:
    values = [int(value) for value in row]
    if nibbles:
        body = bytes(a << 4 | b for a, b in zip(values[::2], [*values[1::2], 0], strict=False))
    else:
        body = bytes(values)
    return bytes([0, len(values)]) + body + b"\0" * (len(body) % 2)
