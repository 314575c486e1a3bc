"""Read the parts of a form: multipart/form-data (RFC 7578), or urlencoded.

Nothing is dropped in silence: a form that is cut off, or that has two photos under one name, is refused. Parts that
are no photos (text, JSON, file fields that were left empty) are ignored, whatever their names.
"""

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import parse_qsl

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, MultipartState, parse_options_header

from handler.errors import InvalidRequest, RequestError, TooLarge

PARTS = 1000
"""The most parts of one form."""

BASE64 = "image_base64"
"""The name of a text field that is a photo, in base64."""

_OVERHEAD = 1024  # bytes: the most that boundary, names and headers add to one part of a form
_HEADERS = 512 * 1024  # bytes, of all parts together: the parser reads some of them one by one
_ESCAPES = 1_000_000  # each costs a microsecond; a photo of 10 MiB has 440,000
_TEXT = re.compile(r"text/|application/(json|xml|yaml|x-www-form-urlencoded)$|[\w.-]+/[\w.-]+\+(json|xml)$")
_PHOTO = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF")  # a client may have labelled a photo as text
_JSON = re.compile(rb"(?:\xef\xbb\xbf)?\s*[{\[]|(?:\xff\xfe|\xfe\xff|\0\0\xfe\xff)[\s\0]*[{\[]")
_UNCHANGED = ("", "binary", "8bit", "7bit")

logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # it logs a warning for each broken form


@dataclass(frozen=True)
class Part:
    """One field of a form: its name, its value, its content type, and whether it has a file's name."""

    name: str
    value: bytes
    kind: str = ""
    file: bool = False

    @property
    def text(self) -> bool:
        """Whether it is text or JSON and not a file."""
        if _TEXT.match(self.kind):
            return not self.value.startswith(_PHOTO)
        return not self.file and not self.kind

    @property
    def photo(self) -> bool:
        """Whether it is a photo: a file that is not JSON, or text called image_base64."""
        if self.text:
            return self.name == BASE64 and not self.kind.endswith("json") and bool(self.value.strip())
        return bool(self.value or self.file) and not looks_like_json(self.value)


def looks_like_json(value: bytes) -> bool:
    """Whether bytes begin like JSON, in any Unicode encoding; no image file does."""
    return _JSON.match(value) is not None


def photos(parts: Iterable[Part]) -> list[Part]:
    """The parts that are photos, in their order.

    Raises:
        RequestError: `missing_image`, or `invalid_request` if two of them have one name.
    """
    found = [part for part in parts if part.photo]
    names = [part.name for part in found]
    for name in names:
        if names.count(name) > 1:
            raise InvalidRequest(
                "invalid_request",
                f"two files of the form have the same field name {name[:80]!r}: give each file a different field name",
            )
    if not found:
        raise InvalidRequest("missing_image", "the form has no photo: send a file, as curl -F photo=@FILE does")
    return found


def urlencoded(body: bytes) -> list[Part]:
    """The fields of a body of the type application/x-www-form-urlencoded.

    Raises:
        RequestError: `invalid_request` if it is something else, `body_too_large` if decoding it would take too long.
    """
    if not body.isascii():
        raise InvalidRequest(
            "invalid_request",
            "the body was sent as a form: send a photo with the header Content-Type: image/jpeg "
            "(curl --data-binary needs it), or percent-encode the fields",
        )
    if body.count(b"%") > _ESCAPES:
        raise TooLarge(
            "body_too_large", f"the form has more than {_ESCAPES} percent-encoded characters: send JSON or bytes"
        )
    try:
        fields = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=PARTS)
    except ValueError as error:
        raise _too_many() from error
    if any(name.lstrip().startswith(("{", "[")) for name, _ in fields):
        raise sent_as_form()
    return [Part(name, value.encode("utf-8", "surrogatepass")) for name, value in fields]


def multipart(body: bytes, content_type: str) -> list[Part]:
    """The parts of a multipart form.

    Raises:
        RequestError: `invalid_request`, naming what is wrong with the form.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not boundary:
        raise _broken("Content-Type has no boundary")
    delimiter = b"\r\n--" + boundary
    if body.count(delimiter) > PARTS:
        raise _too_many()
    if delimiter + b" " in body or delimiter + b"\t" in body:  # the parser would read this padding byte by byte
        raise _broken("a boundary is followed by a space")
    reader = _Reader()
    try:
        parser = MultipartParser(boundary, cast(Any, reader.callbacks()))
        parser.write(body)
    except FormParserError as error:
        raise _broken(str(error)) from error
    if parser.state != MultipartState.END:
        raise _broken("its last boundary is missing: it is cut off, or has another boundary than Content-Type says")
    return reader.parts


def received(values: Mapping[str, bytes], headers: Mapping[str, Any], length: str | None) -> list[Part]:
    """The parts of a form of which a front end has kept one value for each name, and a content type for files only.

    Args:
        headers: a part's content type is the item "content-type" of a dictionary under the part's name.
        length: the form's Content-Length.

    Raises:
        RequestError: `invalid_request`, the form was longer than what arrived, so a file was lost.
    """
    most = sum(len(name) + len(value) + _OVERHEAD for name, value in values.items())
    if length and length.isdigit() and int(length) > most:
        raise InvalidRequest(
            "invalid_request", "two files of the form have the same field name: give each file a different field name"
        )
    kinds = {name: part.get("content-type") or "" for name, part in headers.items() if isinstance(part, dict)}
    return [Part(name, value, kinds.get(name, ""), bool(kinds.get(name))) for name, value in values.items()]


def sent_as_form() -> RequestError:
    """`curl -d` sends JSON with a form's content type."""
    return InvalidRequest(
        "invalid_request", "the JSON was sent as a form: send it with the header Content-Type: application/json"
    )


def _too_many() -> RequestError:
    return InvalidRequest("invalid_request", f"the form has more than {PARTS} fields: send only what is needed")


def _broken(reason: str) -> RequestError:
    return InvalidRequest(
        "invalid_request", f"the form cannot be read: {reason}. Let your HTTP library build it, with its Content-Type"
    )


class _Reader:
    """Collects the parts that the parser reports."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.size = 0

    def callbacks(self) -> dict[str, Any]:
        return {f"on_{name}": getattr(self, name) for name in _EVENTS}

    def part_begin(self) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.data = b""

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self.name, self.start = data[start:end].lower(), start

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self.headers[self.name] = data[start:end]
        self.size += end - self.start
        if self.size > _HEADERS:
            raise _broken(f"its headers have more than {_HEADERS} bytes")

    def part_data(self, data: bytes, start: int, end: int) -> None:
        self.data += data[start:end]

    def part_end(self) -> None:
        encoding = self.headers.get(b"content-transfer-encoding", b"").decode("latin-1").strip().lower()
        if encoding not in _UNCHANGED:
            raise _broken(
                f"a part has Content-Transfer-Encoding {encoding[:80]}: send its bytes as they are (RFC 7578)"
            )
        disposition = self.headers.get(b"content-disposition", b"")
        options = parse_options_header(disposition)[1]
        if b"name" not in options:
            raise _broken("a part has no name in its Content-Disposition")
        kind = self.headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
        # The parser ignores filename* (RFC 5987), which RFC 7578 forbids and some clients send.
        file = bool(options.get(b"filename")) or b"filename*" in disposition.lower()
        self.parts.append(Part(options[b"name"].decode("utf-8", "replace"), self.data, kind, file))


_EVENTS = ("part_begin", "header_field", "header_value", "part_data", "part_end")
