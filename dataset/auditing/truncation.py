"""The rule that tells `truncated` from `corrupt`: whether a damaged file lacks its end or is wrong inside."""

from io import BytesIO

from PIL import Image


def cut_short(data: bytes) -> bool:
    """Whether a damaged picture file lacks its end, rather than being wrong inside.

    A format's own promise decides: the end marker (JPEG, PNG, JPEG 2000), the length in the header (WebP, BMP),
    boxes (AVIF, JP2) or strips (TIFF) that reach behind the last byte.
    """
    if data.startswith(b"\xff\xd8"):
        return _jpeg_cut_short(data)
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data
    if data.startswith(b"RIFF"):
        return 8 + int.from_bytes(data[4:8], "little") > len(data)
    if data.startswith(b"BM"):
        return int.from_bytes(data[2:6], "little") > len(data)
    if data.startswith((b"II*\0", b"MM\0*")):
        return _tiff_cut_short(data)
    if data.startswith(b"\xff\x4f\xff\x51"):
        return not data.endswith(b"\xff\xd9")
    return _boxes_cut_short(data)


def _jpeg_cut_short(data: bytes) -> bool:
    at = 2
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] != b"\xda":
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")  # over thumbnails, which have end markers of their own
    return data.find(b"\xff\xd9", at) < 0


def _tiff_cut_short(data: bytes) -> bool:
    if int.from_bytes(data[4:8], "little" if data[:1] == b"I" else "big") >= len(data):
        return True
    try:
        tags = Image.open(BytesIO(data), formats=("TIFF",)).tag_v2  # type: ignore[attr-defined]
        starts, counts = tags.get(273) or tags.get(324), tags.get(279) or tags.get(325)
        return any(start + count > len(data) for start, count in zip(starts, counts, strict=True))
    except Exception:  # its directory is damaged
        return False


def _boxes_cut_short(data: bytes) -> bool:
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        if size < 8:  # 0: to the end of the file; others are damage
            return data[at + 4 : at + 8] == b"jp2c" and not data.endswith(b"\xff\xd9")
        at += size
    return at > len(data)
