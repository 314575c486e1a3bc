"""Change bytes and JSON at random, from a seeded generator, towards what breaks parsers."""

import io
import random
import struct
from typing import Any

from PIL import Image

NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
JSON_TOKENS = (b"{", b"}", b"[", b"]", b'"', b",", b":", b"NaN", b"1e999", b"-", b"null", b"\\ud800", b"\\", b"\xff")
FORM_TOKENS = (
    *(b"\r\n", b"\n", b"\r", b"--", b"--z", b"\r\n--z\r\n", b"\r\n--z--", b"; ", b'"', b"=", b":", b"\0", b" " * 99),
    *(b'name=""', b'name="photo"', b'filename=""', b"filename*=UTF-8''%e2%8", b"; charset=nope", b"; boundary=z"),
    b"Content-Transfer-Encoding: base64\r\n",
    b"Content-Transfer-Encoding: nope\r\n",
    b"Content-Length: 20000000\r\n",
    b"Content-Length: 1\r\n",
    b"Content-Type: application/json\r\n",
    b"Content-Type: multipart/mixed; boundary=y\r\n",
    b"Content-Disposition: form-data\r\n",
    b"Content-Disposition: attachment; name=photo\r\n",
)
FORMATS: dict[str, dict[str, Any]] = {
    "jpeg": {"format": "JPEG"},
    "jpeg_progressive": {"format": "JPEG", "progressive": True},
    "png": {"format": "PNG"},
    "webp": {"format": "WEBP"},
    "webp_lossless": {"format": "WEBP", "lossless": True},
    "bmp": {"format": "BMP"},
    "tiff": {"format": "TIFF"},
    "tiff_lzw": {"format": "TIFF", "compression": "tiff_lzw"},
    "tiff_deflate": {"format": "TIFF", "compression": "tiff_adobe_deflate"},
    "avif": {"format": "AVIF"},
    "jpeg_2000": {"format": "JPEG2000"},
    "gif": {"format": "GIF"},
}


def photos(image: Image.Image) -> dict[str, bytes]:
    """A picture in every format, small, by name."""
    made = {}
    for name, options in FORMATS.items():
        buffer = io.BytesIO()
        image.resize((96, 64)).save(buffer, **options)
        made[name] = buffer.getvalue()
    return made


def mutated(data: bytes, rng: random.Random, tokens: tuple[bytes, ...] = (), most: int = 6) -> bytes:
    """A copy of `data` with 1 to `most` changes; `tokens` are inserted now and then."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, most)):
        _change(changed, rng, tokens)
    return bytes(changed)


def _change(data: bytearray, rng: random.Random, tokens: tuple[bytes, ...]) -> None:
    # Headers are at the beginning: half of the changes are made there.
    at = rng.randrange(min(len(data), 200) + 1) if rng.random() < 0.5 else rng.randrange(len(data) + 1)
    size = rng.choice((1, 2, 4, 16, 100, len(data) // 2))
    kind = rng.randrange(7 if tokens else 6)
    if kind == 0 and data:
        data[at % len(data)] ^= 1 << rng.randrange(8)
    elif kind == 1:
        data[at : at + 1] = rng.randbytes(1)
    elif kind == 2:
        number = struct.pack(rng.choice(("<I", ">I")), rng.choice(NUMBERS))
        width = rng.choice((2, 4))
        data[at : at + width] = number[:width]
    elif kind == 3:
        del data[at : at + size]
    elif kind == 4:
        data[at:at] = data[at : at + size]
    elif kind == 5:
        del data[at if rng.random() < 0.2 else len(data) - min(size, len(data)) :]
    elif tokens:
        data[at:at] = rng.choice(tokens)


def json_value(rng: random.Random, text: str, depth: int = 0) -> Any:
    """A JSON value of any type, now and then `text`."""
    simple = (text, text, "", "x", "null", "undefined", "[object Object]", "/etc/passwd", "\ud800", "\0", None)
    numbers: tuple[Any, ...] = (True, False, 0, -1, 1.5, float("nan"), float("inf"), 10**30, 10**5000 % 10**4000)
    if depth > 3 or rng.random() < 0.7:
        return rng.choice((*simple, *numbers))
    if rng.random() < 0.5:
        return [json_value(rng, text, depth + 1) for _ in range(rng.choice((0, 1, 2, 3, 17)))]
    keys = ("image_id", "image_base64", "data", "detail", "type", "shape", "content_type", "0", "")
    return {key: json_value(rng, text, depth + 1) for key in rng.sample(keys, rng.randint(0, 4))}
