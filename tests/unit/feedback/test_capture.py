"""Captured photos: what is chosen, how the spool is bounded, and how they reach the review queue."""

import json
import logging
import random
import shutil
from pathlib import Path

import pytest
from sqlalchemy import select

from common.files import write_json
from feedback.review.arrivals import Answered, Why
from feedback.review.ingest import ingest
from feedback.storage.tables import Photo
from feedback.web.site import Site
from handler.capture.capturing import SPOOL
from handler.capture.sampling import RANDOM, UNSURE, Sampler
from handler.capture.spool import Spool
from handler.service import ClassifierService
from handler.spec import Capture, Limits
from tests.helpers.feedback import Browser, jpeg, site_in
from tests.helpers.handler import ask, encoded, started
from tests.helpers.light import pack_quickly
from tests.helpers.small import unpacked


class Clock:
    now = 3600.0 * 1000

    def __call__(self) -> float:
        return self.now


def sampler(clock: Clock, **options: object) -> Sampler:
    return Sampler(Capture.model_validate({"on": True, **options}), clock, random.Random(1).random)


def test_all_that_is_unsure_and_a_random_share_of_everything_is_chosen() -> None:
    """10,000 photos of which 5 % are unsure; the share is that of the recipe within 3 standard deviations."""
    chooser = sampler(Clock(), random=0.02, photos_per_hour=10_000)
    chosen = [(number % 20 == 0, chooser.choose(number % 20 == 0, outside=False)) for number in range(10_000)]
    sampled = [unsure for unsure, row in chosen if row and row.reason == RANDOM]
    assert abs(len(sampled) - 200) < 3 * (10_000 * 0.02 * 0.98) ** 0.5
    assert any(sampled), "an unsure photo may be one of the random sample"
    assert all(row for unsure, row in chosen if unsure)
    assert {row.probability for _, row in chosen if row and row.reason == UNSURE} == {1.0}
    assert {row.probability for _, row in chosen if row and row.reason == RANDOM} == {0.02}
    assert chooser.lost == 0


def test_a_cap_holds_for_each_reason_and_lowers_the_share_of_the_next_hour() -> None:
    clock = Clock()
    chooser = sampler(clock, random=0.1, photos_per_hour=20)
    rows = [chooser.choose(number % 2 == 0, outside=False) for number in range(1000)]
    reasons = [row.reason for row in rows if row]
    assert (reasons.count(RANDOM), reasons.count(UNSURE)) == (20, 20)
    assert chooser.lost > 400
    clock.now += 3600
    rows = [chooser.choose(unsure=False, outside=False) for _ in range(500)]
    assert chooser.share == pytest.approx(20 / 1000)
    assert {row.probability for row in rows if row} == {20 / 1000}


def test_the_spool_never_holds_more_than_its_limit_and_counts_what_is_lost(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 3 * 1100)
    for number in range(5):
        spool.offer(bytes(1000), {"number": number})
        spool.wait()
    assert len(list((tmp_path / "spool").glob("*.capture"))) == 3
    assert sum(path.stat().st_size for path in (tmp_path / "spool").iterdir()) <= 3 * 1100
    assert spool.lost == 2


def test_a_folder_that_cannot_be_written_loses_captures_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    spool = Spool(tmp_path / "file" / "spool", 10**6)
    for _ in range(3):
        spool.offer(b"photo", {})
        spool.wait()
    assert spool.lost == 3


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return site_in(tmp_path)


def captured(site: Site, *contents: bytes, reason: str = RANDOM) -> None:
    spool = Spool(site.settings.spool, 10**8)
    answer = {"model": "shapes", "result": "circle", "confidence": 0.6, "unsure": True, "model_version": "1.0"}
    for content in contents:
        spool.offer(content, {"reason": reason, "probability": 0.02, **answer})
        spool.wait()


def test_captured_photos_reach_the_review_with_their_probability(site: Site) -> None:
    captured(site, jpeg(1), jpeg(2))
    (site.settings.spool / "bad.capture").write_bytes(b"{}\nnothing")
    (site.settings.spool / "no-photo.capture").write_bytes(
        json.dumps({"reason": "random", "probability": 1, "model": "m", "result": "r", "confidence": 1}).encode()
    )
    assert ingest(site.album, site.settings.spool, Limits()) == 2
    assert ingest(site.album, site.settings.spool, Limits()) == 0
    assert list(site.settings.spool.glob("*.capture")) == []
    with site.database.begin() as session:
        assert {(row.reason, row.probability) for row in session.scalars(select(Photo))} == {(RANDOM, 0.02)}
    ben, eve = Browser(site).signed_in("ben", "reviewer"), Browser(site).signed_in("eve", "reviewer")
    page = ben.get("/review").text
    assert "random" not in page, "the reviewer can tell which photos are the sample"
    photo = ben.shown()
    for reviewer in (ben, eve):
        reviewer.post(f"/review/{photo}", decision="label:square")
    (agreed,) = site.album.agreed(0, 10)
    assert (agreed[0].id, agreed[0].reason, agreed[1]) == (photo, RANDOM, None)
    assert ben.get("/results/1").status_code == 404


@pytest.mark.slow
def test_half_of_the_queue_is_the_random_sample(site: Site) -> None:
    ann = Browser(site).signed_in("ann")
    for seed in range(20, 24):
        ann.upload(jpeg(seed))
    for seed in range(4):
        site.album.add(
            Answered(jpeg(seed), "x", "shapes", {"result": "circle"}, 0), None, "", Limits(), Why(RANDOM, 0.5)
        )
    ben, shown = site.people.add("ben", "reviewer", "a long password").id, []
    for _ in range(8):
        photo = site.album.queue(ben, 3)[0]
        shown.append(photo.reason)
        site.album.review(photo.id, ben, "label:square")
    assert shown == [RANDOM, "upload"] * 4


@pytest.fixture(scope="module")
def archive(light: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The light model as TorchServe unpacks it."""
    folder = tmp_path_factory.mktemp("capture")
    return unpacked(pack_quickly(light, "1.0", folder / "store"), folder / "unpacked")


def service(archive: Path, folder: Path, **capture: object) -> tuple[ClassifierService, Path]:
    """A worker of an archive whose recipe captures."""
    copy = Path(shutil.copytree(archive, folder))
    recipe = json.loads((copy / "recipe.json").read_text())
    write_json(copy / "recipe.json", {**recipe, "capture": capture})
    return started(copy), copy


@pytest.mark.parametrize("place", ["spool", "file/spool"])
def test_answers_are_the_same_with_a_spool_and_with_one_that_cannot_be_written(
    place: str, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(SPOOL, str(tmp_path / place))
    bodies = [encoded(jpeg(seed), f"secret-{seed}", detail=True) for seed in range(3)]
    plain, folder = service(archive, tmp_path / "off", on=False)
    assert plain.capturing is None
    expected, _ = ask(plain, folder, *bodies)
    capturing, folder = service(archive, tmp_path / "on", on=True, random=1)
    assert ask(capturing, folder, *bodies)[0] == expected
    assert capturing.capturing
    capturing.capturing.spool.wait()
    caplog.clear()  # another test may have set the level before
    with caplog.at_level(logging.INFO):
        assert ask(capturing, folder, bodies[0])[0] == expected[:1]
    line = json.loads(next(record.message for record in caplog.records if record.message.startswith('{"time"')))
    assert line["capture_lost"] == (0 if place == "spool" else 3)
    capturing.capturing.spool.wait()
    found = [path.read_bytes() for path in (tmp_path / "spool").glob("*.capture")]
    assert len(found) == (4 if place == "spool" else 0)
    photos = {row.partition(b"\n")[2] for row in found}
    assert photos == ({jpeg(seed) for seed in range(3)} if found else set())
    assert not any(b"secret" in row for row in found), "what the client sent is stored"
