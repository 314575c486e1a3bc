"""Read the photos of one HTTP request. A request has one of four forms (docs/api.md has a table of all):

- JSON {"image_id", "image_base64", "detail"}
- JSON {"data": [{"content_type", "data", "shape"}, ...]}, or a list of objects as above
- the bytes of a photo, with an image content type (and the headers X-Image-Id and X-Detail)
- a form with one or more files, under any field names (`handler.forms`)

The front end passes all of them on as bytes (deploy/torchserve/front_end.py). gRPC, and a TorchServe that this project
did not start, pass fields.

An `image_id` is only echoed; it never names a file. `shape` and `content_type` are optional. If the recipe sets
`input.declared`, they must match its input (channels, height, width) and be an image type. The format of a photo is
always detected from its bytes.
"""

import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from handler import forms
from handler.encodings import decode_base64, decode_json, is_bytes, unpack, why_no_photo
from handler.errors import InvalidRequest, RequestError, TooLarge, Unsupported
from handler.spec import Input, Limits

ImageId = str | int | float | None
_FIELDS = {"image_id", "detail"}


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
        parameters: {"body": ...}, or fields by name; values are bytes (`decode_input_request=false`).
        headers: HTTP headers by name, in the case that the client used.
        size: the input that an item's `shape` and `content_type` must match; None: they are ignored.

    A client's mistake never raises: it is the `error` of its item.
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
        if list(parameters) == ["body"]:
            body = unpack(_as_bytes(parameters["body"]), _header(headers, "content-encoding"))
            return _from_body(body, content_type, common)
        return _from_fields({name: _as_bytes(value) for name, value in parameters.items()}, headers, common)
    except RequestError as error:
        return Request((Item(common.image_id if _valid_id(common.image_id, limits) else None, error=error),))


@dataclass(frozen=True)
class _Common:
    """Values for every photo of a request that does not set its own."""

    image_id: ImageId
    detail: bool
    json: bool
    limits: Limits
    size: Input | None = None


def _from_body(body: bytes, content_type: str, common: _Common) -> Request:
    kind = content_type.lower().lstrip()
    if kind.startswith("multipart/"):
        return _from_form(forms.multipart(body, content_type), common)
    if kind.startswith("application/x-www-form-urlencoded"):
        return _from_form(forms.urlencoded(body), common)
    return _from_bytes(body, common)


def _from_bytes(value: bytes, common: _Common) -> Request:
    if common.json or forms.looks_like_json(value):
        return _from_json(value, common)
    return Request((_photo(value, common),))


def _from_form(parts: list[forms.Part], common: _Common) -> Request:
    common = _with_fields({part.name: part.value for part in parts if part.text}, common)
    photos = forms.photos(parts)
    _check_count(len(photos), common.limits)
    items = tuple((_base64 if part.text else _photo)(part.value, common) for part in photos)
    return Request(items, many=len(items) > 1)


def _from_fields(values: dict[str, bytes], headers: Mapping[str, Any], common: _Common) -> Request:
    """Read what gRPC sends, or what a front end made of a form."""
    content_type = (_header(headers, "content-type") or "").lower()
    if any(name.lstrip().startswith(("{", "[")) for name in values) or (not values and "urlencoded" in content_type):
        raise forms.sent_as_form()
    if content_type.startswith("multipart/"):
        return _from_form(forms.received(values, headers, _header(headers, "content-length")), common)
    common = _with_fields(values, common)
    files = {name: value for name, value in values.items() if name not in _FIELDS}
    if not files:
        raise InvalidRequest("missing_image", "the request has no photo: send a file, or image_base64")
    requests = [
        Request((_base64(value, common),)) if name == forms.BASE64 else _from_bytes(value, common)
        for name, value in files.items()
    ]
    items = tuple(item for request in requests for item in request.items)
    _check_count(len(items), common.limits)
    return Request(items, many=len(requests) > 1 or requests[0].many)


def _with_fields(values: Mapping[str, bytes], common: _Common) -> _Common:
    """The values that a form has for all of its photos."""
    image_id = values["image_id"].decode("utf-8", "replace") if "image_id" in values else common.image_id
    return replace(common, image_id=image_id, detail=common.detail or _is_true(values.get("detail", b"")))


def _base64(value: bytes, common: _Common) -> Item:
    return _item({"image_base64": value.decode("latin-1")}, common)


def _photo(value: bytes, common: _Common) -> Item:
    if not _valid_id(common.image_id, common.limits):
        return Item(error=_invalid_id(common.image_id, common.limits))
    return Item(common.image_id, value, common.detail)


def _from_json(body: bytes, common: _Common) -> Request:
    content = decode_json(body)
    entries = content.get("data") if isinstance(content, dict) and "image_base64" not in content else content
    if not isinstance(entries, list) or is_bytes(entries):
        return Request((_item(content, common),))
    if not entries:
        raise InvalidRequest("missing_image", "the list of photos is empty: send at least one photo")
    _check_count(len(entries), common.limits)
    detail = common.detail or (isinstance(content, dict) and content.get("detail") is True)
    common = replace(common, image_id=None, detail=detail)
    return Request(tuple(_item(entry, common) for entry in entries), many=True)


def _item(content: object, common: _Common) -> Item:
    if not isinstance(content, dict) or ("image_base64" not in content and is_bytes(content)):
        return Item(error=InvalidRequest("invalid_request", why_no_photo(content)))
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
    if content_type is not None and not str(content_type).strip().lower().startswith("image/"):
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


def _check_count(count: int, limits: Limits) -> None:
    if count > limits.items:
        raise TooLarge(
            "too_many_items",
            f"{count} photos in one request, more than the limit of {limits.items}: send them in several requests",
        )


def _valid_id(image_id: object, limits: Limits) -> bool:
    if image_id is None:
        return True
    if isinstance(image_id, bool) or not isinstance(image_id, str | int | float):
        return False
    finite = not isinstance(image_id, float) or math.isfinite(image_id)
    return finite and len(str(image_id)) <= limits.image_id


def _invalid_id(image_id: object, limits: Limits) -> RequestError:
    return InvalidRequest(
        "invalid_image_id",
        f"image_id {reprlib.repr(image_id)} is not valid: "
        f"send a string or a finite number of at most {limits.image_id} characters",
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
