"""SIGKILL at every step of upload, correction, review, capture and forgetting.

What was acknowledged is there, and the same command ends in the same place. test_nights.py has the nights and
the delivery.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import func, select

from common.files import write_whole
from feedback.forget import forget
from feedback.photos import store
from feedback.review.agreement import State
from feedback.review.ingest import ingest
from feedback.storage.tables import Opinion, Photo, Upload
from feedback.web.site import Site
from handler.spec import Limits
from tests.helpers.feedback import ORIGIN, Browser, site_in
from tests.helpers.night.tints import tinted
from tests.helpers.running.killing import killed_at_each_step

pytestmark = pytest.mark.slow
LABEL = "label:square"


def jpeg(seed: int) -> bytes:
    return tinted("red", seed)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return site_in(tmp_path)


class Person(Browser):
    """A browser that writes down what was acknowledged before the process can be killed again."""

    def __init__(self, site: Site, name: str) -> None:
        super().__init__(site)
        self.signed_in(name, "reviewer")
        self.token, self.diary = self.csrf("/"), site.settings.var / f"{name}.txt"

    def send(self, path: str, photo: bytes = b"", **fields: str) -> str:
        """Send a form; where the answer leads to."""
        files = {"file": ("photo.jpg", photo, "image/jpeg")} if photo else None
        data = {"csrf": self.token, **fields}
        answer = self.client.post(path, data=data, files=files, headers={"Origin": ORIGIN})
        if answer.status_code == 303:
            self._write(path)
        return str(answer.headers.get("location"))

    def _write(self, line: str) -> None:
        descriptor = os.open(self.diary, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, f"{line}\n".encode())
        os.close(descriptor)

    def acknowledged(self) -> str:
        """What was acknowledged since this was called last."""
        text = self.diary.read_text() if self.diary.exists() else ""
        self.diary.unlink(missing_ok=True)
        return text


@dataclass(frozen=True)
class Stored:
    """What the database has of a photo."""

    state: str
    uploads: int
    opinions: list[str]

    @classmethod
    def of(cls, site: Site, data: bytes) -> "Stored | None":
        with site.database.begin() as session:
            photo = session.scalar(select(Photo).where(Photo.sha256 == hashlib.sha256(data).hexdigest()))
            if photo is None:
                return None
            assert site.album.store.read(photo.key)
            uploads = session.scalar(select(func.count()).where(Upload.photo_id == photo.id)) or 0
            opinions = session.scalars(select(Opinion.value).where(Opinion.photo_id == photo.id))
            return cls(photo.state, uploads, list(opinions))


def killed(site: Site, work: Callable[[int], object]) -> Iterator[int]:
    """As killed_at_each_step; no connection to the database is carried across a fork."""
    site.database.close()
    for step in killed_at_each_step(work):
        yield step
        site.database.close()


def rows_of(site: Site) -> int:
    with site.database.begin() as session:
        return session.scalar(select(func.count()).select_from(Photo)) or 0


def files(site: Site) -> int:
    return sum(path.is_file() for path in Path(site.settings.photos).rglob("*"))


def test_an_upload_and_a_correction(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    ann, seen = Person(site, "ann"), list[Stored | None]()

    def upload_and_correct(number: int) -> None:
        ann.send(ann.send("/upload_image", jpeg(number)), label=LABEL)

    for step in killed(site, upload_and_correct):
        told, stored = ann.acknowledged(), Stored.of(site, jpeg(step))
        seen.append(stored)
        assert stored or "/upload_image" not in told, step
        assert (stored and stored.opinions) or "/results" not in told, step
        assert stored is None or stored.uploads == 1, step
        upload_and_correct(step)
        again = Stored.of(site, jpeg(step))
        assert again and again.state == State.PROPOSED.value and set(again.opinions) == {LABEL}, step
        ann.acknowledged()
    assert {row and len(row.opinions) for row in seen} == {None, 0, 1}, "some steps were not reached"

    strays = files(site) - len(seen) - 1
    assert strays > 1, "no upload was killed between its file and its row"
    assert site.album.remove_strays() == 0, "an upload that goes on has such a file, too"
    monkeypatch.setattr(store, "STRAY", -timedelta(seconds=1))
    monkeypatch.setenv("SERVE_VAR", str(site.settings.var))
    output = CliRunner().invoke(forget, ["--expired"]).output
    assert f"removed {strays} files of killed uploads" in output
    assert files(site) == len(seen) + 1


def test_a_review(site: Site) -> None:
    ann, ben = Person(site, "ann"), Person(site, "ben")
    photos = [jpeg(number) for number in range(20)]
    for photo in photos:
        ann.send(ann.send("/upload_image", photo), label=LABEL)
    seen = set[tuple[str, int]]()
    for step in killed(site, lambda number: ben.send(f"/review/{number}", decision=LABEL)):
        told, stored = ben.acknowledged(), Stored.of(site, photos[step - 1])
        assert stored
        assert len(stored.opinions) == 2 or not told, step
        seen.add((stored.state, len(stored.opinions)))
        ben.send(f"/review/{step}", decision=LABEL)  # refused if it was stored
        again = Stored.of(site, photos[step - 1])
        assert again and (again.state, again.opinions) == (State.AGREED.value, [LABEL] * 2), step
        ben.acknowledged()
    assert seen == {(State.PROPOSED.value, 1), (State.AGREED.value, 2)}, "some steps were not reached"


def test_captured_photos(site: Site) -> None:
    line = {"reason": "random", "probability": 0.5, "model": "shapes", "result": "circle", "confidence": 0.6}

    def capture(step: int) -> None:
        for number in (1, 2):
            content = json.dumps(line).encode() + b"\n" + jpeg(10 * step + number)
            write_whole(site.settings.spool / f"{step}-{number}.capture", content)

    def take_in(_: int = 0) -> int:
        return ingest(site.album, site.settings.spool, Limits())

    capture(1)
    for step in killed(site, take_in):
        take_in()
        assert list(site.settings.spool.glob("*.capture")) == []
        stored = [Stored.of(site, jpeg(10 * step + number)) for number in (1, 2)]
        assert stored == [Stored(State.NEW.value, 1, [])] * 2, step
        capture(step + 1)


def test_forgetting(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVE_VAR", str(site.settings.var))
    ann, photo, work = Person(site, "ann"), jpeg(1), tmp_path / "nights"
    words = ["--image-id", "photo.jpg", "--work", str(work)]

    def upload() -> None:
        ann.send("/upload_image", photo)
        (row,) = site.album.uploads(1, "", None, 10)
        for name in ("digest", ".digest.unfinished/new"):  # a night was killed while it wrote the second one
            write_whole(work / "snapshots" / name / "photos" / "square" / f"{row[1].id}.jpg", photo)
        write_whole(work / "cache" / site.album.file_of(row[1].id), photo)

    def run(_: int = 0) -> tuple[int, str]:
        done = CliRunner().invoke(forget, words)
        return done.exit_code, done.output

    upload()
    for step in killed(site, run):
        known = rows_of(site)
        assert run()[0] == (0 if known else 1), step
        assert (rows_of(site), files(site)) == (0, 0), step
        assert [path for path in work.rglob("*.jpg") if path.is_file()] == [], step
        upload()
