"""Damaged and hostile uploads never break the server, and nothing is written outside of its folder.

FUZZED_UPLOADS=10000 .venv/bin/python -m pytest tests/unit/feedback/test_fuzz.py
"""

import os
import random
from pathlib import Path
from typing import Any

import pytest

from feedback.accounts.limits import RateLimit
from feedback.web.site import Site
from tests.helpers.feedback import ORIGIN, Browser, jpeg, site_in

COUNT = int(os.environ.get("FUZZED_UPLOADS", "300"))
KINDS = ("image/jpeg", "image/png", "text/html", "", "multipart/form-data; boundary=x", "image/svg+xml")
NAMES = ("photo.jpg", "../../x.jpg", "", "a\x00b.png", "é" * 300, "<script>.jpg", "con", ".")


def mutated(rng: random.Random, data: bytes) -> bytes:
    """Bytes changed, cut, repeated or inserted."""
    content = bytearray(data)
    for _ in range(rng.randrange(1, 8)):
        at = rng.randrange(len(content) + 1)
        way = rng.randrange(4)
        if way == 0 and at < len(content):
            content[at] = rng.randrange(256)
        elif way == 1:
            del content[at : at + rng.randrange(1, 2000)]
        elif way == 2:
            content[at:at] = content[at : at + rng.randrange(1, 500)]
        else:
            content[at:at] = rng.randbytes(rng.randrange(1, 50))
    return bytes(content)


@pytest.mark.slow
def test_fuzzed_uploads(tmp_path: Path, monkeypatch: Any) -> None:
    site = site_in(tmp_path / "var")
    many = RateLimit(10**9, 1)
    site = Site(site.settings, site.database, site.people, site.album, site.classifier, uploads=many)
    ann = Browser(site).signed_in("ann")
    csrf, rng, statuses = ann.csrf("/"), random.Random(7), set[int]()
    seeds = [jpeg(1, side=64), jpeg(2, side=64), b"RIFF\x10\0\0\0WEBPVP8 ", b"\x89PNG\r\n\x1a\n" + bytes(40), b"<svg/>"]
    for number in range(COUNT):
        data = mutated(rng, rng.choice(seeds))
        files = {rng.choice(("file", "file", "photo", "")): (rng.choice(NAMES), data, rng.choice(KINDS))}
        answer = ann.client.post("/upload_image", data={"csrf": csrf}, files=files, headers={"Origin": ORIGIN})
        assert answer.status_code < 500, (number, answer.status_code, answer.text)
        statuses.add(answer.status_code)
    assert statuses >= {303, 400}, "nothing was accepted, or nothing was refused"
    outside = [
        path for path in tmp_path.rglob("*") if path.is_file() and tmp_path / "var" / "feedback" not in path.parents
    ]
    assert outside == []
    for page in ("/mine", "/"):
        assert ann.get(page).status_code == 200
