"""Every row of docs/api.md's tables of request forms, sent to a real server by hand and by real clients."""

import base64
import gzip
import json
import re
from typing import Any
from urllib.parse import urlencode

import pytest
import requests

from deploy.settings import ROOT
from deploy.torchserve.keys import read_key
from deploy.torchserve.process import Server
from handler.errors import CODES
from tests.helpers.clients import CLIENTS, Target
from tests.helpers.commands import SHIPPED

PHOTO = SHIPPED / "goldens" / "1_0.jpg"
LABEL = "online"
BYTES = PHOTO.read_bytes()
TEXT = base64.b64encode(BYTES).decode()
JPEG, JSON = "image/jpeg", "application/json"
FORM = "multipart/form-data; boundary=z"
URLENCODED = "application/x-www-form-urlencoded"

PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## Every form of a request")[2].partition("\n## ")[0]
ROWS = dict(re.findall(r"^\| ([^|`]+) \| .* ?\| (\d{3} .+) \|$", SECTION, re.MULTILINE))
"""Row -> its answer: "200 object", "200 list", or "400 `code`"."""


def part(disposition: str, value: bytes, kind: str = "", more: str = "") -> bytes:
    head = f"--z\r\nContent-Disposition: form-data; {disposition}{more}" + (f"\r\nContent-Type: {kind}" if kind else "")
    return f"{head}\r\n\r\n".encode() + value + b"\r\n"


def file(name: str, more: str = "") -> bytes:
    return part(f'name="{name}"; filename="a.jpg"', BYTES, JPEG, more)


def text(content: Any) -> bytes:
    return json.dumps(content).encode()


BUFFER = {"type": "Buffer", "data": list(BYTES)}
ONE = {"image_id": "1", "image_base64": TEXT}
CHINESE = '{"image_id": "\u6559\u5ba4", "image_base64": "P"}'.replace("P", TEXT)
END = b"--z--\r\n"
PACKED = {"Content-Encoding": "gzip"}

SENT: dict[str, list[tuple[str | None, bytes, dict[str, str]]]] = {
    "one photo": [(JSON, text(ONE), {})],
    "a list": [(JSON, text([ONE, ONE]), {}), (JSON, text([ONE]), {})],
    "a list under data": [(JSON, text({"data": [{"data": TEXT}]}), {})],
    "URL-safe base64": [
        (JSON, text({"image_base64": base64.urlsafe_b64encode(BYTES).decode().rstrip(ends)}), {}) for ends in ("", "=")
    ],
    "base64 with line breaks": [(JSON, text({"image_base64": base64.encodebytes(BYTES).decode()}), {})],
    "a data URL": [(JSON, text({"image_base64": f"data:image/jpeg;base64,{TEXT}"}), {})],
    "Python's str(bytes)": [(JSON, text({"image_base64": str(TEXT.encode())}), {})],
    "UTF-8 with a byte order mark": [(JSON, CHINESE.encode("utf-8-sig"), {})],
    "another charset": [
        (f"{JSON}; charset=gbk", CHINESE.encode("gbk"), {}),
        (f"{JSON}; charset=iso-8859-1", '{"image_id": "\u00e9"}'.encode("latin-1"), {}),
    ],
    "UTF-16": [(JSON, CHINESE.encode(name), {}) for name in ("utf-16", "utf-16-le", "utf-16-be", "utf-32")],
    "NaN": [(JSON, text({**ONE, "image_id": float("nan")}), {})],
    "a Node.js Buffer": [(JSON, text(BUFFER), {}), (JSON, text({"type": "Buffer", "data": [255, 216]}), {})],
    "a Buffer as image_base64": [(JSON, text({"image_base64": BUFFER}), {})],
    "a list of numbers": [(JSON, text(list(BYTES)), {}), (JSON, text([255, 216, 255]), {})],
    "a typed array": [(JSON, text({str(index): value for index, value in enumerate(BYTES)}), {})],
    "JSON in a JSON string": [(JSON, text(json.dumps(ONE)), {})],
    "text instead of a photo": [
        (JSON, text({"image_base64": value}), {})
        for value in (
            "https://a.org/b.jpg",
            "/tmp/photo.jpg",
            "[object Object]",
            "undefined",
            "blob:x",
            "data:image/jpeg,x",
        )
    ],
    "base64 of base64": [(JSON, text({"image_base64": base64.b64encode(TEXT.encode()).decode()}), {})],
    "hexadecimal": [(JSON, text({"image_base64": BYTES.hex()}), {})],
    "a photo": [(kind, BYTES, {}) for kind in (JPEG, "application/octet-stream", "image/*")],
    "a photo without a type": [(None, BYTES, {})],
    "JSON without its type": [(None, text(ONE), {}), ("text/plain", text(ONE), {})],
    "base64 without JSON": [("text/plain", TEXT.encode(), {})],
    "gzip": [
        (JSON, gzip.compress(text(ONE)), PACKED),
        (JPEG, gzip.compress(BYTES), {"content-encoding": "GZIP"}),
        (FORM, gzip.compress(file("photo") + END), PACKED),
    ],
    "identity": [(JSON, text(ONE), {"Content-Encoding": "identity"})],
    "another encoding": [
        (JSON, text(ONE), {"Content-Encoding": name}) for name in ("br", "deflate", "zstd", "gzip, gzip")
    ],
    "not gzip": [(JSON, text(ONE), PACKED), (JSON, gzip.compress(text(ONE))[:-9], PACKED)],
    "a gzip bomb": [(JSON, gzip.compress(bytes(17_000_000)), PACKED)],
    "a file": [
        (FORM, file("photo") + part('name="image_id"', b"1") + part("name=detail", b"true") + END, {}),
        ('multipart/form-data; charset=utf-8; boundary="z"', file("photo") + END, {}),
        ("Multipart/Form-Data; Boundary=z", file("") + END, {}),
    ],
    "two files": [(FORM, file("front") + file("back") + END, {})],
    "two files with one name": [
        (FORM, file("images") + file("images") + END, {}),
        (FORM, file("images") + b"".join(part(f"name=f{n}", b"x") for n in range(99)) + file("images") + END, {}),
    ],
    "a file and JSON": [
        (FORM, part(f'name="{name}"', b'{"a": 1}', kind) + file("photo") + END, {})
        for name in ("meta", "data", "image_base64")
        for kind in (JSON, f"{JSON}; charset=utf-16", "application/ld+json")
    ],
    "a file called image_base64": [(FORM, file("image_base64") + END, {})],
    "base64 in a form": [
        (FORM, part('name="image_base64"', TEXT.encode(), kind) + END, {}) for kind in ("", "text/plain; charset=utf-8")
    ],
    "an empty file field": [
        (FORM, file("photo") + part('name="b"; filename=""', b"", "application/octet-stream") + END, {}),
        (FORM, file("photo") + part('name="photo"; filename=""', b"", "application/octet-stream") + END, {}),
    ],
    "no file": [(FORM, part("name=user", b"bob") + END, {}), (FORM, END, {}), (FORM, part('name=""', b"x") + END, {})],
    "a form without a boundary": [
        (kind, file("photo") + END, {}) for kind in ("multipart/form-data", "multipart/form-data; boundary=")
    ],
    "a form that is cut off": [
        (FORM, file("photo"), {}),
        (FORM, file("photo")[:-500], {}),
        (FORM, b"", {}),
        (FORM, part('name="f"; filename="x"', b"y", more="\r\nContent-Length: 20000000") + b"--z", {}),
    ],
    "a part in base64": [
        (FORM, file("photo", f"\r\nContent-Transfer-Encoding: {name}") + END, {}) for name in ("base64", "nope")
    ],
    "a part without a name": [(FORM, b"--z\r\n\r\nx\r\n--z--\r\n", {}), (FORM, part("x=y", BYTES, JPEG) + END, {})],
    "urlencoded base64": [(URLENCODED, urlencode({"image_base64": TEXT}).encode(), {})],
    "JSON as a form": [(URLENCODED, text(ONE), {})],
    "a photo as a form": [(URLENCODED, BYTES, {}), (URLENCODED, b"a=%zz\xff", {})],
}


@pytest.fixture(scope="module")
def target(server: Server) -> Target:
    settings = server.settings
    return Target(f"{settings.url('inference')}/predictions/classroom", read_key(settings.var, "inference"), PHOTO)


def check(row: str, status: int, answer: Any) -> None:
    """The answer is the one that the page names for this row."""
    expected, _, what = ROWS[row].partition(" ")
    assert status == int(expected), answer
    if what == "object":
        assert answer["result"] == LABEL, answer
    elif what == "list":
        assert [entry["result"] for entry in answer] == [LABEL] * len(answer), answer
    else:
        assert answer["error"]["code"] == what.strip("`"), answer
        assert CODES[what.strip("`")] == status


def test_every_row_is_sent() -> None:
    assert set(SENT) == set(ROWS)
    assert len(ROWS) == len([line for line in SECTION.splitlines() if line.startswith("| ")]) - 4  # four headings


@pytest.mark.parametrize("row", SENT)
def test_a_row_of_the_page(target: Target, row: str) -> None:
    for kind, body, headers in SENT[row]:
        head = {**target.bearer, **headers, **({"Content-Type": kind} if kind else {})}
        answer = requests.post(target.address, data=body, headers=head, timeout=60)
        assert answer.headers["Content-Type"] == "application/json"
        check(row, answer.status_code, answer.json())


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_sends_rows_of_the_page(target: Target, client: str) -> None:
    answers = CLIENTS[client](target)
    assert len(answers) > 5
    for row, (status, answer) in answers.items():
        check(row, status, answer)


def test_forms_leave_no_temporary_file(server: Server, target: Target) -> None:
    """TorchServe's own reading of forms would leave the file of a broken form in its folder for temporary files."""
    before = {path.name for path in server.temporary.iterdir()}
    broken = part('name="f"; filename="x"', bytes(5000), more="\r\nContent-Length: 20000000") + b"--z\r\nbad"
    for _ in range(5):
        head = {**target.bearer, "Content-Type": FORM}
        assert requests.post(target.address, data=broken, headers=head, timeout=60).status_code == 400
    assert {path.name for path in server.temporary.iterdir()} == before
