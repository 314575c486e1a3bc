"""PNG files, written by hand: every colour type, depth, interlacing, transparency and palette size."""

import struct
import zlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from benchmarks.differential.case import Case, levels, on_white, picture, rgb, turned

_PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 4: (8, 16), 6: (8, 16)}
Samples = npt.NDArray[np.int64]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def pack(samples: Samples, bits: int, order: str = ">") -> bytes:
    """Rows of samples, shape (height, width, channels), as bytes; every row starts with a new byte."""
    rows = samples.reshape(len(samples), -1)
    if bits in (8, 16, 32):
        return rows.astype(f"{order}u{bits // 8}").tobytes()
    shifts = np.arange(bits - 1, -1, -1)
    return np.packbits((rows[:, :, None] >> shifts & 1).astype(np.uint8).reshape(len(rows), -1), axis=1).tobytes()


def write(samples: Samples, bits: int, colour: int, interlaced: bool = False, *chunks: bytes) -> bytes:
    """A PNG whose additional chunks stand before its pixels."""
    parts = [samples[top::down, left::across] for top, left, down, across in _PASSES] if interlaced else [samples]
    rows = b"".join(b"\0" + pack(part[row : row + 1], bits) for part in parts if part.size for row in range(len(part)))
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], bits, colour, 0, 0, interlaced)
    compressed = zlib.compress(rows)
    pixels = [chunk(b"IDAT", compressed[at : at + 700]) for at in range(0, len(compressed), 700)]
    return b"\x89PNG\r\n\x1a\n" + b"".join([chunk(b"IHDR", header), *chunks, *pixels, chunk(b"IEND", b"")])


def cases(seed: int) -> Iterator[Case]:
    yield from _plain(seed)
    yield from _transparent_colours(seed)
    yield from _palettes(seed)
    yield from _oriented(seed)


def _plain(seed: int) -> Iterator[Case]:
    for colour, depths in _DEPTHS.items():
        for bits in depths:
            for interlaced in (False, True):
                values = picture(seed, _CHANNELS[colour])
                for kind, alpha in (("straight", values[..., -1]), ("zero", 0 * values[..., -1])):
                    if colour in (4, 6):
                        values[..., -1] = alpha
                    elif kind == "zero":
                        continue
                    stored = levels(values, bits)
                    seen = stored / ((1 << bits) - 1)
                    written = on_white(seen[..., :-1], seen[..., -1]) if colour in (4, 6) else rgb(seen)
                    data = write(stored, bits, colour, interlaced)
                    yield Case(
                        f"png colour {colour}, {bits} bits, interlaced {interlaced}, alpha {kind}", data, written
                    )


def _transparent_colours(seed: int) -> Iterator[Case]:
    for colour in (0, 2):
        for bits in _DEPTHS[colour]:
            stored = levels(picture(seed, _CHANNELS[colour]), bits)
            for at in ((0, 0), (15, 20), (28, 36)):
                key = stored[at]
                seen = stored / ((1 << bits) - 1)
                written = on_white(seen, 1.0 - (stored == key).all(axis=2))
                data = write(stored, bits, colour, False, chunk(b"tRNS", struct.pack(f">{len(key)}H", *key)))
                yield Case(
                    f"png colour {colour}, {bits} bits, transparent {at}",
                    data,
                    written,
                    may_refuse=(colour, bits) == (2, 16),
                )


def _palettes(seed: int) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for bits in (1, 2, 4, 8):
        for count in sorted({2, 3, 1 << bits} & set(range((1 << bits) + 1))):
            indices = np.minimum(levels(picture(seed, 1), bits), count - 1)
            colours = rng.integers(0, 256, (count, 3))
            for alphas in (
                None,
                [0],
                [255, 0],
                [128, 7],
                list(rng.integers(0, 256, count)),
                [255] * (count - 1) + [10],
            ):
                alpha = np.full(count, 255)
                extra = [chunk(b"PLTE", colours.astype(np.uint8).tobytes())]
                if alphas is not None:
                    alpha[: len(alphas)] = alphas[:count]
                    extra.append(chunk(b"tRNS", bytes(int(value) for value in alphas[:count])))
                written = on_white(colours[indices[..., 0]] / 255, alpha[indices[..., 0]] / 255)
                for interlaced in (False, True):
                    name = f"png palette of {count}, {bits} bits, alpha {alphas if alphas is None else len(alphas)}"
                    yield Case(f"{name}, interlaced {interlaced}", write(indices, bits, 3, interlaced, *extra), written)


def _oriented(seed: int) -> Iterator[Case]:
    stored = levels(picture(seed, 3), 8)
    for orientation in range(10):
        for kind, size in ((3, "H"), (4, "I"), (1, "B")):
            exif = tiff_block(orientation, kind, size)
            seen = turned(rgb(stored / 255), orientation if 1 <= orientation <= 8 else 1)
            yield Case(
                f"png orientation {orientation}, type {kind}", write(stored, 8, 2, False, chunk(b"eXIf", exif)), seen
            )


def tiff_block(orientation: int, kind: int = 3, size: str = "H", order: str = ">") -> bytes:
    """An EXIF block with only an orientation, of this TIFF type."""
    value = struct.pack(order + size, orientation).ljust(4, b"\0")
    head = (b"MM" if order == ">" else b"II") + struct.pack(order + "HIH", 42, 8, 1)
    return head + struct.pack(order + "HHI", 274, kind, 1) + value + bytes(4)
