"""Base64, JSON and gzip as clients send them, and what is said of their mistakes."""

import base64
import gzip
import json
import tracemalloc
import zlib
from typing import Any

import pytest

from deploy.settings import PROPERTIES
from handler.encodings import BODY_BYTES, decode_base64, decode_json, unpack
from handler.errors import RequestError
from handler.request import parse
from handler.spec import Limits

LIMITS = Limits(bytes=1000, items=3, image_id=8)
PHOTO = b"\xff\xd8\xff photo\xfb\xff\xfe"
TEXT = base64.b64encode(PHOTO).decode()
URL_SAFE = base64.urlsafe_b64encode(PHOTO).decode()


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        str(TEXT.encode()),
        f'b"{TEXT}"',
        f"data:image/jpeg;base64,{TEXT}",
        f"DATA:;base64,{TEXT}",
        f"data:image/png;charset=utf-8;base64, {TEXT}",
        f"  {TEXT[:4]}\n{TEXT[4:]}\r\n",
        TEXT.rstrip("="),
        str(base64.encodebytes(PHOTO)),
    ],
)
def test_base64_as_clients_send_it(text: str) -> None:
    assert decode_base64(text, LIMITS) == PHOTO


def test_line_breaks_do_not_count_towards_the_size_limit() -> None:
    photo = bytes(range(256)) * 4
    limits = Limits(bytes=len(photo))
    assert decode_base64(base64.encodebytes(photo).decode(), limits) == photo
    assert decode_base64(base64.b64encode(photo).decode(), limits) == photo
    with pytest.raises(RequestError, match="more than 1020 bytes, the limit: send a smaller file"):
        decode_base64(base64.b64encode(photo).decode(), Limits(bytes=len(photo) - 4))


@pytest.mark.parametrize("text", ["A", "AAAAA", "=AAA", "AA=A", "AA==AAAA", "AAA\u00ff", "AAAA=", "====", "A\0AA"])
def test_invalid_base64_is_refused(text: str) -> None:
    with pytest.raises(RequestError) as caught:
        decode_base64(text, LIMITS)
    assert caught.value.code == "invalid_base64"


@pytest.mark.parametrize("text", [URL_SAFE, URL_SAFE.rstrip("="), f"{URL_SAFE[:8]}\n{TEXT[8:]}", f"b'{URL_SAFE}'"])
def test_url_safe_base64(text: str) -> None:
    assert "_" in URL_SAFE
    assert "-" in URL_SAFE
    assert decode_base64(text, LIMITS) == PHOTO


MISTAKES = {
    "https://example.org/photo.jpg": "is a URL",
    "blob:https://example.org/0a1b": "is the address of a Blob",
    "data:image/jpeg,%FF%D8%FF": "without ;base64",
    "data:image/svg+xml;utf8,<svg>": "without ;base64",
    "[object Object]": "JavaScript object",
    "[object Blob]": "JavaScript object",
    "undefined": "empty value",
    "null": "empty value",
    "None": "empty value",
    '{"image_base64": "AAAA"}': "JSON inside a string",
    "b'\\xff\\xd8\\xff'": "as Python prints them",
    "/9j%2FAAA%3D": "percent-encoded",
    "=FF=D8=FF=E0": "quoted-printable",
    "/home/me/photo.jpg": "name of a file",
    "C:\\photos\\one.png": "name of a file",
    "one.jpg": "name of a file",
    "AAAA BBBB": "spaces",
    PHOTO.hex(): "hexadecimal",
    PHOTO.hex().upper(): "hexadecimal",
    base64.b64encode(TEXT.encode()).decode(): "encoded twice",
    base64.b64encode(f"data:image/jpeg;base64,{TEXT}".encode()).decode(): "encoded twice",
    base64.b64encode(PHOTO.hex().encode()).decode(): "hexadecimal",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_named(text: str) -> None:
    with pytest.raises(RequestError, match=MISTAKES[text]) as caught:
        decode_base64(text, LIMITS)
    assert caught.value.code in ("invalid_base64", "unsupported_format")


BUFFER = {"type": "Buffer", "data": list(PHOTO)}
TYPED_ARRAY = {str(index): value for index, value in enumerate(PHOTO)}


@pytest.mark.parametrize("value", [BUFFER, list(PHOTO), TYPED_ARRAY])
@pytest.mark.parametrize("where", ["body", "image_base64", "data", "in a list", "in data", "in a list's object"])
def test_bytes_as_javascript_writes_them_are_named(where: str, value: Any) -> None:
    body = {
        "body": value,
        "image_base64": {"image_base64": value},
        "data": {"data": value},
        "in a list": [value],
        "in data": {"data": [value]},
        "in a list's object": [{"image_base64": value}],
    }[where]
    limits = Limits()
    (item,) = parse({"body": json.dumps(body).encode()}, {"Content-Type": "application/json"}, limits).items
    assert item.error is not None
    assert item.error.code == "invalid_request"
    assert "a Buffer or a list of numbers" in item.error.message
    assert "image_base64" in item.error.message


def test_an_object_with_a_photo_may_have_any_other_keys() -> None:
    body = {"0": 1, "type": "Buffer", "image_base64": TEXT}
    (item,) = parse({"body": json.dumps(body).encode()}, {}, LIMITS).items
    assert item.image == PHOTO


def test_json_inside_a_json_string_is_named() -> None:
    body = json.dumps(json.dumps({"image_base64": TEXT})).encode()
    (item,) = parse({"body": body}, {"content-type": "application/json"}, LIMITS).items
    assert item.error is not None
    assert "inside a JSON string" in item.error.message


NAME = '{"image_id": "\u6559\u5ba4"}'


@pytest.mark.parametrize("encoding", ["gbk", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be", "shift_jis"])
def test_json_in_another_encoding_is_refused_naming_utf_8(encoding: str) -> None:
    with pytest.raises(RequestError, match="not UTF-8") as caught:
        decode_json(NAME.encode(encoding))
    assert caught.value.code == "invalid_json"


def test_latin_1_is_refused_naming_utf_8() -> None:
    with pytest.raises(RequestError, match="not UTF-8"):
        decode_json('{"image_id": "\u00e9"}'.encode("latin-1"))


def test_a_byte_order_mark_before_utf_8_is_ignored() -> None:
    assert decode_json(NAME.encode("utf-8-sig")) == json.loads(NAME)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b'{"a": NaN}', "NaN is not valid JSON"),
        (b'{"a": -Infinity}', "-Infinity is not valid JSON"),
        (b"{'a': 1}", "double quotes at character 1"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[" + b"9" * 5000 + b"]", "too many digits"),
        (b"", "Expecting value"),
    ],
)
def test_the_reason_why_it_is_not_json(raw: bytes, reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        decode_json(raw)


@pytest.mark.slow
@pytest.mark.parametrize("value", [b"{}", b"[]", b"0", b'{"a":1}'])
def test_a_flood_of_values_is_refused_before_it_is_decoded(value: bytes) -> None:
    body = b"[" + b",".join([value] * 300_000) + b"]"
    tracemalloc.start()
    try:
        with pytest.raises(RequestError, match="more than 250000 values") as caught:
            decode_json(body)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert caught.value.code == "invalid_request"


def test_a_large_photo_has_few_values() -> None:
    text = base64.b64encode(bytes(9_000_000)).decode()
    assert decode_json(json.dumps([{"image_base64": text, "boxes": [0] * 9999}]).encode())[0]["image_base64"] == text


BODY = json.dumps({"image_base64": TEXT}).encode()


@pytest.mark.parametrize("encoding", [None, "", "identity", "Identity"])
def test_a_body_that_is_not_encoded(encoding: str | None) -> None:
    assert unpack(BODY, encoding) == BODY


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip", "gzip, identity"])
@pytest.mark.parametrize(
    "packed",
    [gzip.compress(BODY), gzip.compress(BODY[:9]) + gzip.compress(BODY[9:]), gzip.compress(BODY) + bytes(5)],
    ids=["one member", "two members", "padded"],
)
def test_gzip(packed: bytes, encoding: str) -> None:
    assert unpack(packed, encoding) == BODY


@pytest.mark.parametrize("encoding", ["br", "deflate", "zstd", "compress", "gzip, gzip", "gzip, br", "nonsense"])
def test_another_encoding_is_named(encoding: str) -> None:
    with pytest.raises(RequestError, match=encoding) as caught:
        unpack(gzip.compress(BODY), encoding)
    assert (caught.value.code, caught.value.status) == ("unsupported_encoding", 415)
    assert "in gzip" in caught.value.message


@pytest.mark.parametrize(
    "packed",
    [
        BODY,
        b"",
        zlib.compress(BODY),
        gzip.compress(BODY)[:-3],
        gzip.compress(BODY)[:-8] + bytes(8),
        gzip.compress(BODY) + b"more",
        gzip.compress(b"") * 1000 + gzip.compress(BODY),
    ],
    ids=["plain", "empty", "zlib", "cut off", "checksum", "trailing", "members"],
)
def test_what_is_not_gzip_is_refused(packed: bytes) -> None:
    with pytest.raises(RequestError, match="gzip") as caught:
        unpack(packed, "gzip")
    assert caught.value.code == "invalid_request"


@pytest.mark.slow
def test_a_gzip_bomb_stops_at_the_limit() -> None:
    packer = zlib.compressobj(wbits=31)
    bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(64)) + packer.flush()
    tracemalloc.start()
    try:
        with pytest.raises(RequestError) as caught:
            unpack(bomb, "gzip")
        assert tracemalloc.get_traced_memory()[1] < 4 * BODY_BYTES
    finally:
        tracemalloc.stop()
    assert (caught.value.code, caught.value.status) == ("body_too_large", 413)


def test_a_body_may_be_as_large_as_the_front_end_takes() -> None:
    assert f"max_request_size={BODY_BYTES}\n" in PROPERTIES.read_text()
    assert len(unpack(gzip.compress(bytes(BODY_BYTES)), "gzip")) == BODY_BYTES
