"""Photos and archives in object storage: a real S3 server on loopback."""

import hashlib
import re
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import s3fs
from sqlalchemy import select

from feedback.delivery.courier import Courier
from feedback.delivery.release import Rejected
from feedback.delivery.upload import upload
from feedback.learning import snapshot as snapshots
from feedback.learning.client import FeedbackServer
from feedback.photos import store
from feedback.storage.tables import Model, Photo
from feedback.web.site import Site
from tests.helpers.feedback import LABELS, Browser, running, site_in
from tests.helpers.night.publishing import Rollout, announced, publishing, trusting
from tests.helpers.night.tints import tinted
from tests.helpers.s3 import keys, put, s3_server

pytestmark = pytest.mark.slow
Env = dict[str, str]


@pytest.fixture(scope="module")
def server() -> Iterator[Env]:
    with s3_server("photos", "models") as env:
        yield env


@pytest.fixture
def s3(server: Env, monkeypatch: pytest.MonkeyPatch) -> Env:
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    return server


def site_at(folder: Path, prefix: str) -> Site:
    return site_in(folder, FEEDBACK_PHOTOS=f"s3://photos/{prefix}/")


def test_upload_result_snapshot_and_forgetting(s3: Env, tmp_path: Path) -> None:
    site, photo = site_at(tmp_path / "var", "loop"), tinted("red", 1)
    ann, ben = Browser(site).signed_in("ann"), Browser(site).signed_in("ben", "reviewer")
    result = ann.upload(photo)
    shown = re.search(r'src="(/uploads/[^"]+)"', ann.get(f"/results/{result}").text)
    assert shown and ann.get(shown[1]).content == photo
    assert list(keys(s3, "photos", "loop/").values()) == [photo]
    ann.post(f"/results/{result}", label=f"label:{LABELS[1]}")
    ben.post(f"/review/{ben.shown()}", decision=f"label:{LABELS[1]}")
    work = tmp_path / "nights"
    with running(site) as address:
        client = FeedbackServer(address, site.people.add_token("trainer", "nightly"))
        fetched = snapshots.fetch(client, list(client.agreed()), work / "cache")
    snapshots.write(work / "snapshots" / "digest", snapshots.choose(fetched, LABELS, (), 100))
    copies = [path for path in work.rglob("*.jpg") if path.read_bytes() == photo]
    assert len(copies) == 2

    name = site.album.file_of(1)
    assert len(snapshots.remove(work, lambda number: number == 1, lambda file: file == name)) == 2
    assert site.album.forget(1) == "photo 1: 1 upload, 2 opinions, its file"
    assert keys(s3, "photos", "loop/") == {}
    assert not list(work.rglob("*.jpg"))


def test_a_photo_that_is_missing_in_the_storage_can_be_forgotten(s3: Env, tmp_path: Path) -> None:
    site = site_at(tmp_path, "missing")
    ann = Browser(site).signed_in("ann")
    ann.upload(tinted("red", 2))
    (key,) = keys(s3, "photos", "missing/")
    s3fs.S3FileSystem().rm_file(f"photos/missing/{key}")
    assert ann.get(f"/uploads/{site.album.file_of(1)}").status_code == 404
    assert site.album.forget(1).endswith("no file (it was missing)")


def test_objects_of_killed_uploads_are_removed(s3: Env, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = site_at(tmp_path, "strays")
    Browser(site).signed_in("ann").upload(tinted("red", 3))
    put(s3, "photos", {f"strays/aa/{'a' * 32}.jpg": b"left", "other/aa/b.jpg": b"not ours"})
    assert site.album.remove_strays() == 0, "an upload that goes on has such an object, too"
    monkeypatch.setattr(store, "STRAY", -timedelta(days=1))
    assert site.album.remove_strays() == 1
    assert len(keys(s3, "photos", "strays/")) == 1
    assert keys(s3, "photos", "other/")


def test_a_storage_that_does_not_answer_loses_no_upload_silently(
    tmp_path: Path, s3: Env, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    site = site_at(tmp_path, "away")
    ann = Browser(site).signed_in("ann")
    answer = ann.post("/upload_image", files={"file": ("photo.jpg", tinted("red", 4), "image/jpeg")})
    assert (answer.status_code, "the photo storage does not answer" in answer.text) == (503, True)
    with site.database.begin() as session:
        assert list(session.scalars(select(Photo))) == []


def test_an_archive_is_published_to_and_delivered_from_s3(
    s3: Env, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trainer").mkdir()
    place = "s3://models/nights"
    site = site_in(tmp_path / "var", FEEDBACK_LINKS=place, SERVE_STORE=str(tmp_path / "store"))
    with publishing(tmp_path / "trainer") as publisher:
        trusting(site, publisher)
        mar = publisher.archive()
    upload(mar, f"{place}/")
    upload(mar, place)  # a killed night does it again
    assert sorted(keys(s3, "models", "nights/")) == [f"shapes-2.0.{end}" for end in ("json", "mar", "mar.signed")]
    monkeypatch.setattr(subprocess, "run", Rollout(site))
    courier = Courier(site.settings, site.database)
    assert courier.deliver(announced(site, f"{place}/{mar.name}")) == mar.name
    stored = site.settings.store / mar.name
    assert hashlib.sha256(stored.read_bytes()).digest() == hashlib.sha256(mar.read_bytes()).digest()

    with pytest.raises(Rejected, match="does not exist"):
        courier.deliver(announced(site, f"{place}/shapes-3.0.mar", version=3))
    put(s3, "models", {"nights/shapes-2.0.mar": b"changed"})
    stored.unlink()
    with pytest.raises(Rejected, match="were signed"):
        courier.deliver(courier_row(site))
    assert not stored.exists()


def courier_row(site: Site) -> Model:
    with site.database.begin() as session:
        return session.scalars(select(Model).where(Model.version == 2)).one()
