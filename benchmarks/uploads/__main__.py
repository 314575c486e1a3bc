"""Send thousands of damaged and hostile uploads to the feedback pages, and check every answer.

    python -m benchmarks.uploads --count 10000

Each upload is made from the seed and its number: bytes of small photos that are changed, cut, repeated or inserted,
under hostile names, types and field names. No network and no served model are involved: the pages decode the photos.
Exits 1 if an answer has a status of 500 or more, or a file was written outside of var/feedback. Prints one JSON line.
"""

import json
import random
import re
import tempfile
from collections import Counter
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import click
from PIL import Image
from rich.progress import track
from starlette.testclient import TestClient

from common.cli import command
from common.console import console
from common.errors import CheckFailed
from dataset.draw import draw
from feedback.accounts.limits import RateLimit
from feedback.settings import read_settings
from feedback.web.app import application, open_site
from feedback.web.classifier import Classifier, Served
from feedback.web.guards import SESSION
from feedback.web.site import Site
from handler.spec import Input, Spec

TYPES = ("image/jpeg", "image/png", "text/html", "", "multipart/form-data; boundary=x", "image/svg+xml")
NAMES = ("photo.jpg", "../../x.jpg", "", "a\x00b.png", "é" * 300, "<script>.jpg", "con", ".")
FIELDS = ("file", "file", "photo", "")
ORIGIN = "http://testserver"
SIDE = 64


class _Fixed(Classifier):
    """Answers every upload, so that its photo is decoded, cleaned and stored."""

    def served(self) -> Served:
        spec = Spec(name="shapes", labels=("circle", "square"), input=Input(height=32, width=32))
        return Served("shapes", "1.0", spec)

    def ask(self, data: bytes) -> tuple[dict[str, Any], float]:
        return {"result": "circle", "confidence": 0.7, "probabilities": {}, "model_version": "1.0"}, 1.0


@command(epilog="Example: python -m benchmarks.uploads --count 1000 --seed 2")
@click.option("--count", default=10_000, show_default=True, type=click.IntRange(1), help="Uploads.")
@click.option("--seed", default=7, show_default=True, help="Other seeds give other uploads.")
def main(count: int, seed: int) -> None:
    """Send uploads that are damaged in a seeded way, and check every answer."""
    with tempfile.TemporaryDirectory() as name:
        numbers = track(range(count), "uploads", console=console, transient=True)
        report = {"benchmark": "uploads", "seed": seed, **send(Path(name), numbers, seed)}
    click.echo(json.dumps(report))
    if report["broken"] or report["outside"]:
        raise CheckFailed(f"{len(report['broken'])} answers of 500 or more, {len(report['outside'])} files outside")


def send(folder: Path, numbers: Iterable[int], seed: int) -> dict[str, Any]:
    """Send the uploads with these numbers to a site in a folder.

    Returns:
        uploads by status; `broken`: numbers and statuses of 500 or more; `outside`: files that are not below
        var/feedback; `pages`: statuses of two pages afterwards.
    """
    site = open_site(read_settings({"SERVE_VAR": str(folder / "var")}))
    often = RateLimit(10**9, 1)
    site = Site(site.settings, site.database, site.people, site.album, _Fixed(site.settings), uploads=often)
    site.people.add("ann", "uploader", "a long password")
    client = TestClient(application(site), ORIGIN, follow_redirects=False)
    client.cookies.set(SESSION, site.people.sign_in("ann", "a long password") or "")
    (csrf,) = set(re.findall(r'name="csrf" value="([0-9a-f]+)"', client.get("/").text))
    statuses, broken, photos = Counter[int](), list[tuple[int, int]](), _photos()
    for number in numbers:
        rng = random.Random(f"{seed} {number}")
        files = {rng.choice(FIELDS): (rng.choice(NAMES), damaged(rng, rng.choice(photos)), rng.choice(TYPES))}
        answer = client.post("/upload_image", data={"csrf": csrf}, files=files, headers={"Origin": ORIGIN})
        statuses[answer.status_code] += 1
        if answer.status_code >= 500:
            broken.append((number, answer.status_code))
    pages = [client.get(page).status_code for page in ("/mine", "/")]
    site.database.close()
    written = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    outside = [str(path) for path in written if path.parts[:2] != ("var", "feedback")]
    return {"statuses": dict(sorted(statuses.items())), "broken": broken, "outside": outside, "pages": pages}


def damaged(rng: random.Random, data: bytes) -> bytes:
    """Bytes changed, cut, repeated or inserted at one to seven places."""
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


def _photos() -> list[bytes]:
    """Small photos in every stored format, and the beginnings of others."""
    drawn = draw("discs", 1)
    drawn.thumbnail((SIDE, SIDE))
    return [*(_encoded(drawn, form) for form in ("JPEG", "PNG", "WEBP")), b"RIFF\x10\0\0\0WEBPVP8 ", b"<svg/>"]


def _encoded(photo: Image.Image, form: str) -> bytes:
    buffer = BytesIO()
    photo.save(buffer, form)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
