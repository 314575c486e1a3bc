"""Undo what a client does to a photo or to a body before it sends them: base64, JSON, gzip.

A mistake in it is explained by what the text looks like: a path, a URL, hex, base64 that was encoded twice.
"""

import binascii
import json
import re
import reprlib
import zlib
from typing import Any

import pybase64

from handler.errors import InvalidRequest, RequestError, TooLarge, Unsupported
from handler.spec import Limits

BODY_BYTES = 16_000_000
"""The largest body, also when it is unpacked: `max_request_size` of TorchServe (config/config.properties)."""

AS_BASE64 = 'send {"image_base64": "BASE64"}, in Node.js buffer.toString("base64")'
"""What to do instead of sending a list of numbers."""

_UTF8_BOM = b"\xef\xbb\xbf"
_VALUES = 250_000  # of all objects and lists of a JSON body; 16 photos have some hundred
_MEMBERS = 16  # a gzip file may be several, one after the other; each costs a copy of what follows it
_LINE_BREAKS = str.maketrans("", "", "\n\r\t")
_SEND = "send the bytes of the photo's file in base64"
# What the text of image_base64 looks like when it is not base64 -> what the client probably did.
_NOT_BASE64 = (
    (r"(https?|ftp|file)://", f"is a URL, and the server downloads nothing: {_SEND}"),
    (r"blob:", f"is the address of a Blob in a browser: {_SEND} (FileReader.readAsDataURL)"),
    (r"data:", f"is a data URL without ;base64: {_SEND} (FileReader.readAsDataURL)"),
    (r"\[object \w+\]", f"is a JavaScript object as text: {_SEND} (FileReader.readAsDataURL)"),
    (r"(undefined|null|none|nan)$", f"is an empty value as text: {_SEND}"),
    (r"[{\[]", f"is JSON inside a string: {_SEND}"),
    (r"b?['\"]?(\\x[0-9a-f]{2}|\\\\x)", f"is bytes as Python prints them: {_SEND} (base64.b64encode)"),
    (r"[^%]*%[0-9a-f]{2}", f"is percent-encoded: {_SEND}, without percent-encoding"),
    (r"(=[0-9a-f]{2}){2}", f"is quoted-printable: {_SEND}"),
    (
        r"(\.{0,2}/|[a-z]:\\|~)?[^\n]{0,4096}\.[a-z0-9]{2,5}$",
        f"is the name of a file, and the server reads none: {_SEND}",
    ),
    (r"[^ ]+ ", "contains spaces, perhaps each a '+' that a form lost: percent-encode the base64, or send JSON"),
)
# The first bytes of what is base64 but not of a photo's file -> what it is.
_ENCODED_TWICE = "was encoded twice: encode the bytes of the photo's file once"
_HEX = "is hexadecimal: send the bytes of the photo's file in base64"
_EMPTY = "is an empty value as text: send the bytes of the photo's file in base64"
_NOT_A_FILE = {
    **dict.fromkeys((b"/9j", b"iVB", b"Ukl", b"dat", b"b'/", b"b'i"), _ENCODED_TWICE),
    **dict.fromkeys((b"ffd", b"FFD", b"895"), _HEX),
    **{pybase64.b64decode(text): _HEX for text in ("ffd8", "FFD8", "8950", "5249")},
    **{pybase64.b64decode(text): _EMPTY for text in ("null", "None")},
}


def decode_base64(text: object, limits: Limits) -> bytes:
    """Decode a photo's base64, also URL-safe, from `str(bytes)` or a `data:` URL; line breaks and tabs are ignored.

    Raises:
        RequestError: `missing_image`, `invalid_request`, `invalid_base64`, `unsupported_format` for base64 of text that
            is no file, or `image_too_large` (computed from the length, before anything is decoded).
    """
    if is_bytes(text):
        raise InvalidRequest("invalid_request", f"image_base64 is a Buffer or a list of numbers: {AS_BASE64}")
    if not isinstance(text, str) or not text:
        raise InvalidRequest("missing_image", "there is no photo: image_base64 must be a non-empty base64 string")
    text = _unwrap(text.strip())
    # A blank is not removed: it is a "+" that was lost because a form was not percent-encoded.
    multiline = any(map(text.__contains__, "\n\r\t"))
    if len(text) * 3 // 4 > limits.bytes + (2 * text.count("\n") if multiline else 0) + 3:  # counting is slow
        raise TooLarge(
            "image_too_large", f"the photo has more than {limits.bytes} bytes, the limit: send a smaller file"
        )
    if multiline:
        text = text.translate(_LINE_BREAKS)
    photo = _decode(text)
    if photo[:3] in _NOT_A_FILE:
        raise Unsupported("unsupported_format", f"image_base64 {_NOT_A_FILE[photo[:3]]}")
    return photo


def decode_json(body: bytes) -> Any:
    """Decode JSON in UTF-8; a byte order mark is ignored, as RFC 8259 (section 8.1) allows.

    Raises:
        RequestError: `invalid_json`, or `invalid_request` if it has too many values to be decoded.
    """
    if _has_many_values(body):
        raise InvalidRequest(
            "invalid_request",
            f"the JSON has more than {_VALUES} values, as a Buffer or a list of numbers has: {AS_BASE64}",
        )
    try:
        return json.loads(body.removeprefix(_UTF8_BOM).decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("invalid_json", _why_not_json(body, error)) from error


def unpack(body: bytes, encoding: str | None) -> bytes:
    """A request's body without its `Content-Encoding`.

    Raises:
        RequestError: `unsupported_encoding`, `invalid_request` if it is not what the header says, or `body_too_large`
            as soon as the unpacked body has more than `BODY_BYTES`.
    """
    names = [name for name in (encoding or "").lower().replace(" ", "").split(",") if name not in ("", "identity")]
    if not names:
        return body
    if names not in (["gzip"], ["x-gzip"]):
        raise Unsupported(
            "unsupported_encoding",
            f"Content-Encoding {encoding!r} is not supported: send the body in gzip, or without Content-Encoding",
        )
    try:
        return _gunzip(body)
    except zlib.error as error:
        raise _not_gzip("it is something else, or damaged") from error


def _has_many_values(body: bytes) -> bool:
    """Whether decoding would take a second and hundreds of megabytes, which 16 KB of gzip could otherwise cause."""
    at = -1
    for _ in range(_VALUES if len(body) > 2 * _VALUES else 0):
        at = body.find(b",", at + 1)
        if at < 0:
            return False
    return at >= 0


def is_bytes(value: object) -> bool:
    """Whether a JSON value is bytes as JavaScript writes them: a Buffer, a typed array, a list of numbers."""
    if isinstance(value, dict):
        return is_bytes(value.get("data")) if value.get("type") == "Buffer" else isinstance(value.get("0"), int)
    return isinstance(value, list) and bool(value) and set(map(type, value)) <= {int, float}


def why_no_photo(value: object) -> str:
    """What to say of a JSON value that should be a photo, but is not an object."""
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        return "the JSON is inside a JSON string, because it was encoded twice: send the object itself"
    if is_bytes(value):
        return f"a photo is a Buffer or a list of numbers: {AS_BASE64}"
    return f"a photo must be a JSON object with image_id and image_base64, not {reprlib.repr(value)}"


def _why_not_json(body: bytes, error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError) or json.detect_encoding(body) not in ("utf-8", "utf-8-sig"):
        return "the body is not UTF-8, which JSON must be (RFC 8259), whatever charset says: encode it as UTF-8"
    reason = str(error)  # of _refuse_constant
    if isinstance(error, json.JSONDecodeError):
        reason = f"{error.msg} at character {error.pos}"
    elif isinstance(error, RecursionError):
        reason = "it is nested too deeply"
    elif "digits" in reason:
        reason = "a number has too many digits"
    return f"the body is not valid JSON (RFC 8259; {reason}): send an object with image_id and image_base64"


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not valid JSON")


def _decode(text: str) -> bytes:
    """Base64 of either alphabet: no character of one has another meaning in the other (RFC 4648, section 5)."""
    try:
        return pybase64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        if "-" in text or "_" in text:
            text = text.replace("-", "+").replace("_", "/")
            return _decode(text)
        raise InvalidRequest("invalid_base64", f"image_base64 {_not_base64(text)}") from error


def _unwrap(text: str) -> str:
    if text[:2] in ("b'", 'b"') and len(text) > 2 and text[-1] == text[1]:
        return text[2:-1].replace("\\n", "")  # encodebytes breaks lines, which str() writes as \n
    if text[:5].lower() == "data:":
        head, _, data = text.partition(",")
        if not head.lower().endswith(";base64"):
            raise InvalidRequest("invalid_base64", f"image_base64 {_not_base64(text)}")
        return data.lstrip()
    return text


def _not_base64(text: str) -> str:
    for pattern, reason in _NOT_BASE64:
        if re.match(pattern, text[:5000], re.IGNORECASE):
            return reason
    return f"is not valid base64 (RFC 4648): {_SEND}"


def _gunzip(body: bytes) -> bytes:
    unpacked = b""
    for _ in range(_MEMBERS):
        member = zlib.decompressobj(wbits=31)  # 16 + 15: a gzip header and the largest window
        unpacked += member.decompress(body, BODY_BYTES + 1 - len(unpacked))
        if len(unpacked) > BODY_BYTES:
            raise TooLarge(
                "body_too_large", f"the unpacked body has more than {BODY_BYTES} bytes, the limit: send fewer photos"
            )
        if not member.eof:
            raise _not_gzip("it is cut off")
        body = member.unused_data.lstrip(b"\0")
        if not body:
            return unpacked
    raise _not_gzip(f"it has more than {_MEMBERS} members")


def _not_gzip(reason: str) -> RequestError:
    return InvalidRequest(
        "invalid_request",
        f"the body is not the gzip that Content-Encoding says ({reason}): compress it, or leave the header out",
    )
