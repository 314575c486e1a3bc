"""Remove what a photo's file says besides its pixels: place, time, camera, comments, embedded previews.

The orientation is kept, and colour profiles. Pixels are not encoded again: JPEG, PNG and WebP are copied segment by
segment. Other formats are stored as PNG, which has the same pixels.
"""

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO

from PIL import Image

from handler.image import open_photo
from handler.spec import Limits

_EXIF = b"Exif\0\0"
_ORIENTATION = 0x0112
_KEPT_PNG = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"sBIT", b"bKGD", b"cICP"}
_KEPT_WEBP = {b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ICCP"}
_WEBP_EXIF, _WEBP_XMP = 0x08, 0x04  # flags of VP8X


class Damaged(ValueError):
    """The structure of the file cannot be followed."""


def cleaned(data: bytes, limits: Limits) -> tuple[bytes, str]:
    """The file without its metadata.

    Args:
        data: a photo that serving accepts.

    Returns:
        its bytes, and the suffix of its format with a dot.

    Raises:
        RequestError: it has to be stored as PNG and cannot be decoded.
    """
    try:
        if data.startswith(b"\xff\xd8"):
            return _jpeg(data), ".jpg"
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return _png(data), ".png"
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data), ".webp"
    except (Damaged, struct.error, IndexError):
        pass  # serving can read it and we cannot follow it: store its pixels
    buffer = BytesIO()
    open_photo(data, limits).save(buffer, "PNG")
    return buffer.getvalue(), ".png"


def _jpeg(data: bytes) -> bytes:
    out = [b"\xff\xd8"]
    orientation = _orientation(data)
    if orientation != 1:
        block = _EXIF + _minimal_exif(orientation)
        out.append(b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block)
    out += _jpeg_segments(data)
    return b"".join(out)


def _jpeg_segments(data: bytes) -> Iterator[bytes]:
    """The segments to keep, up to the end of the first image: previews of some cameras follow it."""
    at = 2
    while True:
        while data[at : at + 2] == b"\xff\xff":
            at += 1
        if data[at] != 0xFF:
            raise Damaged
        marker = data[at + 1]
        if marker == 0xD9:
            yield b"\xff\xd9"
            return
        (length,) = struct.unpack_from(">H", data, at + 2)
        end = at + 2 + length
        if end > len(data):
            raise Damaged
        if _kept(marker, data[at + 4 : end]):
            yield data[at:end]
        at = end
        if marker == 0xDA:
            at = _end_of_scan(data, end)
            yield data[end:at]
            if at >= len(data):
                return


def _kept(marker: int, content: bytes) -> bool:
    if marker == 0xE2:
        return content.startswith(b"ICC_PROFILE\0")
    if marker in (0xE0, 0xEE):  # JFIF and Adobe: how the colours are stored
        return content.startswith((b"JFIF\0", b"Adobe"))
    return not (0xE1 <= marker <= 0xEF or marker == 0xFE)


def _end_of_scan(data: bytes, at: int) -> int:
    """Where the next marker is that does not belong to the compressed pixels."""
    while True:
        at = data.find(b"\xff", at)
        if at < 0 or at + 1 >= len(data):
            return len(data)
        if data[at + 1] != 0 and data[at + 1] != 0xFF and not 0xD0 <= data[at + 1] <= 0xD7:
            return at
        at += 1 if data[at + 1] == 0xFF else 2


def _png(data: bytes) -> bytes:
    out, at = [data[:8]], 8
    orientation = _orientation(data)
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        name, end = data[at + 4 : at + 8], at + 12 + length
        if name == b"IDAT" and orientation != 1:
            out.append(_chunk(b"eXIf", _minimal_exif(orientation)))
            orientation = 1
        if name in _KEPT_PNG:
            out.append(data[at:end])
        at = end
        if name == b"IEND":
            return b"".join(out)
    raise Damaged


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _webp(data: bytes) -> bytes:
    out, at, orientation = [], 12, _orientation(data)
    size = min(len(data), 8 + struct.unpack_from("<I", data, 4)[0])
    while at + 8 <= size:
        name, (length,) = data[at : at + 4], struct.unpack_from("<I", data, at + 4)
        content = data[at + 8 : at + 8 + length]
        if name == b"VP8X":
            flags = (content[0] & ~(_WEBP_EXIF | _WEBP_XMP)) | (_WEBP_EXIF if orientation != 1 else 0)
            content = bytes([flags]) + content[1:]
        if name in _KEPT_WEBP:
            out.append(name + struct.pack("<I", length) + content + b"\0" * (length % 2))
        at += 8 + length + length % 2
    if orientation != 1:
        exif = _minimal_exif(orientation)
        out.append(b"EXIF" + struct.pack("<I", len(exif)) + exif)
    if not any(chunk[:4] in (b"VP8 ", b"VP8L") for chunk in out):
        raise Damaged
    body = b"WEBP" + b"".join(out)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _orientation(data: bytes) -> int:
    """1 to 8, as the EXIF tag of the file says; 1 if it says nothing that is legal."""
    try:
        with Image.open(BytesIO(data)) as photo:
            value = photo.getexif().get(_ORIENTATION, 1)
    except Exception:  # Pillow raises nearly every built-in exception on damaged files
        raise Damaged from None
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _minimal_exif(orientation: int) -> bytes:
    """A TIFF header with one tag: 26 bytes."""
    return struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, _ORIENTATION, 3, 1, orientation, 0, 0)
