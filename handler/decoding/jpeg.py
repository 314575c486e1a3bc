"""The segments of a JPEG: only those that the pixels need go to the decoder.

Source: ITU-T T.81, annex B.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from handler.decoding.costs import check_parts, check_scans
from handler.decoding.formats import Prepared, damaged, unsupported
from handler.decoding.tags import exif_orientation
from handler.errors import InvalidRequest

# A progressive JPEG normally has about ten scans. Every scan adds decoding time, and a file can repeat one thousands
# of times.
_MAX_SCANS = 100
_END, _SCAN, _COMMENT, _JFIF, _EXIF, _ADOBE, _LAST_APP = 0xD9, 0xDA, 0xFE, 0xE0, 0xE1, 0xEE, 0xEF
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC} | {0xF7}
_BASELINE, _PROGRESSIVE = (0xC0, 0xC1), (0xC2, 0xCA)
_VARIANTS = {0xC3: "a lossless JPEG", 0xCB: "a lossless JPEG", 0xF7: "a JPEG-LS file"}
_END_MARKER = b"\xff\xd9"
# libjpeg reads zeros behind the end, and zeros are codes too: other bytes must start with ones.
_OTHER_BYTES = bytes(254 - number * 151 % 251 for number in range(4096))
_FILLING = 16  # zero bytes in a row at the end: a download that was stopped, not pixels
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


@dataclass
class Header:
    """What stands before the first scan: `scan` is the offset of its marker, `frame` the content of the frame header.

    `kind` is the marker of the frame header. `kept` holds the segments that the decoder needs.
    """

    kind: int = 0
    frame: bytes = b""
    exif: bytes = b""
    scan: int = 0
    kept: list[bytes] = field(default_factory=list)


def prepare(data: bytes) -> Prepared:
    """Drop metadata, refuse what libjpeg cannot decode here.

    Raises:
        RequestError: `unsupported_format`; `corrupt_image` for too many scans; `too_costly`.
    """
    header = read_header(data)
    if header is None:
        return Prepared("JPEG", data)
    _check_variant(header)
    if header.kind in _PROGRESSIVE or data[header.scan + 4] < header.frame[5]:
        _check_scans(data, header)
    height, width = struct.unpack_from(">HH", header.frame, 1)
    orientation = exif_orientation(header.exif)
    content = b"".join([b"\xff\xd8", *header.kept, data[header.scan :]])
    if data.endswith(_END_MARKER) or data.find(_END_MARKER, header.scan) > 0:
        return Prepared("JPEG", content, (width, height), orientation)
    if not _covers_all(data, header):
        raise damaged()
    content = _without_filling(content)
    witness = content + _OTHER_BYTES + _END_MARKER
    return Prepared("JPEG", content + _END_MARKER, (width, height), orientation, witness=witness)


def read_header(data: bytes) -> Header | None:
    """Walk the segments up to the first scan; None if they are cut off or out of order."""
    header = Header()
    for number, (marker, start, end) in enumerate(segments(data, 2)):
        check_parts(number, "JPEG")
        if marker == _SCAN:
            header.scan = start
            return header if len(header.frame) >= 6 and start + 4 < len(data) else None
        if end > len(data) or marker == _END:
            return None
        if marker in _FRAMES and not header.frame:
            header.kind, header.frame = marker, data[start + 4 : end]
        if marker == _EXIF and data[start + 4 : start + 10] == b"Exif\0\0":
            header.exif = header.exif or data[start + 4 : end]
        if marker in (_JFIF, _ADOBE) or not (marker == _COMMENT or _JFIF <= marker <= _LAST_APP):
            header.kept.append(data[start:end])
    return None


def segments(data: bytes, offset: int) -> Iterator[tuple[int, int, int]]:
    """Yields: marker, start and end (offsets) of each segment; the entropy-coded bytes between them are skipped."""
    while match := _MARKER.search(data, offset):
        start, marker = match.start(), data[match.start() + 1]
        if marker in (0x01, 0xD8, _END):  # these have no length
            offset = start + 2
        elif start + 4 > len(data):
            return
        else:
            offset = start + 2 + max(2, int.from_bytes(data[start + 2 : start + 4], "big"))
        yield marker, start, offset


def _check_variant(header: Header) -> None:
    precision, components = header.frame[0], header.frame[5]
    if header.kind in _VARIANTS:
        raise unsupported(_VARIANTS[header.kind])
    if header.kind not in (*_BASELINE, *_PROGRESSIVE, 0xC9):
        raise unsupported("a hierarchical JPEG")
    if precision != 8:
        raise unsupported(f"a {precision}-bit JPEG")
    if components not in (1, 3, 4):
        raise unsupported(f"a JPEG with {components} colour components")
    if header.frame[1:3] == b"\0\0":
        raise unsupported("a JPEG that gives its height behind the first scan (DNL)")


def _check_scans(data: bytes, header: Header) -> None:
    scans = 0
    for marker, _, _ in segments(data, header.scan):
        scans += marker == _SCAN
        if marker == _END or scans > _MAX_SCANS:
            break
    if scans > _MAX_SCANS:
        raise InvalidRequest(
            "corrupt_image",
            f"the JPEG has more than {_MAX_SCANS} scans: save it again as a baseline JPEG",
        )
    height, width = struct.unpack_from(">HH", header.frame, 1)
    check_scans(scans, (width, height))


def _covers_all(data: bytes, header: Header) -> bool:
    """Whether the scans contain every coefficient of every component in full precision."""
    known: dict[int, set[int]] = {}
    for marker, start, end in segments(data, header.scan):
        if marker == _SCAN and end <= len(data):
            first, last, bits = data[end - 3 : end]
            if not bits & 15:  # the lowest bit of the coefficients
                for at in range(start + 5, end - 3, 2):
                    known.setdefault(data[at], set()).update(range(first, last + 1))
    return len(known) == header.frame[5] and all(len(found) == 64 for found in known.values())


def _without_filling(content: bytes) -> bytes:
    """Without the zeros of a stopped download and without half an end marker: other bytes will follow."""
    stripped = content.rstrip(b"\0")
    return (stripped if len(content) - len(stripped) >= _FILLING else content).rstrip(b"\xff")
