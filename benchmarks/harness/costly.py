"""Small files that cost much to decode, made in code: one function for each kind, with sizes as arguments."""

import io
import struct
import zlib
from collections.abc import Callable, Iterable
from typing import Any

from PIL import Image

_ORDERS = [(0, 13), *((high, high - 1) for high in range(13, 0, -1))]  # successive approximation: first pass, then bits


def bmp_of_line_ends(width: int = 5_000_000, height: int = 10) -> bytes:
    """An RLE BMP with one pixel and an end-of-line code per line: Pillow pads the line byte by byte, in Python."""
    data = b"\1\0\0\0" * height + b"\0\1"
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(data), 0, 0, 2, 0) + bytes(8)
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(data), 0, 0, 14 + len(head)) + head + data


def tiff(tags: dict[int, tuple[int, Iterable[int]]], data: bytes = b"", more: bytes = b"") -> bytes:
    """A little-endian TIFF of one directory.

    Args:
        tags: number -> (type: 3 for 16 bits, 4 for 32 bits; values).
        data: follows the header at byte 8.
        more: further directory entries, 12 bytes each.
    """
    entries, outside = [], b""
    count = len(tags) + len(more) // 12
    place = 8 + len(data) + 2 + 12 * count + 4
    for number, (kind, values) in sorted(tags.items()):
        packed = struct.pack(f"<{len(list(values))}{'H' if kind == 3 else 'I'}", *values)
        if len(packed) > 4:
            where, outside = struct.pack("<I", place + len(outside)), outside + packed
        else:
            where = packed.ljust(4, b"\0")
        entries.append(struct.pack("<HHI", number, kind, len(list(values))) + where)
    directory = struct.pack("<H", count) + b"".join(entries) + more + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory + outside


def tiff_of_one_strip(strips: int = 400_000, side: int = 1000) -> bytes:
    """A TIFF that names one strip, half of its pixels, again and again; Pillow decodes it each time."""
    strip = {273: (4, [8] * strips), 279: (4, [side**2 // 2] * strips), 278: (3, [side // 2])}
    return tiff({**_grey(side, side, 1), **strip}, bytes(side**2 // 2))


def tiff_of_tiny_tiles(side: int = 2000) -> bytes:
    """A TIFF in tiles of one pixel."""
    tiles = {322: (3, [1]), 323: (3, [1]), 324: (4, [8] * side**2), 325: (4, [1] * side**2)}
    return tiff({**_grey(side, side, 1), **tiles}, b"\0")


def tiff_of_one_huge_tile(side: int = 46_000) -> bytes:
    """A TIFF of 64 x 64 pixels in one compressed tile of side x side pixels."""
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(2**20)) for _ in range(side**2 // 2**20 + 1)) + packer.flush()
    tile = {322: (4, [side]), 323: (4, [side]), 324: (4, [8]), 325: (4, [len(data)])}
    return tiff({**_grey(64, 64, 8), **tile}, data)


def tiff_of_rationals(values: int = 1_200_000) -> bytes:
    """A TIFF with a long array of fractions, each of which Pillow makes an object."""
    array = struct.pack("<II", 1, 3) * values
    more = struct.pack("<HHII", 50714, 5, values, 8)
    return tiff({**_grey(8, 8, 1), 273: (4, [8]), 279: (4, [64])}, array, more)


def jpeg(segments: bytes) -> bytes:
    """A JPEG of 64 x 64 pixels with these segments after its first marker."""
    plain = encoded(Image.new("RGB", (64, 64), "grey"), "JPEG")
    return plain[:2] + segments + plain[2:]


def jpeg_of_exif(count: int = 450_000) -> bytes:
    """A JPEG with very many EXIF segments, which Pillow joins one by one."""
    content = b"Exif\0\0" + bytes(10)
    return jpeg((b"\xff\xe1" + struct.pack(">H", 2 + len(content)) + content) * count)


def jpeg_of_padding(count: int = 10_000_000) -> bytes:
    """A JPEG with very many fill bytes before a marker."""
    return jpeg(b"\xff" * count)


def jpeg_of_comments(count: int = 2_500_000) -> bytes:
    """A JPEG with very many empty comments."""
    return jpeg(b"\xff\xfe\0\2" * count)


def jpeg_of_scans(side: int = 7000, scans: int = 100, arithmetic: bool = True) -> bytes:
    """A progressive JPEG of empty scans, each of which visits every block."""
    table = b"\xff\xdb\0\x43\0" + b"\1" * 64
    if not arithmetic:  # Huffman tables with one code, for the symbol 0
        table += b"".join(b"\xff\xc4\0\x14" + bytes([kind, 1]) + bytes(16) for kind in (0x00, 0x10))
    kind = 0xCA if arithmetic else 0xC2
    frame = struct.pack(">BBHBHHB", 0xFF, kind, 17, 8, side, side, 3) + b"\1\x11\0\2\x11\0\3\x11\0"
    first = b"\xff\xda\0\x0c\3\1\0\2\0\3\0\0\0\0"
    passes = [
        b"\xff\xda\0\x08\1" + bytes([component, 0, 1, 63, high << 4 | low])
        for high, low in _ORDERS
        for component in (1, 2, 3)
    ]
    repeated = (passes + [passes[-1]] * scans)[: scans - 1]
    return b"\xff\xd8" + table + frame + first + b"".join(repeated) + b"\xff\xd9"


def png(width: int, height: int, colour: int = 2, extra: bytes = b"", rows: int | None = None) -> bytes:
    """A PNG of zeros.

    Args:
        colour: type: 0 grey, 2 RGB, 6 RGB with alpha.
        extra: chunks after the first.
        rows: that are really there; default: all.
    """
    packer = zlib.compressobj(9)
    row = bytes(1 + width * {0: 1, 2: 3, 6: 4}[colour])
    block = row * max(1, 2**20 // len(row))
    left = len(row) * (height if rows is None else rows)
    data = b"".join(packer.compress(block[: min(len(block), left - at)]) for at in range(0, left, len(block)))
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    parts = [_chunk(b"IHDR", header), extra, _chunk(b"IDAT", data + packer.flush()), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def png_of_chunks(count: int = 850_000) -> bytes:
    """A PNG with very many empty chunks."""
    return png(64, 64, extra=_chunk(b"prVt", b"") * count)


def flat(form: str, width: int, height: int, mode: str = "RGBA", **options: Any) -> bytes:
    """A picture of one colour in any format that Pillow writes."""
    return encoded(Image.new(mode, (width, height)), form, **options)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    """A picture as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _grey(width: int, height: int, compression: int) -> dict[int, tuple[int, list[int]]]:
    return {256: (4, [width]), 257: (4, [height]), 258: (3, [8]), 259: (3, [compression]), 262: (3, [1]), 277: (3, [1])}


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


FILES: dict[str, Callable[[], bytes]] = {
    "TIFF 2000 x 2000, half of it 8,000 times": lambda: tiff_of_one_strip(8000, 2000),
    "BMP of line ends, 5,000,000 x 10": bmp_of_line_ends,
    "TIFF, one strip 400,000 times": tiff_of_one_strip,
    "JPEG, 450,000 EXIF segments": jpeg_of_exif,
    "TIFF, 1.3 million tiles": lambda: tiff_of_tiny_tiles(1150),
    "JPEG, arithmetic, 100 scans, 7000 x 7000": jpeg_of_scans,
    "JPEG, Huffman, 100 scans, 7000 x 7000": lambda: jpeg_of_scans(arithmetic=False),
    "TIFF of 1.2 million fractions": tiff_of_rationals,
    "JPEG, 10 million fill bytes": jpeg_of_padding,
    "JPEG, 2.5 million comments": jpeg_of_comments,
    "PNG, 850,000 chunks": png_of_chunks,
    "PNG 10 x 4,000,000": lambda: png(10, 4_000_000),
    "PNG 2 x 2,000,000": lambda: png(2, 2_000_000),
    "PNG 1 x 300,000": lambda: png(1, 300_000),
    "TIFF 64 x 64 in a tile of 2 GB": tiff_of_one_huge_tile,
    "WebP RGBA 16383 x 3050": lambda: flat("WEBP", 16383, 3050, lossless=True),
    "JPEG 2000 RGBA 7000 x 7000": lambda: flat("JPEG2000", 7000, 7000),
    "AVIF RGBA 7000 x 7000": lambda: flat("AVIF", 7000, 7000, speed=10),
    "PNG RGBA 7000 x 7000": lambda: png(7000, 7000, 6),
}
"""Name -> maker of the files that the table of costs measures. No rule of handler/decoding/costs.py knows the first."""
