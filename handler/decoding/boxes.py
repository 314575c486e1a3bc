"""AVIF and JPEG 2000: what their boxes say before a decoder is asked."""

import re
import struct

from handler.decoding.formats import Prepared, unsupported

_AVIF_BRANDS = (b"avif", b"avis")
_SIZE = re.compile(rb"ispe\0\0\0\0(.{8})", re.DOTALL)
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
    return Prepared("AVIF", data, (width, height))
