"""One HTTP request -> the photos in it, whichever of the taken forms it has.

- JSON {"image_id", "image_base64", "detail"}; the base64 may be Python's
  `str(bytes)` ("b'...'", parsed, never evaluated) or a `data:` URL
- JSON {"data": [{"content_type", "data", "shape"}, ...]}, or a list of the above
- the bytes of a photo, with its own content type (and headers X-Image-Id, X-Detail)
- a form with one or more files, whatever their fields are called

An `image_id` is echoed and nothing else: it never names a file. A `shape` and a `content_type` are optional: what a
client declares must fit the recipe (channels, height, width) and be a picture; the photo itself is judged by its bytes.
"""

import binascii
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pybase64

from handler.errors import InvalidRequest, RequestError, TooLarge, Unsupported
from handler.spec import Input, Limits

ImageId = str | int | float | None
_FIELDS = {"image_id", "detail"}
_TEXTS = {*_FIELDS, "image_base64"}
_LINE_BREAKS = str.maketrans("", "", "\n\r\t")
_PART = 1024  # bytes around a form's part, at most: boundary, names, headers


@dataclass(frozen=True)
class Item:
    """A photo that was asked about (bytes of its file), or why there is none."""

    image_id: ImageId = None
    image: bytes = b""
    detail: bool = False
    error: RequestError | None = None


@dataclass(frozen=True)
class Request:
    """The items of one HTTP request; `many` when it was a list and so is its answer."""

    items: tuple[Item, ...]
    many: bool = False


def parse(
    parameters: Mapping[str, Any], headers: Mapping[str, Any], limits: Limits, size: Input | None = None
) -> Request:
    """Read what TorchServe hands over for one request.

    Args:
        parameters: form fields, query parameters, or {"body": ...}; values are bytes
            (`decode_input_request=false`).
        headers: HTTP headers by name, in whatever case the client sent them.
        size: what an item's `shape` and `content_type` are held against; None: whatever they say is passed over.

    Returns:
        A request. What is wrong with it stands in its items' `error`; never raises
        for a client's mistake.
    """
    kind = _header(headers, "content-type") or ""
    common = _Common(
        image_id=_as_utf8(_header(headers, "x-image-id")),
        detail=_truth((_header(headers, "x-detail") or "").encode()),
        json="json" in kind.lower(),
        limits=limits,
        size=size,
    )
    try:
        if not parameters and "urlencoded" in kind:
            raise _no_content_type()
        if kind.lower().startswith("multipart/"):
            parameters = _form(parameters, headers)
        return _parse(parameters, common)
    except RequestError as error:
        return Request((Item(common.image_id if _acceptable(common.image_id, limits) else None, error=error),))


def decode_base64(text: object, limits: Limits) -> bytes:
    """Decode a photo's base64, also as `str(bytes)` or a `data:` URL; line breaks are passed over.

    Raises:
        RequestError: `missing_image`, `invalid_base64`, or `image_too_large` (told
            from the length alone, before anything is decoded).
    """
    if not isinstance(text, str) or not text:
        raise InvalidRequest("missing_image", "image_base64 must be a non-empty string")
    text = _unwrap(text.strip())
    broken = any(map(text.__contains__, "\n\r\t"))  # not blanks: one was a "+" that a form took apart
    if len(text) * 3 // 4 > limits.bytes + (2 * text.count("\n") if broken else 0) + 3:  # counting is slow
        raise TooLarge("image_too_large", f"the photo has more than {limits.bytes} bytes")
    if broken:
        text = text.translate(_LINE_BREAKS)
    try:
        return pybase64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest("invalid_base64", "image_base64 is not base64 (RFC 4648)") from error


@dataclass(frozen=True)
class _Common:
    """What holds for every photo of a request that does not say otherwise."""

    image_id: ImageId
    detail: bool
    json: bool
    limits: Limits
    size: Input | None = None


def _parse(parameters: Mapping[str, Any], common: _Common) -> Request:
    values = {name: _as_bytes(value) for name, value in parameters.items()}
    if "image_id" in values:
        common = replace(common, image_id=values["image_id"].decode("utf-8", "replace"))
    common = replace(common, detail=common.detail or _truth(values.get("detail", b"")))
    files = {name: value for name, value in values.items() if name not in _FIELDS}
    if any(name.lstrip().startswith(("{", "[")) for name in files):
        raise _no_content_type()
    if not files:
        raise InvalidRequest("missing_image", "the request has no photo: send image_base64, a file or its bytes")
    requests = [_from_field(name, value, common) for name, value in files.items()]
    items = tuple(item for request in requests for item in request.items)
    _refuse_many(len(items), common.limits)
    return Request(items, many=len(requests) > 1 or requests[0].many)


def _form(parameters: Mapping[str, Any], headers: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of a multipart form that may be photos: files, and of the texts those that we know.

    Raises:
        RequestError: `invalid_request`; the form had more than arrived. TorchServe keeps
            one value for each name, so of two files under one name only the last arrives.
    """
    arrived = sum(len(name) + len(_as_bytes(value)) + _PART for name, value in parameters.items())
    length = _header(headers, "content-length") or "0"
    if length.isdigit() and int(length) > arrived:
        raise InvalidRequest("invalid_request", "give each file of a form a field name of its own")
    return {name: value for name, value in parameters.items() if name in _TEXTS or not _is_text(name, value, headers)}


def _is_text(name: str, value: object, headers: Mapping[str, Any]) -> bool:
    """A form's text field: TorchServe gives files a content type, and texts none."""
    part = headers.get(name)
    kind = part.get("content-type") if isinstance(part, dict) else None
    return not kind and not _looks_json(_as_bytes(value))


def _looks_json(value: bytes) -> bool:
    return value[:64].lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[")


def _from_field(name: str, value: bytes, common: _Common) -> Request:
    if _looks_json(value) or (common.json and name == "body"):
        return _from_json(value, common)
    if name == "image_base64":
        return Request((_item({"image_base64": value.decode("latin-1")}, common),))
    if not _acceptable(common.image_id, common.limits):
        return Request((Item(error=_bad_id(common.limits)),))
    return Request((Item(common.image_id, value, common.detail),))


def _from_json(body: bytes, common: _Common) -> Request:
    try:
        content = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("invalid_json", "the body is not JSON (RFC 8259)") from error
    listed = content.get("data") if isinstance(content, dict) and "image_base64" not in content else content
    if not isinstance(listed, list):
        return Request((_item(content, common),))
    if not listed:
        raise InvalidRequest("missing_image", "the list of photos is empty")
    _refuse_many(len(listed), common.limits)
    detail = common.detail or (isinstance(content, dict) and content.get("detail") is True)
    common = replace(common, image_id=None, detail=detail)
    return Request(tuple(_item(entry, common) for entry in listed), many=True)


def _item(content: object, common: _Common) -> Item:
    if not isinstance(content, dict):
        return Item(error=InvalidRequest("invalid_request", "a photo is an object with image_id and image_base64"))
    image_id = content.get("image_id", common.image_id)
    if not _acceptable(image_id, common.limits):
        return Item(error=_bad_id(common.limits))
    try:
        _check_declared(content, common.size)
        encoded = content["image_base64"] if "image_base64" in content else content.get("data")
        return Item(image_id, decode_base64(encoded, common.limits), common.detail or content.get("detail") is True)
    except RequestError as error:
        return Item(image_id, error=error)


def _check_declared(content: Mapping[str, Any], size: Input | None) -> None:
    """Hold what a client says of a photo against what is taken.

    Raises:
        RequestError: `unsupported_format` for a content type that is no picture, `invalid_request` for another shape.
    """
    if size is None:
        return
    kind = content.get("content_type")
    if kind is not None and not (isinstance(kind, str) and kind.strip().lower().startswith("image/")):
        raise Unsupported("unsupported_format", "content_type must be a picture's, such as image/jpeg, or left out")
    shape = content.get("shape")
    if shape is not None and shape != list(size.shape):
        raise InvalidRequest(
            "invalid_request", f"shape must be {list(size.shape)} (channels, height, width), or left out"
        )


def _refuse_many(count: int, limits: Limits) -> None:
    if count > limits.items:
        raise TooLarge("too_many_items", f"{count} photos in one request, at most {limits.items} are taken")


def _unwrap(text: str) -> str:
    if text[:2] in ("b'", 'b"') and len(text) > 2 and text[-1] == text[1]:
        return text[2:-1].replace("\\n", "")  # encodebytes breaks lines, which str() spells out
    if text[:5].lower() == "data:":
        return text.partition(",")[2]
    return text


def _acceptable(image_id: object, limits: Limits) -> bool:
    if isinstance(image_id, float) and not math.isfinite(image_id):
        return False
    if image_id is None:
        return True
    return (
        isinstance(image_id, str | int | float)
        and not isinstance(image_id, bool)
        and len(str(image_id)) <= limits.image_id
    )


def _bad_id(limits: Limits) -> RequestError:
    return InvalidRequest(
        "invalid_image_id", f"image_id must be a string or a finite number of at most {limits.image_id} characters"
    )


def _no_content_type() -> RequestError:
    """What `curl -d` sends by itself: TorchServe's front end takes JSON apart as a form."""
    return InvalidRequest("invalid_request", "send JSON with the header Content-Type: application/json")


def _header(headers: Mapping[str, Any], wanted: str) -> str | None:
    for name, value in headers.items():
        if name.lower() == wanted and isinstance(value, str):
            return value
    return None


def _as_utf8(text: str | None) -> str | None:
    """A header as its client wrote it: HTTP hands bytes over as Latin-1."""
    try:
        return text and text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def _as_bytes(value: object) -> bytes:
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    return str(value).encode()


def _truth(value: bytes) -> bool:
    return value.strip().lower() in (b"true", b"1", b"yes")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")
