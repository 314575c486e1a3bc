"""Every kind of form as clients build it, and the broken ones."""

import base64
import json
from typing import Any
from urllib.parse import urlencode

import pytest

from handler import forms
from handler.errors import RequestError
from handler.request import Item, Request, parse
from handler.spec import Limits

LIMITS = Limits(bytes=10_000, items=3, image_id=8)
PHOTO = b"\xff\xd8\xff photo"
OTHER = b"\x89PNG another"
TEXT = base64.b64encode(PHOTO)
JSON = b'{"user": "bob", "tags": [1, 2]}'


def part(value: bytes, name: str = "photo", file: str | None = "a.jpg", kind: str = "", more: str = "") -> bytes:
    """One part of a form with the boundary "z"."""
    head = f'--z\r\nContent-Disposition: form-data; name="{name}"'
    head += "" if file is None else f'; filename="{file}"'
    head += f"\r\nContent-Type: {kind}" if kind else ""
    return f"{head}{more}\r\n\r\n".encode() + value + b"\r\n"


def sent(*parts: bytes, kind: str = "multipart/form-data; boundary=z", end: bytes = b"--z--\r\n") -> Request:
    return parse({"body": b"".join(parts) + end}, {"Content-Type": kind}, LIMITS)


def error(request: Request) -> Any:
    (item,) = request.items
    assert not request.many
    assert item.error is not None
    return item.error


def test_a_file_with_fields() -> None:
    fields = [part(b"7", "image_id", None), part(b"true", "detail", None), part(b"bob", "user", None)]
    assert sent(part(PHOTO), *fields) == Request((Item("7", PHOTO, True),))
    assert sent(*fields, part(PHOTO, kind="image/jpeg")) == Request((Item("7", PHOTO, True),))


@pytest.mark.parametrize("name", ["photo", "image_base64", "data", "file[]", "", "image_id", "\u7167\u7247"])
def test_a_file_in_any_field_is_a_photo(name: str) -> None:
    assert [item.image for item in sent(part(PHOTO, name)).items] == [PHOTO]


@pytest.mark.parametrize(
    "parameter", ["; filename=a.jpg", "; filename*=UTF-8''%e7%85%a7.jpg", "; filename*=UTF-8''%e2%8", "; FileName=x"]
)
def test_any_spelling_of_a_file_name(parameter: str) -> None:
    raw = b"--z\r\nContent-Disposition: form-data; name=photo" + parameter.encode() + b"\r\n\r\n" + PHOTO + b"\r\n"
    assert [item.image for item in sent(raw).items] == [PHOTO]


def test_a_photo_without_a_file_name() -> None:
    assert sent(part(PHOTO, file=None, kind="image/jpeg")) == Request((Item(None, PHOTO),))


@pytest.mark.parametrize("name", ["metadata", "photo2", "data", "image_base64", "body"])
@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "application/json; charset=utf-16",
        "application/vnd.api+json",
        "application/JSON;charset=gbk",
    ],
)
@pytest.mark.parametrize("file", [None, "blob", "meta.json", ""])
def test_json_parts_are_not_photos(name: str, kind: str, file: str | None) -> None:
    for value in (JSON, JSON.decode().encode("utf-16"), b"[1, 2]", b'"text"'):
        assert sent(part(value, name, file, kind), part(PHOTO)) == Request((Item(None, PHOTO),))


@pytest.mark.parametrize("kind", ["", "text/plain", "text/plain; charset=nope", "text/csv", "application/xml"])
def test_text_parts_are_not_photos(kind: str) -> None:
    assert sent(part(b"a,b", "note", None, kind), part(PHOTO)) == Request((Item(None, PHOTO),))
    assert error(sent(part(b"a,b", "note", None, kind))).code == "missing_image"


def test_a_json_file_of_no_type_is_not_a_photo() -> None:
    for kind in ("", "application/octet-stream"):
        assert sent(part(JSON, "meta", "meta.json", kind), part(PHOTO)) == Request((Item(None, PHOTO),))


def test_a_photo_that_is_labelled_as_text_is_a_photo() -> None:
    assert sent(part(PHOTO, kind="text/plain"), part(OTHER, "b")).many


@pytest.mark.parametrize("kind", ["", "text/plain", "text/plain; charset=us-ascii"])
def test_base64_in_a_text_part(kind: str) -> None:
    assert sent(part(TEXT, "image_base64", None, kind)) == Request((Item(None, PHOTO),))
    assert sent(part(TEXT, "other", None, kind), part(OTHER)) == Request((Item(None, OTHER),))


@pytest.mark.parametrize("kind", ["", "application/octet-stream"])
def test_an_empty_file_field_is_none(kind: str) -> None:
    assert sent(part(b"", "second", "", kind), part(PHOTO)) == Request((Item(None, PHOTO),))
    assert sent(part(b"", "photo", "", kind), part(PHOTO)) == Request((Item(None, PHOTO),))
    assert sent(part(b"", "image_base64", None), part(PHOTO)) == Request((Item(None, PHOTO),))
    assert error(sent(part(b"", "second", "", kind))).code == "missing_image"


def test_a_named_empty_file_is_a_photo_of_no_bytes() -> None:
    assert sent(part(b"")) == Request((Item(None, b""),))


def test_several_files_are_a_list_in_their_order() -> None:
    request = sent(part(PHOTO, "b"), part(OTHER, "a"), part(TEXT, "image_base64", None))
    assert request.many
    assert [item.image for item in request.items] == [PHOTO, OTHER, PHOTO]
    assert error(sent(*(part(PHOTO, name) for name in "abcd"))).code == "too_many_items"


@pytest.mark.parametrize("size", [1, 300, 5000])
@pytest.mark.parametrize("texts", [0, 14, 400])
def test_two_files_of_one_name_are_refused(size: int, texts: int) -> None:
    fields = [part(b"x" * 50, f"field{index}", None) for index in range(texts)]
    refused = error(sent(part(b"\xff" * size), *fields, part(b"\xfe" * size)))
    assert refused.code == "invalid_request"
    assert "field name 'photo'" in refused.message
    assert error(sent(part(TEXT, "image_base64", None), *fields, part(PHOTO, "image_base64"))).code == "invalid_request"


def test_text_fields_of_one_name_are_not_photos() -> None:
    fields = [part(b"cat", "tag", None), part(b"dog", "tag", None)]
    assert sent(*fields, part(PHOTO)) == Request((Item(None, PHOTO),))


BROKEN: dict[str, tuple[bytes, str, str]] = {
    "no boundary": (part(PHOTO) + b"--z--", "multipart/form-data", "no boundary"),
    "an empty boundary": (b"x", "multipart/form-data; boundary=", "no boundary"),
    "a long boundary": (b"x", f"multipart/form-data; boundary={'z' * 300}", "300"),
    "another boundary": (part(PHOTO) + b"--z--", "multipart/form-data; boundary=y", "cannot be read"),
    "cut off": (part(PHOTO), "multipart/form-data; boundary=z", "cut off"),
    "cut off in its last boundary": (part(PHOTO) + b"--z", "multipart/form-data; boundary=z", "cut off"),
    "cut off in a header": (b"--z\r\nContent-Disp", "multipart/form-data; boundary=z", "cut off"),
    "empty": (b"", "multipart/form-data; boundary=z", "cut off"),
    "line feeds only": (
        part(PHOTO).replace(b"\r", b"") + b"--z--",
        "multipart/form-data; boundary=z",
        "cannot be read",
    ),
    "base64": (
        part(TEXT, more="\r\nContent-Transfer-Encoding: base64") + b"--z--",
        "multipart/form-data; boundary=z",
        "Content-Transfer-Encoding base64",
    ),
    "an unknown transfer encoding": (
        part(TEXT, more="\r\nContent-Transfer-Encoding: nope") + b"--z--",
        "multipart/form-data; boundary=z",
        "Content-Transfer-Encoding nope",
    ),
    "no headers": (b"--z\r\n\r\nx\r\n--z--", "multipart/form-data; boundary=z", "no name"),
    "no name": (
        b"--z\r\nContent-Disposition: form-data\r\n\r\nx\r\n--z--",
        "multipart/form-data; boundary=z",
        "no name",
    ),
    "mixed": (b"--z\r\nContent-Type: image/jpeg\r\n\r\nx\r\n--z--", "multipart/mixed; boundary=z", "no name"),
    "too many parts": (part(b"x", file=None) * 1001 + b"--z--", "multipart/form-data; boundary=z", "1000 fields"),
    "near boundaries": (part(b"\r\n--zx" * 2000) + b"--z--", "multipart/form-data; boundary=z", "1000 fields"),
    "padding": (part(PHOTO) + b"--z" + b" " * 9 + b"\r\n--z--", "multipart/form-data; boundary=z", "space"),
    "long headers": (
        b"".join(part(b"x", f"{n}", more=f"\r\nX: {' ' * 4000}x") for n in range(200)) + b"--z--",
        "multipart/form-data; boundary=z",
        "headers have more than",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_form_is_refused(name: str) -> None:
    body, kind, reason = BROKEN[name]
    refused = error(parse({"body": body}, {"content-type": kind}, LIMITS))
    assert (refused.code, refused.status) == ("invalid_request", 400)
    assert reason in refused.message


@pytest.mark.parametrize("encoding", ["binary", "8BIT", "7bit"])
def test_transfer_encodings_that_change_nothing(encoding: str) -> None:
    assert sent(part(PHOTO, more=f"\r\nContent-Transfer-Encoding: {encoding}")) == Request((Item(None, PHOTO),))


def test_a_form_may_begin_with_a_line_break_and_end_with_text() -> None:
    assert sent(b"\r\n", part(PHOTO), end=b"--z--\r\nend") == Request((Item(None, PHOTO),))


def urlencoded(body: bytes) -> Request:
    return parse({"body": body}, {"Content-Type": "application/x-www-form-urlencoded; charset=UTF-8"}, LIMITS)


def test_urlencoded_fields() -> None:
    fields = {"image_base64": TEXT, "image_id": "\u8bfe 1", "detail": "true", "user": "bob"}
    assert urlencoded(urlencode(fields).encode()) == Request((Item("\u8bfe 1", PHOTO, True),))
    assert error(urlencoded(b"user=bob")).code == "missing_image"
    assert error(urlencoded(b"")).code == "missing_image"
    assert error(urlencoded(b"image_base64=AAAA&image_base64=BBBB")).code == "invalid_request"
    assert "percent-encode" in error(urlencoded(b"image_base64=AA+A")).message


@pytest.mark.parametrize("body", [b'{"image_base64": "AAA="}', b"[{}]", b"%7B%22image_base64%22%3A1%7D"])
def test_json_sent_as_urlencoded_names_the_header(body: bytes) -> None:
    assert "Content-Type: application/json" in error(urlencoded(body)).message


def test_a_photo_sent_as_urlencoded_names_the_header() -> None:
    assert "Content-Type: image/jpeg" in error(urlencoded(PHOTO)).message


@pytest.mark.parametrize(
    ("body", "code"), [(b"a=" + b"%41" * 1_000_001, "body_too_large"), (b"a=1&" * 2000, "invalid_request")]
)
def test_urlencoded_bodies_that_would_take_long(body: bytes, code: str) -> None:
    assert error(urlencoded(body)).code == code


RECEIVED = {
    "Content-Type": "multipart/form-data; boundary=x",
    "images": {"content-type": "image/jpeg"},
    "user": {"content-type": ""},
}


class TestAFrontEndThatReadsForms:
    """A TorchServe that this project did not start passes fields."""

    def test_text_fields_are_not_photos(self) -> None:
        assert parse({"images": PHOTO, "user": b"bob"}, RECEIVED, LIMITS) == Request((Item(None, PHOTO),))
        assert parse({"images": PHOTO, "user": JSON}, RECEIVED, LIMITS) == Request((Item(None, PHOTO),))
        assert error(parse({"user": b"bob"}, RECEIVED, LIMITS)).code == "missing_image"

    def test_a_lost_file_is_noticed(self) -> None:
        length = {"content-length": str(len(PHOTO) + 5000)}
        assert error(parse({"images": PHOTO}, {**RECEIVED, **length}, LIMITS)).code == "invalid_request"
        assert not parse({"images": PHOTO}, {**RECEIVED, "content-length": "300"}, LIMITS).many


def test_no_image_file_looks_like_json() -> None:
    for start in (PHOTO, OTHER, b"RIFF", b"BM", b"II*\0", b"\0\0\0\x1cftypavif", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff"):
        assert not forms.looks_like_json(start)
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        assert forms.looks_like_json(json.dumps([1]).encode(encoding))


def test_the_message_of_the_parser_is_passed_on() -> None:
    with pytest.raises(RequestError, match="invalid character"):
        forms.multipart(b"--z\r\nA b: c\r\n\r\nx\r\n--z--", "multipart/form-data; boundary=z")
