"""Every supported form of a request, and every reason for which one is refused."""

import base64
import json
from typing import Any

import pytest

from handler.request import Item, Request, parse
from handler.spec import Limits

LIMITS = Limits(bytes=1000, items=3, image_id=8)
PHOTO = b"\xff\xd8\xff photo"
TEXT = base64.b64encode(PHOTO).decode()


def body(content: Any) -> dict[str, bytes]:
    return {"body": json.dumps(content).encode()}


def only(request: Request) -> Item:
    assert not request.many
    (item,) = request.items
    return item


def code(request: Request) -> str:
    error = only(request).error
    assert error is not None
    return error.code


@pytest.mark.parametrize(
    ("raw", "echoed"),
    [
        (b"123456789012345678901234567890", 123456789012345678901234567890),
        (b'"\\ud800"', "\ud800"),
        (b"1.0", 1.0),
        (b'1, "image_id": 2', 2),
    ],
)
def test_an_image_id_is_echoed_exactly(raw: bytes, echoed: object) -> None:
    body = b'{"image_id": ' + raw + b', "image_base64": "' + TEXT.encode() + b'"}'
    assert repr(only(parse({"body": body}, {}, Limits())).image_id) == repr(echoed)


def test_json_of_the_document() -> None:
    item = only(parse(body({"image_id": "12345", "image_base64": str(TEXT.encode())}), {}, LIMITS))
    assert item == Item("12345", PHOTO, False)


@pytest.mark.parametrize("image_id", ["", "x", 7, -1, 1.5, None])
def test_image_id_is_echoed_as_sent(image_id: object) -> None:
    assert only(parse(body({"image_id": image_id, "image_base64": TEXT}), {}, LIMITS)).image_id == image_id


@pytest.mark.parametrize("image_id", ["123456789", True, [], {}, 1234567890])
def test_image_id_of_another_type_is_refused(image_id: object) -> None:
    assert code(parse(body({"image_id": image_id, "image_base64": TEXT}), {}, LIMITS)) == "invalid_image_id"


def test_detail_requires_the_json_value_true() -> None:
    assert only(parse(body({"image_base64": TEXT, "detail": True}), {}, LIMITS)).detail
    assert not only(parse(body({"image_base64": TEXT, "detail": "true"}), {}, LIMITS)).detail


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"image_id": "1"}, "missing_image"),
        ({"image_id": "1", "image_base64": None}, "missing_image"),
        ({"image_id": "1", "image_base64": ""}, "missing_image"),
        ({"image_id": "1", "image_base64": 5}, "missing_image"),
        ({"image_id": "1", "image_path": "/etc/passwd"}, "missing_image"),
        ({"image_id": "1", "image_base64": "no base64!"}, "invalid_base64"),
        ({"image_id": "1", "image_base64": "b'abc"}, "invalid_base64"),
        ({"image_id": "1", "image_base64": "AAAA BBBB"}, "invalid_base64"),
        ({"image_id": "1", "image_base64": "__import__('os').system('true')"}, "invalid_base64"),
        ({"image_id": "1", "image_base64": "\u4f60\u597d"}, "invalid_base64"),
        ({"image_id": "1", "image_base64": "A" * 1400}, "image_too_large"),
        ([], "missing_image"),
        ({"data": []}, "missing_image"),
        ([{}] * 4, "too_many_items"),
    ],
)
def test_json_that_is_refused(content: object, expected: str) -> None:
    assert code(parse(body(content), {}, LIMITS)) == expected


@pytest.mark.parametrize(
    "raw",
    [b'{"image_id"', b"{", b"[1,", b'{"a": NaN}', b"[" * 100_000, b'{"image_id": ' + b"9" * 5000 + b"}", b"{\xff}"],
)
def test_a_body_that_begins_like_json_but_is_not(raw: bytes) -> None:
    assert code(parse({"body": raw}, {}, LIMITS)) == "invalid_json"


@pytest.mark.parametrize("raw", [b"", b"plain text", b"\xff\xd8\xff photo"])
def test_a_json_content_type_without_json(raw: bytes) -> None:
    assert code(parse({"body": raw}, {"content-type": "application/json"}, LIMITS)) == "invalid_json"


@pytest.mark.parametrize("raw", [b"5", b'"text"', b"null"])
def test_json_that_is_not_an_object(raw: bytes) -> None:
    assert code(parse({"body": raw}, {"Content-Type": "application/json"}, LIMITS)) == "invalid_request"


def test_files_and_lists_together_are_counted() -> None:
    listed = json.dumps([{"image_base64": TEXT}] * 2).encode()
    assert code(parse({"a": listed, "b": listed}, {}, LIMITS)) == "too_many_items"


def test_a_data_field_that_is_not_a_list_of_objects() -> None:
    assert code(parse(body({"data": {"x": 1}}), {}, LIMITS)) == "missing_image"
    (item,) = parse(body(["text"]), {}, LIMITS).items
    assert item.error is not None
    assert item.error.code == "invalid_request"


def test_a_list_keeps_its_order_and_its_good_items() -> None:
    entries = [
        {"content_type": "image/jpeg", "data": TEXT, "shape": [3, 8, 8]},
        {"data": "!"},
        {"image_id": 3, "data": TEXT},
    ]
    request = parse(body({"data": entries}), {}, LIMITS)
    assert request.many
    assert [item.error and item.error.code for item in request.items] == [None, "invalid_base64", None]
    assert [item.image_id for item in request.items] == [None, None, 3]


def test_raw_bytes_take_their_id_from_the_header() -> None:
    assert only(parse({"body": PHOTO}, {"x-IMAGE-id": "77"}, LIMITS)) == Item("77", PHOTO)
    assert only(parse({"body": PHOTO}, {}, LIMITS)) == Item(None, PHOTO)
    assert code(parse({"body": PHOTO}, {"X-Image-Id": "x" * 9}, LIMITS)) == "invalid_image_id"


@pytest.mark.parametrize("field", ["images", "data", "file", "whatever"])
def test_a_form_with_a_file_in_any_field(field: str) -> None:
    assert only(parse({field: PHOTO, "image_id": b"5", "detail": b"true"}, {}, LIMITS)) == Item("5", PHOTO, True)


def test_a_non_ascii_header_is_echoed_as_sent() -> None:
    sent = "\u8bfe1".encode().decode("latin-1")
    assert only(parse({"body": PHOTO}, {"X-Image-Id": sent}, LIMITS)).image_id == "\u8bfe1"


def test_a_form_with_several_files_is_a_list() -> None:
    request = parse({"a": PHOTO, "b": PHOTO}, {}, LIMITS)
    assert request.many
    assert [item.image for item in request.items] == [PHOTO, PHOTO]


def test_a_form_with_base64() -> None:
    assert only(parse({"image_id": b"5", "image_base64": TEXT.encode()}, {}, LIMITS)) == Item("5", PHOTO)


def test_json_in_a_form_field_as_grpc_sends_it() -> None:
    request = parse({"data": json.dumps({"image_id": 1, "image_base64": TEXT}).encode()}, {}, LIMITS)
    assert only(request) == Item(1, PHOTO)


def test_json_sent_as_a_form_gets_an_error_that_names_the_header() -> None:
    request = parse({'{"image_id": "1", "image_base64": "AAAA': b"="}, {}, LIMITS)
    assert code(request) == "invalid_request"
    error = only(request).error
    assert error is not None
    assert "Content-Type: application/json" in error.message


@pytest.mark.parametrize("parameters", [{}, {"image_id": b"5"}])
def test_no_photo_at_all(parameters: dict[str, bytes]) -> None:
    assert code(parse(parameters, {}, LIMITS)) == "missing_image"
