"""The chunks of a PNG: only those that the pixels need go to the decoder.

Pillow also reads texts and colour profiles, refuses large or damaged ones, and lets a text overwrite what the image is.
Source: PNG, third edition, section 11.
"""

import struct
import zlib

from handler.decoding.costs import check_parts
from handler.decoding.formats import Prepared, unsupported
from handler.decoding.tags import exif_orientation

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEPT = {b"PLTE", b"acTL", b"IDAT"}
_UNCHANGED = {b"IHDR", *_KEPT}
_END_BYTES = 12
_GREY, _RGB = 0, 2
_NEWLINE = 0x0A


def prepare(data: bytes) -> Prepared:
    """Keep the chunks of the pixels, and add an end marker if it is missing.

    Raises:
        RequestError: `unsupported_format`; `too_costly`.
    """
    view, dropped = memoryview(data), False
    kept: list[bytes | memoryview] = [SIGNATURE]
    exif, size, depth, colour, offset, chunks = b"", (0, 0), 8, _RGB, 8, 0
    while offset + 8 < len(data):
        length, kind = struct.unpack_from(">I4s", data, offset)
        end, chunks = offset + 12 + length, chunks + 1
        check_parts(chunks, "PNG")
        if kind == b"CgBI":
            raise unsupported("a PNG for iOS (CgBI)")
        if kind == b"IHDR" and length == 13 and size == (0, 0):
            *size_, depth, colour = struct.unpack_from(">IIBB", data, offset + 8)
            size = (size_[0], size_[1])
            kept.append(view[offset:end])
        elif kind == b"tRNS" and end <= len(data):
            kept.append(_transparency(data[offset + 8 : end - 4], depth, colour))
        elif kind == b"eXIf":
            exif = exif or data[offset + 8 : end - 4]
        elif kind in _KEPT:
            kept.append(view[offset:end] if end <= len(data) else _chunk(kind, data[offset + 8 :]))
        elif kind == b"IEND":
            break
        dropped = dropped or kind not in _UNCHANGED
        offset = end
    whole = not dropped and len(data) >= offset + _END_BYTES
    content = data if whole else b"".join([*kept, _chunk(b"IEND", b"")])
    return Prepared("PNG", content, size, exif_orientation(exif))


def _transparency(values: bytes, depth: int, colour: int) -> bytes:
    """The tRNS chunk, in the units in which Pillow compares it with pixels."""
    if colour == _RGB and depth == 16:
        raise unsupported("a PNG with 16 bits per channel and a transparent colour")
    if colour == _GREY and depth in (2, 4) and len(values) == 2:  # Pillow scales the pixels to 8 bits
        grey = int.from_bytes(values, "big") & ((1 << depth) - 1)
        values = (grey * 255 // ((1 << depth) - 1)).to_bytes(2, "big")
    elif values[-1:] == bytes([_NEWLINE]) and colour not in (_GREY, _RGB):  # Pillow's pattern ignores a last newline
        values = values[:-1] + bytes([_NEWLINE + 1])
    return _chunk(b"tRNS", values)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
