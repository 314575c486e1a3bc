"""Make the request with a number: the same number and seed give the same bytes."""

import base64
import gzip
import json
import random
import urllib.parse
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fuzz.mutations import FORM_TOKENS, JSON_TOKENS, json_value, mutated, photos
from dataset.draw import draw
from handler import goldens
from handler.goldens import Golden

KINDS = ("good", "photo", "json", "form", "header", "line")
GOOD_EVERY = 4
JSON, FORM, BYTES = "application/json", "multipart/form-data; boundary=z", "application/octet-stream"
CONTENT_TYPES = (
    *(JSON, FORM, BYTES, "image/jpeg", "", " ", "text/plain", "*/*", "application/x-www-form-urlencoded", "a" * 300),
    *("application/json; charset=utf-16", "application/json; charset=", "application/json;", "image/jpeg; charset=x"),
    *(
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/mixed; boundary=z",
        "multipart/form-data; boundary",
    ),
    *(
        f"multipart/form-data; boundary={'z' * 300}",
        'multipart/form-data; boundary="z',
        "Multipart/Form-Data; BOUNDARY=z",
    ),
)
ENCODINGS = ("gzip", "GZIP", "x-gzip", "identity", "", "br", "deflate", "zstd", "gzip, gzip", ",", "gzip;q=1")
HEADERS = {
    "X-Image-Id": ("", "a", "a" * 300, "\u8bfe", "\t", "../../etc/passwd", "null"),
    "X-Detail": ("true", "1", "", "maybe"),
    "X-Request-Id": ("", "order 7", "a" * 200, "\u8bfe"),
    "Accept": ("image/webp", ""),
    "Expect": ("100-continue", "nothing"),
    "Content-Language": ("zh",),
}
METHODS = ("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "post", "FOO")
PATHS = (
    "*",
    "/",
    "//",
    "/predictions",
    "/predictions/",
    "/predictions/%00",
    "/predictions/nobody",
    "/ping/x",
    "/%zz",
    "",
)


@dataclass(frozen=True)
class Sent:
    """A request. `goldens`: its photos, if it is good; empty if it may be answered with an error."""

    kind: str
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    method: str = "POST"
    path: str | None = None
    chunked: bool = False
    goldens: tuple[Golden, ...] = ()
    many: bool = False


class Generator:
    """Makes requests from golden photos of a bundle."""

    def __init__(self, bundle: Path, seed: int) -> None:
        self.seed = seed
        self.goldens = goldens.read(bundle)
        self.bytes = {golden.photo: (bundle / golden.photo).read_bytes() for golden in self.goldens}
        self.photos = list(photos(draw("room", seed)).values())
        self.made: Mapping[str, Callable[[random.Random], Sent]] = {
            "good": self._good,
            "photo": self._photo,
            "json": self._json,
            "form": self._form,
            "header": self._header,
            "line": self._line,
        }

    def request(self, number: int) -> Sent:
        """The request with a number; every fourth is good."""
        rng = random.Random(f"{self.seed}-{number}")
        kind = "good" if number % GOOD_EVERY == 0 else rng.choices(KINDS[1:], (5, 3, 5, 3, 1))[0]
        return self.made[kind](rng)

    def _good(self, rng: random.Random) -> Sent:
        chosen = rng.sample(self.goldens, rng.choice((1, 1, 2)))
        files = [self.bytes[golden.photo] for golden in chosen]
        forms = ONE if len(files) == 1 else SEVERAL
        content_type, body, more = rng.choice(forms)(files)
        headers = [("Content-Type", content_type), ("X-Detail", "true"), *more]
        if rng.random() < 0.2 and not more:
            headers, body = [*headers, ("Content-Encoding", "gzip")], _gzip(body)
        return Sent(
            *("good", body, tuple(headers)), chunked=rng.random() < 0.1, goldens=tuple(chosen), many=len(files) > 1
        )

    def _any_photo(self, rng: random.Random) -> bytes:
        return rng.choice((*self.photos, self.bytes[rng.choice(self.goldens).photo]))

    def _photo(self, rng: random.Random) -> Sent:
        data = mutated(self._any_photo(rng), rng)
        content_type, body, more = rng.choice(ONE)([data])
        return Sent("photo", body, (("Content-Type", content_type), *more))

    def _json(self, rng: random.Random) -> Sent:
        text = base64.b64encode(self._any_photo(rng)).decode()
        if rng.random() < 0.5:
            value = json_value(rng, text)
            body = json.dumps({"image_base64": text, "image_id": value} if rng.random() < 0.3 else value).encode()
        else:
            body = mutated(json.dumps({"image_id": "1", "image_base64": text}).encode(), rng, JSON_TOKENS)
        if rng.random() < 0.1:
            body = body.decode("latin-1").encode(rng.choice(("utf-16", "utf-32", "utf-8", "utf-8-sig")))
        return Sent("json", body, (("Content-Type", JSON),))

    def _form(self, rng: random.Random) -> Sent:
        photo, mark = self._any_photo(rng), b"PHOTO"
        parts = [part(f'name="f{n}"; filename="a"', mark, "image/jpeg") for n in range(rng.randint(0, 3))]
        parts += [part('name="image_id"', b"7"), part('name="meta"', b'{"a": 1}', JSON)]
        rng.shuffle(parts)
        body = mutated(b"".join(parts) + b"--z--\r\n", rng, FORM_TOKENS).replace(mark, photo)
        content_type = FORM if rng.random() < 0.8 else rng.choice(CONTENT_TYPES)
        return Sent("form", body, (("Content-Type", content_type),), chunked=rng.random() < 0.1)

    def _header(self, rng: random.Random) -> Sent:
        content_type, body, _ = rng.choice(ONE)([self._any_photo(rng)])
        content_type = content_type if rng.random() < 0.4 else rng.choice(CONTENT_TYPES)
        headers = [("Content-Type", content_type)] if rng.random() < 0.9 else []
        if rng.random() < 0.5:
            headers.append(("Content-Encoding", rng.choice(ENCODINGS)))
            packers: Sequence[Callable[[bytes], bytes]] = (_gzip, zlib.compress, bytes)
            body = rng.choice(packers)(body)
            body = mutated(body, rng) if rng.random() < 0.3 else body
        names = rng.sample(list(HEADERS), rng.randint(0, 3))
        headers += [(name, rng.choice(HEADERS[name])) for name in names]
        return Sent("header", body, tuple(headers))

    def _line(self, rng: random.Random) -> Sent:
        method = rng.choice(METHODS) if rng.random() < 0.6 else "POST"
        path = rng.choice(PATHS) if rng.random() < 0.6 else None
        return Sent("line", self._any_photo(rng), (("Content-Type", "image/jpeg"),), method, path)


def part(disposition: str, value: bytes, kind: str = "") -> bytes:
    """One part of a form with the boundary "z"."""
    head = f"--z\r\nContent-Disposition: form-data; {disposition}" + (f"\r\nContent-Type: {kind}" if kind else "")
    return f"{head}\r\n\r\n".encode() + value + b"\r\n"


def _gzip(body: bytes) -> bytes:
    return gzip.compress(body, mtime=0)  # with the time, a request would have other bytes each second


def _text(file: bytes) -> str:
    return base64.b64encode(file).decode()


def _dumps(content: Any) -> bytes:
    return json.dumps(content).encode()


def _multipart(files: list[bytes]) -> bytes:
    parts = [part(f'name="f{n}"; filename="a.jpg"', file, "image/jpeg") for n, file in enumerate(files)]
    return b"".join([*parts, part('name="meta"', b'{"tags": [1]}', JSON), b"--z--\r\n"])


Form = Callable[[list[bytes]], tuple[str, bytes, tuple[tuple[str, str], ...]]]

SEVERAL: tuple[Form, ...] = (
    lambda files: (JSON, _dumps([{"image_base64": _text(file)} for file in files]), ()),
    lambda files: (JSON, _dumps({"data": [{"data": _text(file)} for file in files]}), ()),
    lambda files: (FORM, _multipart(files), ()),
)
"""Good forms of a request with several photos."""

ONE: tuple[Form, ...] = (
    lambda files: (JSON, _dumps({"image_id": "1", "image_base64": _text(files[0])}), ()),
    lambda files: (JSON, _dumps({"image_base64": base64.urlsafe_b64encode(files[0]).decode()}), ()),
    lambda files: (JSON, _dumps({"image_base64": f"data:image/jpeg;base64,{_text(files[0])}"}), ()),
    lambda files: (JSON, _gzip(_dumps({"image_base64": _text(files[0])})), (("Content-Encoding", "gzip"),)),
    lambda files: (BYTES, files[0], ()),
    lambda files: (FORM, _multipart(files), ()),
    lambda files: (FORM, part("name=image_base64", _text(files[0]).encode()) + b"--z--\r\n", ()),
    lambda files: (
        "application/x-www-form-urlencoded",
        urllib.parse.urlencode({"image_base64": _text(files[0])}).encode(),
        (),
    ),
)
"""Good forms of a request with one photo: content type, body, further headers."""
