"""Decide from a file's header whether it is a common photo, which costs little to decode.

A common photo is decoded in the worker; every other file goes to a process with limits (`handler.decoders`). So this
module need not know every costly file: what it does not recognise as common is not.
"""

import struct

import numpy as np

_PIXELS = 16_000_000
_ASPECT_RATIO = 20
# A photo has at least one byte for this many pixels. A picture of one colour has fewer: it takes the other way.
_PIXELS_PER_BYTE = 200
_SEGMENTS = 200  # of a JPEG: EXIF, a colour profile in parts, previews of a phone
_SCAN_PIXELS = 200_000_000  # scans x pixels; a progressive JPEG has about ten scans
_CHUNKS = 4_000  # of a PNG: libpng writes one for 8 KiB
_EXTRA_CHUNKS = 32
_EXTRA_BYTES = 2**18
_BASELINE, _PROGRESSIVE = (0xC0, 0xC1), 0xC2
_ANIMATION = 0x02

Size = tuple[int, int]


def is_common(data: bytes) -> bool:
    """Whether a file is a JPEG, PNG or WebP of at most 16 megapixels with nothing unusual in its structure.

    It reads only headers: 10 microseconds for a JPEG, up to a millisecond for a PNG or a progressive JPEG of 10 MB.
    """
    try:
        size = _size(data)
    except (struct.error, IndexError):  # the file is cut off
        return False
    if size is None:
        return False
    width, height = size
    return 0 < width * height <= min(_PIXELS, _PIXELS_PER_BYTE * max(len(data), 5_000)) and max(
        size
    ) <= _ASPECT_RATIO * min(size)


def _size(data: bytes) -> Size | None:
    """Width and height in pixels; None if the file is not common."""
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"):
        return _png(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return None if data[12:16] == b"VP8X" and data[20] & _ANIMATION else webp_size(data)
    return None


def _jpeg(data: bytes) -> Size | None:
    """Walk the segments up to the first scan."""
    offset, frame = 2, 0
    for _ in range(_SEGMENTS):
        mark, kind, length = struct.unpack_from(">BBH", data, offset)
        if mark != 0xFF or kind < 0xC0 or 0xD0 <= kind <= 0xD9 or length < 2:
            return None
        if kind == 0xDA:
            return _jpeg_frame(data, frame, components=data[offset + 4]) if frame else None
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            if frame or kind not in (*_BASELINE, _PROGRESSIVE):
                return None
            frame = offset
        offset += 2 + length
    return None


def _jpeg_frame(data: bytes, offset: int, components: int) -> Size | None:
    """The size in a frame header.

    Args:
        components: of the first scan. A baseline JPEG with all of them has only this scan.
    """
    kind, _, precision, height, width, total = struct.unpack_from(">BHBHHB", data, offset + 1)
    if precision != 8:
        return None
    if kind in _BASELINE:
        return (width, height) if components == total else None
    return (width, height) if _count_scans(data) * width * height <= _SCAN_PIXELS else None


def _count_scans(data: bytes) -> int:
    """Count the start-of-scan markers (FF DA) in a file; ten times as fast as `bytes.count`."""
    values = np.frombuffer(data, np.uint8)
    return int(np.count_nonzero((values[:-1] == 0xFF) & (values[1:] == 0xDA)))


def _png(data: bytes) -> Size | None:
    """Walk the chunks: not interlaced, with little besides pixels."""
    width, height, _, _, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    offset, extra, extra_bytes = 8, 0, 0
    for _ in range(_CHUNKS):
        length, kind = struct.unpack_from(">I4s", data, offset)
        if kind == b"IEND":
            return None if interlaced else (width, height)
        if kind != b"IDAT":
            extra, extra_bytes = extra + 1, extra_bytes + length
            if extra > _EXTRA_CHUNKS or extra_bytes > _EXTRA_BYTES:
                return None
        offset += 12 + length
    return None


def webp_size(data: bytes) -> Size:
    """Width and height in the header of a WebP; (0, 0) if it is cut off or of another kind."""
    kind, head = data[12:16], data[:30].ljust(30, b"\0")
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", head, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        return _three_bytes(head, 24) + 1, _three_bytes(head, 27) + 1
    return 0, 0


def _three_bytes(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 3], "little")
