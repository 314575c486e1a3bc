"""The first directory (IFD0) of a TIFF file or an EXIF block: integer tags, read one by one and never written.

A tag of the wrong type affects nobody who does not ask for it. Source: TIFF 6.0, section 2; BigTIFF as in libtiff.
"""

import struct
from dataclasses import dataclass

ORIENTATION = 274
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_RATIONALS = {5: "II", 10: "ii"}
_MAX_VALUES = 64
_UPRIGHT, _LAST = 1, 8


@dataclass(frozen=True)
class Entry:
    """One tag: `start` and `size` of its 12 or 20 bytes in the file, `offset` and `length` of its values, in bytes."""

    start: int
    size: int
    kind: int
    count: int
    offset: int
    length: int


@dataclass(frozen=True)
class Directory:
    """IFD0. `order` is < or >. `counted` is the offset of the number of entries, `width` the bytes of that number."""

    data: bytes
    order: str
    counted: int
    width: int
    entries: dict[int, Entry]

    def values(self, tag: int) -> tuple[int, ...]:
        """At most 64 values of an integer tag; empty if it is missing, of another type, or cut off."""
        entry = self.entries.get(tag)
        if entry is None or entry.offset + entry.length > len(self.data):
            return ()
        count = min(entry.count, _MAX_VALUES)
        if kind := _INTEGERS.get(entry.kind):
            return struct.unpack_from(f"{self.order}{count}{kind}", self.data, entry.offset)
        if kind := _RATIONALS.get(entry.kind):
            pairs = struct.iter_unpack(self.order + kind, self.data[entry.offset : entry.offset + 8 * count])
            return tuple(above // below if below else 0 for above, below in pairs)
        return ()

    def value(self, tag: int, default: int) -> int:
        """The first value of a tag."""
        values = self.values(tag)
        return values[0] if values else default

    @property
    def orientation(self) -> int:
        """1 (upright) to 8, as in EXIF; 1 if it is missing or out of range."""
        value = self.value(ORIENTATION, _UPRIGHT)
        return value if _UPRIGHT <= value <= _LAST else _UPRIGHT

    def complete(self, tags: frozenset[int]) -> bool:
        """Whether the values of these tags lie inside the file."""
        known = [entry for tag, entry in self.entries.items() if tag in tags]
        return all(entry.offset + entry.length <= len(self.data) for entry in known)

    def only(self, tags: frozenset[int]) -> bytes:
        """The file with a directory that has only these tags, and with no further directory."""
        kept = [entry for tag, entry in sorted(self.entries.items()) if tag in tags]
        rows = b"".join(self.data[entry.start : entry.start + entry.size] for entry in kept)
        count = len(kept).to_bytes(self.width, "little" if self.order == "<" else "big")
        changed = count + rows + bytes(8 if self.width == 8 else 4)  # no next directory
        return self.data[: self.counted] + changed + self.data[self.counted + len(changed) :]


def read_directory(data: bytes) -> Directory | None:
    """IFD0 of a TIFF file, BigTIFF, or EXIF block without its `Exif` prefix; None if it is cut off or is none."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    try:
        if order and struct.unpack_from(order + "H", data, 2)[0] == 42:
            return _read(data, order, struct.unpack_from(order + "I", data, 4)[0], "H", "HHI", 4)
        if order and struct.unpack_from(order + "HHH", data, 2) == (43, 8, 0):
            return _read(data, order, struct.unpack_from(order + "Q", data, 8)[0], "Q", "HHQ", 8)
    except struct.error:
        return None
    return None


def _read(data: bytes, order: str, counted: int, number: str, row: str, inline: int) -> Directory:
    width, head = struct.calcsize(order + number), struct.calcsize(order + row)
    (count,) = struct.unpack_from(order + number, data, counted)
    entries: dict[int, Entry] = {}
    for start in range(counted + width, counted + width + count * (head + inline), head + inline):
        if start + head + inline > len(data):
            break
        tag, kind, values = struct.unpack_from(order + row, data, start)
        length = _BYTES.get(kind, 1) * values
        offset = start + head
        if length > inline:
            (offset,) = struct.unpack_from(order + ("I" if inline == 4 else "Q"), data, offset)
        entries.setdefault(tag, Entry(start, head + inline, kind, values, offset, length))
    return Directory(data, order, counted, width, entries)


def exif_orientation(exif: bytes | None) -> int:
    """The orientation in an EXIF block, with or without its `Exif` prefix: 1 (upright) to 8.

    As in browsers and libvips an orientation in XMP, or in the text of a PNG, does not count.
    """
    directory = read_directory((exif or b"").removeprefix(b"Exif\0\0"))
    return directory.orientation if directory else _UPRIGHT
