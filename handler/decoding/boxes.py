"""AVIF and JPEG 2000: what their boxes say before a decoder is asked.

Source: ISO/IEC 14496-12 and 23008-12 (AVIF), ISO/IEC 15444-1, annexes A and I (JPEG 2000).
"""

import re
import struct

from handler.decoding.formats import Prepared, unsupported

_AVIF_BRANDS = (b"avif", b"avis")
_SIZE = re.compile(rb"ispe\0\0\0\0(.{8})", re.DOTALL)
_EXIF_ITEM = re.compile(rb"(infe\x02.{7}|infe\x03.{9})Exif", re.DOTALL)
_CODESTREAM, _STYLE, _COMPONENT_STYLE, _END = b"\xff\x4f\xff\x51", b"\xff\x52", b"\xff\x53", b"\xff\xd9"
_TILE, _TILE_DATA = b"\xff\x90", b"\xff\x93"
_NO_LEVELS = 33  # one more than the format allows
_MOST_SEGMENTS = 5_000
_COLOURS = {code.to_bytes(4, "big") for code in (16, 17, 18)}
_CMYK = (12).to_bytes(4, "big")
_META = 65536  # the boxes that describe an AVIF stand at its start


def is_avif(data: bytes) -> bool:
    """Whether the file names an AVIF brand: the major one, or a compatible one of a HEIF container."""
    if data[4:8] != b"ftyp":
        return False
    length = int.from_bytes(data[:4], "big")
    return any(data[at : at + 4] in _AVIF_BRANDS for at in range(8, min(length, 256), 4))


def prepare_avif(data: bytes) -> Prepared:
    """The largest size that the boxes name: libavif itself refuses more than 268 megapixels as damage.

    Raises:
        RequestError: `unsupported_format`.
    """
    head = data[:_META]
    if b"clap\0" in head and b"ipma" in head:
        raise unsupported("an AVIF that shows only a part of its pixels (clap)")
    sizes = [struct.unpack(">II", match[1]) for match in _SIZE.finditer(head)]
    width, height = max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))
    # libavif refuses a damaged EXIF block, and only `irot` and `imir` turn an AVIF.
    return Prepared("AVIF", _EXIF_ITEM.sub(rb"\1exif", head) + data[_META:], (width, height))


def prepare_jpeg_2000(data: bytes) -> Prepared:
    """Find out at which sizes it can be decoded, and refuse what Pillow misreads.

    Pillow wraps the highest values of 9 to 16 bits to 0 in colours, and scales fewer than 8 bits too low.

    Raises:
        RequestError: `unsupported_format`.
    """
    start = data.find(_CODESTREAM)
    if start < 0:
        return Prepared("JPEG2000", data, orientation=1)
    try:
        right, lower, left, upper = struct.unpack_from(">IIII", data, start + 8)
        (count,) = struct.unpack_from(">H", data, start + 40)
        parts = [struct.unpack_from(">BBB", data, start + 42 + 3 * number) for number in range(min(count, 4))]
    except struct.error:
        return Prepared("JPEG2000", data, orientation=1)
    _check_components(count, parts)
    _check_colours(data[:start], count)
    if not data.endswith(_END):  # without it, OpenJPEG refuses a file in which every pixel is there
        data += _END
    return Prepared("JPEG2000", data, (right - left, lower - upper), orientation=1, levels=_levels(data))


def _check_components(count: int, parts: list[tuple[int, int, int]]) -> None:
    if count > 4:
        raise unsupported(f"a JPEG 2000 with {count} channels")
    for depth, across, down in parts:
        bits = (depth & 127) + 1
        if depth & 128:
            raise unsupported("a JPEG 2000 with signed samples")
        if bits != 8 and not (count == 1 and 8 < bits <= 16):
            raise unsupported(f"a JPEG 2000 with {bits} bits per sample and {count} channels")
        if (across, down) != (1, 1):
            raise unsupported("a JPEG 2000 with subsampled colours")


def _check_colours(head: bytes, count: int) -> None:
    """Pillow joins equal colours of a palette, and ignores the order and the kinds of channels."""
    colour = head.find(b"colr\1")
    if colour > 0 and head[colour + 7 : colour + 11] not in (_COLOURS | ({_CMYK} if count == 4 else set())):
        raise unsupported("a JPEG 2000 with colours other than sRGB, grey, YCC or CMYK")
    if b"pclr" in head:
        raise unsupported("a JPEG 2000 with a palette")
    channels = head.find(b"cdef")
    if channels > 0:
        rows = list(struct.iter_unpack(">HHH", head[channels + 6 : channels + 6 + 6 * count]))
        usual = [(number, 0, number + 1) for number in range(count)]
        if sorted(rows) not in (usual, [*usual[:-1], (count - 1, 1, 0)]):
            raise unsupported("a JPEG 2000 with channels in another order, or with premultiplied alpha,")


def _levels(data: bytes) -> int:
    """The decompositions that all tiles have (ITU-T T.800, annex A); 0 if components differ or it cannot be read."""
    at, tile, lowest = data.find(_CODESTREAM) + 2, 0, _NO_LEVELS
    for _ in range(_MOST_SEGMENTS):
        marker, length = data[at : at + 2], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _TILE:
            tile, at = at, at + 12
        elif marker == _TILE_DATA:
            length = int.from_bytes(data[tile + 6 : tile + 10], "big")
            at = tile + length if length > 12 else len(data)
        elif length < 2 or marker == _COMPONENT_STYLE:
            break
        else:
            lowest = min(lowest, data[at + 9]) if marker == _STYLE and at + 9 < len(data) else lowest
            at += 2 + length
        if at >= len(data) or data[at : at + 2] == _END:
            return lowest % _NO_LEVELS
    return 0
