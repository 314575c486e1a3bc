"""Read the photos of one HTTP request. A request has one of four forms:

- JSON {"image_id", "image_base64", "detail"}; the base64 may also be a `data:` URL or Python's
  `str(bytes)` ("b'...'", which is parsed, never evaluated)
- JSON {"data": [{"content_type", "data", "shape"}, ...]}, or a list of objects as above
- the bytes of a photo, with an image content type (and the headers X-Image-Id and X-Detail)
- a form with one or more files, under any field names

An `image_id` is only echoed; it never names a file. `shape` and `content_type` are optional. If the recipe sets
`input.declared`, they must match its input (channels, height, width) and be an image type. The format of a photo is
always detected from its bytes.
"""

import binascii
import json
import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pybase64

from handler.errors import InvalidRequest, RequestError, TooLarge, Unsupported
from handler.spec import Input, Limits

ImageId = str | int | float | None
_FIELDS = {"image_id", "detail"}
_TEXT_FIELDS = {*_FIELDS, "image_base64"}
_LINE_BREAKS = str.maketrans("", "", "\n\r\t")
_PART_OVERHEAD = 1024  # bytes: the most that boundary, names and headers add to one part of a form


@dataclass(frozen=True)
class Item:
    """One photo of a request (the bytes of its file), or the error for which it is refused."""

    image_id: ImageId = None
    image: bytes = b""
    detail: bool = False
    error: RequestError | None = None


@dataclass(frozen=True)
class Request:
    """The items of one HTTP request. `many`: it was a list, so its answer is one too."""

    items: tuple[Item, ...]
    many: bool = False


def parse(
    parameters: Mapping[str, Any], headers: Mapping[str, Any], limits: Limits, size: Input | None = None
) -> Request:
    """Parse one request as TorchServe passes it to a handler.

    Args:
        parameters: form fields, query parameters, or {"body": ...}; values are bytes
            (`decode_input_request=false`).
        headers: HTTP headers by name, in the case that the client used.
        size: the input that an item's `shape` and `content_type` must match; None: they are ignored.

    Returns:
        the request. A client's mistake never raises: it is the `error` of its item.
    """
    content_type = _header(headers, "content-type") or ""
    common = _Common(
        image_id=_as_utf8(_header(headers, "x-image-id")),
        detail=_is_true((_header(headers, "x-detail") or "").encode()),
        json="json" in content_type.lower(),
        limits=limits,
        size=size,
    )
    try:
        if not parameters and "urlencoded" in content_type:
            raise _sent_as_form()
        if content_type.lower().startswith("multipart/"):
            parameters = _photo_fields(parameters, headers)
        return _parse(parameters, common)
    except RequestError as error:
        return Request((Item(common.image_id if _valid_id(common.image_id, limits) else None, error=error),))


def decode_base64(text: object, limits: Limits) -> bytes:
    """Decode a photo's base64, also from `str(bytes)` or a `data:` URL; line breaks and tabs are ignored.

    Raises:
        RequestError: `missing_image`, `invalid_base64`, or `image_too_large` (computed
            from the length, before anything is decoded).
    """
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
    try:
        return pybase64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(
            "invalid_base64", "image_base64 is not valid base64 (RFC 4648): encode the bytes of the photo's file"
        ) from error


@dataclass(frozen=True)
class _Common:
    """Values for every photo of a request that does not set its own."""

    image_id: ImageId
    detail: bool
    json: bool
    limits: Limits
    size: Input | None = None


def _parse(parameters: Mapping[str, Any], common: _Common) -> Request:
    values = {name: _as_bytes(value) for name, value in parameters.items()}
    if "image_id" in values:
        common = replace(common, image_id=values["image_id"].decode("utf-8", "replace"))
    common = replace(common, detail=common.detail or _is_true(values.get("detail", b"")))
    files = {name: value for name, value in values.items() if name not in _FIELDS}
    if any(name.lstrip().startswith(("{", "[")) for name in files):
        raise _sent_as_form()
    if not files:
        raise InvalidRequest(
            "missing_image", "the request has no photo: send image_base64, a file, or the bytes of a photo"
        )
    requests = [_from_field(name, value, common) for name, value in files.items()]
    items = tuple(item for request in requests for item in request.items)
    _check_count(len(items), common.limits)
    return Request(items, many=len(requests) > 1 or requests[0].many)


def _photo_fields(parameters: Mapping[str, Any], headers: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of a multipart form that this module reads: its files, and its known text fields.

    Raises:
        RequestError: `invalid_request`; the form was longer than the fields received. TorchServe keeps
            one value for each name, so it drops all but the last of several files with the same name.
    """
    received = sum(len(name) + len(_as_bytes(value)) + _PART_OVERHEAD for name, value in parameters.items())
    length = _header(headers, "content-length") or "0"
    if length.isdigit() and int(length) > received:
        raise InvalidRequest(
            "invalid_request", "two files of the form have the same field name: give each file a different field name"
        )
    return {
        name: value for name, value in parameters.items() if name in _TEXT_FIELDS or not _is_text(name, value, headers)
    }


def _is_text(name: str, value: object, headers: Mapping[str, Any]) -> bool:
    """Whether a form field is text: TorchServe sets a content type for files only."""
    part = headers.get(name)
    content_type = part.get("content-type") if isinstance(part, dict) else None
    return not content_type and not _looks_like_json(_as_bytes(value))


def _looks_like_json(value: bytes) -> bool:
    return value[:64].lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[")


def _from_field(name: str, value: bytes, common: _Common) -> Request:
    if _looks_like_json(value) or (common.json and name == "body"):
        return _from_json(value, common)
    if name == "image_base64":
        return Request((_item({"image_base64": value.decode("latin-1")}, common),))
    if not _valid_id(common.image_id, common.limits):
        return Request((Item(error=_invalid_id(common.image_id, common.limits)),))
    return Request((Item(common.image_id, value, common.detail),))


def _from_json(body: bytes, common: _Common) -> Request:
    try:
        content = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(
            "invalid_json", "the body is not valid JSON (RFC 8259): send an object with image_id and image_base64"
        ) from error
    entries = content.get("data") if isinstance(content, dict) and "image_base64" not in content else content
    if not isinstance(entries, list):
        return Request((_item(content, common),))
    if not entries:
        raise InvalidRequest("missing_image", "the list of photos is empty: send at least one photo")
    _check_count(len(entries), common.limits)
    detail = common.detail or (isinstance(content, dict) and content.get("detail") is True)
    common = replace(common, image_id=None, detail=detail)
    return Request(tuple(_item(entry, common) for entry in entries), many=True)


def _item(content: object, common: _Common) -> Item:
    if not isinstance(content, dict):
        return Item(
            error=InvalidRequest(
                "invalid_request",
                f"a photo must be a JSON object with image_id and image_base64, not {reprlib.repr(content)}",
            )
        )
    image_id = content.get("image_id", common.image_id)
    if not _valid_id(image_id, common.limits):
        return Item(error=_invalid_id(image_id, common.limits))
    try:
        _check_declared(content, common.size)
        encoded = content["image_base64"] if "image_base64" in content else content.get("data")
        return Item(image_id, decode_base64(encoded, common.limits), common.detail or content.get("detail") is True)
    except RequestError as error:
        return Item(image_id, error=error)


def _check_declared(content: Mapping[str, Any], size: Input | None) -> None:
    """Check the content type and shape that a client declares for a photo.

    Raises:
        RequestError: `unsupported_format` if the content type is not an image type, `invalid_request` if the shape
            is not that of `size`.
    """
    if size is None:
        return
    content_type = content.get("content_type")
    if content_type is not None and not _is_image_type(content_type):
        raise Unsupported(
            "unsupported_format",
            f"content_type {reprlib.repr(content_type)} is not an image type: send one such as image/jpeg, "
            "or leave it out",
        )
    shape = content.get("shape")
    if shape is not None and shape != list(size.shape):
        raise InvalidRequest(
            "invalid_request",
            f"shape {reprlib.repr(shape)} is not the model's input: "
            f"send {list(size.shape)} (channels, height, width), or leave it out",
        )


def _is_image_type(content_type: object) -> bool:
    return isinstance(content_type, str) and content_type.strip().lower().startswith("image/")


def _check_count(count: int, limits: Limits) -> None:
    if count > limits.items:
        raise TooLarge(
            "too_many_items",
            f"{count} photos in one request, more than the limit of {limits.items}: send them in several requests",
        )


def _unwrap(text: str) -> str:
    if text[:2] in ("b'", 'b"') and len(text) > 2 and text[-1] == text[1]:
        return text[2:-1].replace("\\n", "")  # encodebytes breaks lines, which str() writes as \n
    if text[:5].lower() == "data:":
        return text.partition(",")[2]
    return text


def _valid_id(image_id: object, limits: Limits) -> bool:
    if isinstance(image_id, float) and not math.isfinite(image_id):
        return False
    if image_id is None:
        return True
    return (
        isinstance(image_id, str | int | float)
        and not isinstance(image_id, bool)
        and len(str(image_id)) <= limits.image_id
    )


def _invalid_id(image_id: object, limits: Limits) -> RequestError:
    return InvalidRequest(
        "invalid_image_id",
        f"image_id {reprlib.repr(image_id)} is not valid: "
        f"send a string or a finite number of at most {limits.image_id} characters",
    )


def _sent_as_form() -> RequestError:
    """`curl -d` sends JSON with a form's content type, and TorchServe's front end then splits it like a form."""
    return InvalidRequest(
        "invalid_request", "the JSON was sent as a form: send it with the header Content-Type: application/json"
    )


def _header(headers: Mapping[str, Any], lower_name: str) -> str | None:
    for name, value in headers.items():
        if name.lower() == lower_name and isinstance(value, str):
            return value
    return None


def _as_utf8(text: str | None) -> str | None:
    """A header's UTF-8 text; HTTP libraries decode header bytes as Latin-1."""
    try:
        return text and text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def _as_bytes(value: object) -> bytes:
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    return str(value).encode()


def _is_true(value: bytes) -> bool:
    return value.strip().lower() in (b"true", b"1", b"yes")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not valid JSON")
