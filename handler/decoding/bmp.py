"""Decode BMP: all depths, bit fields and run lengths.

Pillow's decoder loses empty rows of run-length-encoded files, reads grey palettes of other than 8 bits wrongly, and
takes an unused fourth byte for alpha. Source: Microsoft, BITMAPINFOHEADER to BITMAPV5HEADER; alpha as in browsers.
"""

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from handler.decoding.formats import damaged, unsupported

_OS2, _INFO, _V2, _V3 = 12, 40, 52, 56
_HEADERS = (_OS2, _INFO, _V2, _V3, 108, 124)
_RGB, _RLE8, _RLE4, _FIELDS, _ALPHA_FIELDS = 0, 1, 2, 3, 6
_UNREAD = {4: "an embedded JPEG", 5: "an embedded PNG", 11: "CMYK colours", 12: "CMYK colours", 13: "CMYK colours"}
_MASKS = {16: (0x7C00, 0x3E0, 0x1F, 0), 32: (0xFF0000, 0xFF00, 0xFF, 0)}
_END_OF_LINE, _END, _DELTA = 0, 1, 2
_MAX_MASK_BITS = 16

Indices = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Header:
    """`pixels` is the offset of the first row in the file. `palette` is shape (colours, 3), RGB, up to 8 bits."""

    width: int
    height: int
    bits: int
    compression: int
    flipped: bool
    pixels: int
    masks: tuple[int, int, int, int]
    palette: Indices


def read_header(data: bytes) -> Header:
    """Read the header.

    Raises:
        RequestError: `unsupported_format`, or `corrupt_image` if it is cut off or impossible.
    """
    try:
        return _read_header(data)
    except struct.error:
        raise damaged() from None


def _read_header(data: bytes) -> Header:
    pixels, size = struct.unpack_from("<II", data, 10)
    if 16 <= size <= 64 and size not in _HEADERS:
        raise unsupported("a BMP for OS/2 2.x")
    if size not in _HEADERS:
        raise damaged()
    if size == _OS2:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression = colours = 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
        (colours,) = struct.unpack_from("<I", data, 46)
    if width <= 0 or height == 0:
        raise damaged()
    _check_kind(bits, compression)
    masks, after = _masks(data, size, bits, compression)
    entry = 3 if size == _OS2 else 4
    end = min(after + entry * min(colours or 256, 1 << min(bits, 8), 256), max(pixels, after))
    return Header(
        width, abs(height), bits, compression, height < 0, pixels, masks, _palette(data[after:end], entry, bits)
    )


def _check_kind(bits: int, compression: int) -> None:
    if compression in _UNREAD:
        raise unsupported(f"a BMP with {_UNREAD[compression]}")
    wanted = {_RGB: (1, 2, 4, 8, 16, 24, 32), _RLE8: (8,), _RLE4: (4,)}.get(compression, (16, 32))
    if compression not in (_RGB, _RLE8, _RLE4, _FIELDS, _ALPHA_FIELDS) or bits not in wanted:
        raise unsupported(f"a BMP with {bits} bits per pixel and compression {compression}")


def _masks(data: bytes, size: int, bits: int, compression: int) -> tuple[tuple[int, int, int, int], int]:
    """The masks of red, green, blue and alpha, and the offset behind the header: there the palette starts."""
    after = 14 + size
    if compression not in (_FIELDS, _ALPHA_FIELDS):
        return _MASKS.get(bits, (0, 0, 0, 0)), after
    count = 4 if size >= _V3 or compression == _ALPHA_FIELDS else 3
    masks = (*struct.unpack_from(f"<{count}I", data, 54), 0)[:4]
    if size == _INFO:
        after += 4 * count
    if any(_width(mask) > _MAX_MASK_BITS or mask >= 1 << bits for mask in masks) or not any(masks[:3]):
        raise damaged()
    return (masks[0], masks[1], masks[2], masks[3]), after


def _palette(content: bytes, entry: int, bits: int) -> Indices:
    colours = np.zeros((256, 3), np.uint8)
    count = len(content) // entry if bits <= 8 else 0
    stored = np.frombuffer(content, np.uint8, count * entry).reshape(count, entry)
    colours[:count] = stored[:, 2::-1]
    return colours


def decode(data: bytes, header: Header) -> Image.Image:
    """All pixels: RGB, or RGBA if the header has an alpha mask and one pixel is not fully transparent.

    Raises:
        RequestError: `corrupt_image` if pixels are missing.
    """
    if header.compression in (_RLE8, _RLE4):
        indices = _run_lengths(data, header)
        rows = header.palette[indices]
    else:
        rows = _pixels(_rows(data, header), header)
    return Image.fromarray(np.ascontiguousarray(rows if header.flipped else rows[::-1]))


def _rows(data: bytes, header: Header) -> Indices:
    """The stored bytes, one row of the photo in each row."""
    stride = (header.width * header.bits + 31) // 32 * 4
    used = (header.width * header.bits + 7) // 8
    needed = stride * (header.height - 1) + used  # some writers leave out the padding of the last row
    stored = data[header.pixels : header.pixels + stride * header.height]
    if len(stored) < needed:
        raise damaged()
    return np.frombuffer(stored.ljust(stride * header.height, b"\0"), np.uint8).reshape(header.height, stride)[:, :used]


def _pixels(rows: Indices, header: Header) -> npt.NDArray[np.uint8]:
    if header.bits == 24:
        return rows.reshape(header.height, header.width, 3)[:, :, ::-1]
    if header.bits <= 8:
        return header.palette[_unpacked(rows, header)]
    values = np.ascontiguousarray(rows).view(f"<u{header.bits // 8}")
    channels = [_channel(values, mask) for mask in header.masks if mask]
    if len(channels) == 4 and not channels[3].any():  # nothing would be visible: browsers ignore such an alpha
        channels.pop()
    return np.stack(channels, axis=2)


def _unpacked(rows: Indices, header: Header) -> Indices:
    if header.bits == 8:
        return rows
    per_byte = 8 // header.bits
    shifts = np.arange(per_byte - 1, -1, -1, dtype=np.uint8) * header.bits
    values = rows[:, :, None] >> shifts & np.uint8((1 << header.bits) - 1)
    return values.reshape(header.height, -1)[:, : header.width]


def _channel(values: npt.NDArray[np.unsignedinteger], mask: int) -> npt.NDArray[np.uint8]:
    """One channel, scaled to 0 to 255."""
    highest = (1 << _width(mask)) - 1
    scaled = np.rint(np.arange(highest + 1) * (255 / highest)).astype(np.uint8)
    channel: npt.NDArray[np.uint8] = scaled[(values & mask) >> (mask & -mask).bit_length() - 1 & highest]
    return channel


def _width(mask: int) -> int:
    """Bits from the lowest to the highest bit set."""
    return (mask // (mask & -mask)).bit_length() if mask else 0


def _run_lengths(data: bytes, header: Header) -> Indices:
    """Indices of a run-length-encoded file, shape (height, width), in the order of the file; skipped pixels are 0."""
    nibbles = header.compression == _RLE4
    rows = np.zeros((header.height, header.width), np.uint8)
    x, y, offset = 0, 0, header.pixels
    while y < header.height:
        if offset + 1 >= len(data):
            raise damaged()
        count, value = data[offset], data[offset + 1]
        offset += 2
        if count:
            pair = (value >> 4, value & 15) if nibbles else (value, value)
            row = rows[y, x : x + count]
            row[0::2], row[1::2] = pair
            x += count
        elif value == _END_OF_LINE:
            x, y = 0, y + 1
        elif value == _END:
            break
        elif value == _DELTA:
            if offset + 1 >= len(data):
                raise damaged()
            x, y, offset = x + data[offset], y + data[offset + 1], offset + 2
        else:
            size = (value + 1) // 2 if nibbles else value
            literal = np.frombuffer(data[offset : offset + size], np.uint8)
            if len(literal) < size:
                raise damaged()
            if nibbles:
                literal = np.stack([literal >> 4, literal & 15], axis=1).ravel()[:value]
            row = rows[y, x : x + value]
            row[:] = literal[: len(row)]
            x, offset = x + value, offset + size + size % 2
    return rows
