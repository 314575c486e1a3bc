"""Unusual files: their pixels are right, or the refusal has the right code and names the variant."""

import struct
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from PIL import Image

from handler.errors import RequestError
from handler.image import open_photo
from handler.spec import Limits
from tests.helpers import pictures
from tests.helpers.pictures import encode, photo

LIMITS = Limits()
Entry = tuple[int, int, int, bytes]


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(open_photo(data, LIMITS)).astype(int)


def refusal(data: bytes) -> RequestError:
    with pytest.raises(RequestError) as caught:
        open_photo(data, LIMITS)
    return caught.value


def directory(entries: Sequence[Entry], order: str = "<", body: bytes = b"") -> bytes:
    """A TIFF file whose values of more than four bytes, and then `body`, stand behind its directory."""
    start, later = 8 + 2 + 12 * len(entries) + 4, b""
    rows = []
    for tag, kind, count, value in entries:
        if len(value) > 4:
            later, value = later + value, struct.pack(order + "I", start + len(later))
        rows.append(struct.pack(order + "HHI", tag, kind, count) + value.ljust(4, b"\0"))
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    return head + struct.pack(order + "H", len(entries)) + b"".join(rows) + bytes(4) + later + body


def exif(*entries: Entry) -> bytes:
    return b"Exif\0\0" + directory(entries, ">")


ORIENTATION = (274, 3, 1, b"\0\6")
AWKWARD: dict[str, tuple[Entry, ...]] = {
    "resolution unit as byte": ((296, 1, 1, b"\2"), ORIENTATION),
    "resolution as text": ((282, 2, 3, b"72\0"), ORIENTATION),
    "negative resolution": ((282, 10, 1, struct.pack(">ii", -72, 1)), ORIENTATION),
    "description as rational": ((270, 5, 1, struct.pack(">II", 1, 2)), ORIENTATION),
    "XMP as text": ((700, 2, 40, b"x" * 40), ORIENTATION),
    "maker's name beyond the end": ((271, 2, 90, struct.pack(">I", 90_000)), ORIENTATION),
    "orientation as byte": ((274, 1, 1, b"\6"),),
    "orientation as long": ((274, 4, 1, b"\0\0\0\6"),),
    "orientation twice": (ORIENTATION, (274, 3, 1, b"\0\1")),
}
UPRIGHT: dict[str, tuple[Entry, ...]] = {
    "text": ((274, 2, 2, b"6\0"),),
    "out of range": ((274, 3, 1, b"\0\x09"),),
    "no value": ((274, 3, 0, b"\0\6"),),
}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("name", AWKWARD)
def test_a_readable_orientation_turns_the_photo_whatever_the_other_tags_are(name: str, form: str) -> None:
    expected = photo().transpose(Image.Transpose.ROTATE_270)
    actual = pixels(encode(photo(), form, exif=exif(*AWKWARD[name]), quality=95))
    assert actual.shape == (320, 240, 3)
    assert np.abs(actual - np.asarray(expected)).mean() < 3


@pytest.mark.parametrize("name", UPRIGHT)
def test_an_orientation_that_browsers_ignore_turns_nothing(name: str) -> None:
    assert pixels(encode(photo(), "JPEG", exif=exif(*UPRIGHT[name]))).shape == (240, 320, 3)


def test_an_orientation_in_xmp_alone_turns_nothing() -> None:
    xmp = b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    for form in ("JPEG", "WEBP", "TIFF"):
        options = {"tiffinfo": {700: xmp}} if form == "TIFF" else {"xmp": xmp}
        assert pixels(encode(photo(), form, **options)).shape == (240, 320, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_with_an_awkward_tag_is_turned(orientation: int) -> None:
    grey = np.asarray(photo().convert("L"))
    tags = [(282, 2, 3, b"72\0"), (274, 3, 1, struct.pack("<H", orientation)), (700, 2, 40, b"x" * 40)]
    expected = pixels(encode(photo().convert("L"), "JPEG", exif=exif((274, 3, 1, struct.pack(">H", orientation)))))
    actual = pixels(tiff(grey.tobytes(), 320, 240, 8, extra=tags))
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).mean() < 3


def tiff(body: bytes, width: int, height: int, bits: int, colours: int = 1, extra: Sequence[Entry] = ()) -> bytes:
    def short(value: int) -> bytes:
        return struct.pack("<H", value)

    def entries(start: int) -> list[Entry]:
        rows = [(256, 3, 1, short(width)), (257, 3, 1, short(height)), (258, 3, 1, short(bits)), (259, 3, 1, short(1))]
        rows += [(262, 3, 1, short(colours)), (273, 4, 1, struct.pack("<I", start)), (277, 3, 1, short(1))]
        rows += [(278, 3, 1, short(height)), (279, 4, 1, struct.pack("<I", len(body))), *extra]
        return sorted(rows)

    return directory(entries(len(directory(entries(0)))), body=body)


def twelve_bits() -> bytes:
    values = np.asarray(photo().convert("L")).astype(int).ravel() * 4095 // 255
    low, high = values[0::2], values[1::2]
    packed = np.stack([low >> 4, (low & 15) << 4 | high >> 8, high & 255], axis=1)
    return tiff(packed.astype(np.uint8).tobytes(), 320, 240, 12)


def white_is_zero() -> bytes:
    values = 0xFFFF - np.asarray(photo().convert("L")).astype("<u2") * 257
    return tiff(values.astype("<u2").tobytes(), 320, 240, 16, colours=0)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunks(data: bytes, *chunks: bytes) -> bytes:
    """A PNG with more chunks behind its header."""
    return data[:33] + b"".join(chunks) + data[33:]


GREY: dict[str, Callable[[], bytes]] = {"12-bit TIFF": twelve_bits, "16-bit TIFF, 0 is white": white_is_zero}
LARGE_TEXT = zlib.compress(b"a" * 5_000_000)
METADATA = {
    "large zTXt": chunk(b"zTXt", b"workflow\0\0" + LARGE_TEXT),
    "large iTXt": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + LARGE_TEXT),
    "large colour profile": chunk(b"iCCP", b"name\0\0" + LARGE_TEXT),
    "text called transparency": chunk(b"tEXt", b"transparency\0yes"),
    "text called bbox": chunk(b"tEXt", b"bbox\0(0, 0, 9, 9)"),
    "text with a wrong checksum": chunk(b"tEXt", b"a\0b")[:-1] + b"?",
}


@pytest.mark.parametrize("name", GREY)
def test_grey_of_more_than_8_bits_has_its_brightness(name: str) -> None:
    expected = np.asarray(photo().convert("L").convert("RGB")).astype(int)
    assert np.abs(pixels(GREY[name]()) - expected).max() <= 1


@pytest.mark.parametrize("name", METADATA)
def test_the_metadata_of_a_png_changes_nothing(name: str) -> None:
    plain = encode(photo(), "PNG")
    assert np.array_equal(pixels(with_chunks(plain, METADATA[name])), pixels(plain))


@pytest.mark.parametrize("cut", [12, 13, 16])
def test_a_png_without_its_end_is_read_when_every_pixel_is_there(cut: int) -> None:
    plain = encode(photo(), "PNG")
    assert np.array_equal(pixels(plain[:-cut]), pixels(plain))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}])
def test_a_jpeg_without_its_end_marker_is_read_when_every_pixel_is_there(options: dict[str, int]) -> None:
    plain = encode(photo(), "JPEG", **options)
    for data in (plain[:-2], plain[:-1], plain[:-2] + bytes(500)):
        assert np.array_equal(pixels(data), pixels(plain))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("filling", [b"", bytes(5000)])
def test_a_jpeg_whose_last_rows_are_missing_is_damaged(filling: bytes, options: dict[str, int]) -> None:
    plain = encode(photo(), "JPEG", **options)
    for cut in (40, 200, len(plain) // 3):
        assert refusal(plain[:-cut] + filling).code == "corrupt_image"


def test_a_progressive_jpeg_that_ends_between_two_scans_is_damaged() -> None:
    plain = encode(photo(), "JPEG", progressive=True)
    assert refusal(plain[: plain.rindex(b"\xff\xda")]).code == "corrupt_image"


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_what_follows_a_jpeg_is_not_read(options: dict[str, int]) -> None:
    plain = encode(photo(), "JPEG", **options)
    trailer = b"\0\0\0\x18ftypmp42" + b"\xff\xda\0\2" * 5000
    assert np.array_equal(pixels(plain + trailer), pixels(plain))


def bmp(body: bytes, bits: int, compression: int = 0, masks: Sequence[int] = (), side: int = 4) -> bytes:
    size = {0: 40, 3: 40, 4: 108}[len(masks)]
    head = struct.pack("<IiiHHIIiiII", size, side, side, 1, bits, compression, len(body), 0, 0, 0, 0)
    head += struct.pack(f"<{len(masks)}I", *masks)
    head = head.ljust(max(size, 40 + 4 * len(masks)), b"\0")
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(body), 0, 0, 14 + len(head)) + head + body


BGRA = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)


def test_a_bmp_whose_alpha_is_zero_everywhere_is_opaque() -> None:
    stored = bytes([10, 20, 30, 0]) * 16
    for data in (bmp(stored, 32), bmp(stored, 32, 3, BGRA[:3]), bmp(stored, 32, 3, BGRA)):
        assert (pixels(data) == [30, 20, 10]).all()


def test_the_alpha_of_a_bmp_counts_when_its_header_declares_it() -> None:
    stored = bytes([10, 20, 30, 0]) * 8 + bytes([10, 20, 30, 255]) * 8
    actual = pixels(bmp(stored, 32, 3, BGRA))
    assert (actual[:2] == [30, 20, 10]).all() and (actual[2:] == 255).all()
    assert (pixels(bmp(stored, 32)) == [30, 20, 10]).all()


def test_bit_fields_of_a_bmp_are_scaled_to_8_bits() -> None:
    for masks, expected in (((0xF00, 0xF0, 0xF), [255, 136, 0]), ((0x7C00, 0x3E0, 0x1F), [16, 33, 0])):
        value = {0xF00: 0xF80, 0x7C00: 0x880}[masks[0]]
        assert (pixels(bmp(struct.pack("<H", value) * 16, 16, 3, masks)) == expected).all()


def test_an_empty_row_of_a_run_length_encoded_bmp_is_kept() -> None:
    palette = bytes([0, 0, 0, 0]) + bytes([255, 255, 255, 0]) * 255
    runs = bytes([4, 1, 0, 0]) + bytes([0, 0]) + bytes([2, 0, 2, 1, 0, 0]) + bytes([4, 1, 0, 1])
    head = struct.pack("<IiiHHIIiiII", 40, 4, 4, 1, 8, 1, len(runs), 0, 0, 256, 0)
    data = b"BM" + struct.pack("<IHHI", 0, 0, 0, 54 + 1024) + head + palette + runs
    assert pixels(data)[:, :, 0].tolist() == [[255] * 4, [0, 0, 255, 255], [0] * 4, [255] * 4]


VARIANTS: dict[str, Callable[[], bytes]] = {
    "12-bit JPEG": lambda: with_byte(encode(photo(), "JPEG"), b"\xff\xc0\0\x11", 4, 12),
    "lossless JPEG": lambda: with_byte(encode(photo(), "JPEG"), b"\xff\xc0\0\x11", 1, 0xC3),
    "JPEG-LS": lambda: with_byte(encode(photo(), "JPEG"), b"\xff\xc0\0\x11", 1, 0xF7),
    "CIELAB": lambda: encode(photo().convert("LAB"), "TIFF"),
    "floating-point": lambda: encode(photo().convert("F"), "TIFF"),
    "4 bits": lambda: tiff(bytes(320 * 240), 320, 240, 4, colours=2),
    "32 bits": lambda: tiff(bytes(4 * 320 * 240), 320, 240, 32),
    "signed": lambda: tiff(bytes(2 * 320 * 240), 320, 240, 16, extra=[(339, 3, 1, b"\2\0")]),
    "old-style JPEG": lambda: with_byte(tiff(bytes(9), 3, 3, 8), struct.pack("<HHI", 259, 3, 1), 8, 6),
    "raw": lambda: tiff(bytes(9), 3, 3, 8, extra=[(50706, 1, 4, b"\1\4\0\0")]),
    "embedded JPEG": lambda: bmp(bytes(64), 24, 4),
    "embedded PNG": lambda: bmp(bytes(64), 24, 5),
    "iOS": lambda: with_chunks(encode(photo(), "PNG"), chunk(b"CgBI", bytes(4))),
    "GIF": pictures.REFUSED["gif"][0],
    "HEIC": lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50),
    "JPEG XL": lambda: b"\xff\x0a" + bytes(50),
    "SVG": lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "PDF": pictures.REFUSED["pdf"][0],
}


def with_byte(data: bytes, find: bytes, offset: int, value: int) -> bytes:
    at = data.index(find) + offset
    return data[:at] + bytes([value]) + data[at + 1 :]


@pytest.mark.parametrize("name", VARIANTS)
def test_a_sound_file_that_is_not_decoded_is_named(name: str) -> None:
    error = refusal(VARIANTS[name]())
    assert (error.status, error.code) == (415, "unsupported_format")
    assert name in error.message and ("save it as" in error.message or "send a still" in error.message)


LARGE: dict[str, Callable[[], bytes]] = {
    "PNG": lambda: pictures.bomb(200_000),
    "TIFF": lambda: (
        with_byte(tiff(bytes(9), 3, 3, 8), struct.pack("<HHI", 256, 3, 1), 2, 4)[:18]
        + struct.pack("<I", 2**31)
        + tiff(bytes(9), 3, 3, 8)[22:]
    ),
    "BMP": lambda: bmp(bytes(16), 24, side=2**30),
    "JPEG": lambda: with_byte(encode(photo(), "JPEG"), b"\xff\xc0\0\x11", 5, 255).replace(b"\1\x40\3", b"\xff\xff\3"),
    "JPEG 2000": lambda: encode(photo(), "JPEG2000").replace(
        struct.pack(">II", 240, 320), struct.pack(">II", 60_000, 60_000)
    ),
}


@pytest.mark.parametrize("form", LARGE)
def test_too_many_pixels_are_413_in_every_format(form: str) -> None:
    assert refusal(LARGE[form]()).code == "too_many_pixels"


@pytest.mark.parametrize("orientation", [1, 6])
def test_an_avif_with_a_damaged_exif_block_is_turned_by_its_boxes(orientation: int) -> None:
    block = Image.Exif()
    block[274], block[271] = orientation, "maker"
    plain = encode(photo(), "AVIF", exif=block)
    mark = plain.rindex(b"MM\0*", 0, plain.index(b"maker")) if b"MM\0*" in plain else plain.rindex(b"II*\0")
    broken = plain[:mark] + b"XXXX" + plain[mark + 4 :]
    assert np.array_equal(pixels(broken), pixels(plain))
    assert pixels(plain).shape[:2] == ((240, 320) if orientation == 1 else (320, 240))


@pytest.mark.parametrize("options", [{}, {"no_jp2": True}])
def test_a_jpeg_2000_without_its_end_marker_is_read_when_every_pixel_is_there(options: dict[str, bool]) -> None:
    plain = encode(photo(), "JPEG2000", **options)
    assert np.array_equal(pixels(plain[:-2]), pixels(plain))
    assert refusal(plain[:-40]).code == "corrupt_image"
