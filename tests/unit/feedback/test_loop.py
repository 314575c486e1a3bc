"""Upload, answer, correction, blind second opinion: through the application's public door, without a TorchServe."""

import re
import threading
from pathlib import Path

import pytest

from feedback.review import statistics
from feedback.review.album import Refused
from feedback.review.arrivals import Answered
from feedback.web.site import Site
from handler.spec import Limits
from tests.helpers.feedback import LABELS, Browser, FixedClassifier, jpeg, site_in
from tests.helpers.night.tints import tinted
from tests.helpers.waiting import eventually


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return site_in(tmp_path)


def machine(site: Site, scope: str = "labels") -> dict[str, str]:
    return {"Authorization": f"Bearer {site.people.add_token('trainer', scope)}"}


def agreed(site: Site) -> list[tuple[int, str]]:
    rows = Browser(site).client.get("/user-labels", headers=machine(site)).json()
    return [(row["label"], row["name"]) for row in rows]


def test_a_corrected_photo_is_agreed_when_a_second_account_chooses_the_same_blind(site: Site) -> None:
    ann, ben = Browser(site).signed_in("ann"), Browser(site).signed_in("ben", "reviewer")
    result = ann.upload(jpeg(1))
    page = ann.get(f"/results/{result}").text
    assert "The model is unsure: its confidence is only 70%." in page
    assert "shapes 1.0 answered in 12 ms" in page
    assert ann.post(f"/results/{result}", label="label:square").status_code == 303
    assert "You said: <b>square</b>" in ann.get(f"/results/{result}").text
    assert agreed(site) == []
    review = ben.get("/review").text
    assert "70" not in re.sub(r"/uploads/\w+|[0-9a-f]{64}", "", review).partition("<main>")[2], (
        "the model's answer is visible"
    )
    assert ben.post(f"/review/{ben.shown()}", decision="label:square").status_code == 303
    assert agreed(site) == [(1, "square")]
    assert ben.shown() == 0


def test_nobody_agrees_with_themselves(site: Site) -> None:
    """Neither in a second tab, nor under another file name, nor with a re-encoded copy."""
    ann = Browser(site).signed_in("ann", "reviewer")
    result = ann.upload(jpeg(1))
    photo = site.album.upload(result, 1, "")[1].id
    ann.post(f"/results/{result}", label="label:square")
    tab = Browser(site)
    assert tab.post("/login", name="ann", password="a long password").status_code == 303
    assert tab.shown() == 0
    assert tab.post(f"/review/{photo}", decision="label:square").status_code == 409
    renamed = ann.upload(jpeg(1), "another name.jpg")
    ann.post(f"/results/{renamed}", label="label:square")
    assert agreed(site) == []
    ben = Browser(site).signed_in("ben")
    copy = ben.upload(jpeg(1, quality=50))
    copied = site.album.upload(copy, 2, "")[1].id
    assert copied != photo
    ben.post(f"/results/{copy}", label="label:square")
    assert ann.shown() == 0
    assert ann.post(f"/review/{copied}", decision="label:square").status_code == 409
    assert agreed(site) == []


def test_a_third_opinion_decides_a_disagreement(site: Site) -> None:
    ann = Browser(site).signed_in("ann")
    ben, eve = Browser(site).signed_in("ben", "reviewer"), Browser(site).signed_in("eve", "reviewer")
    ann.post(f"/results/{ann.upload(jpeg(1))}", label="label:square")
    photo = ben.shown()
    ben.post(f"/review/{photo}", decision="label:circle")
    assert agreed(site) == []
    assert eve.shown() == photo
    eve.post(f"/review/{photo}", decision="label:circle")
    assert agreed(site) == [(0, "circle")]
    assert "people disagree" not in ann.get("/mine").text


def test_the_queue_can_be_filtered_and_stays_filtered(site: Site) -> None:
    ann = Browser(site).signed_in("ann")
    ben, eve = Browser(site).signed_in("ben", "reviewer"), Browser(site).signed_in("eve", "reviewer")
    photos = {}
    for seed, state in enumerate(("new", "proposed", "disagreed")):
        result = ann.upload(jpeg(seed))
        photos[state] = site.album.upload(result, 1, "")[1].id
        if state != "new":
            ann.post(f"/results/{result}", label="label:square")
    ben.post(f"/review/{photos['disagreed']}", decision="label:circle")
    for state, photo in photos.items():
        assert re.findall(r'action="/review/(\d+)"', eve.get(f"/review?only={state}").text) == [str(photo)]
    answer = eve.post(f"/review/{photos['disagreed']}", decision="label:circle", only="disagreed")
    page = eve.get(answer.headers["location"]).text
    assert "No photo waits for you here" in page
    assert 'aria-current="true">people disagree about' in page
    assert eve.shown() in (photos["new"], photos["proposed"])
    assert eve.get("/review?only=nonsense").status_code == 200


@pytest.mark.slow
def test_a_person_who_labels_wrongly_two_hundred_times_changes_nothing(site: Site) -> None:
    """Neither alone, nor by judging the own photos in the review."""
    eve = site.people.add("eve", "reviewer", "a long password").id
    for seed in range(200):
        answered = Answered(tinted("red", seed), "x.jpg", "shapes", {"result": "circle"}, 1.0)
        number = site.album.add(answered, eve, "", Limits())
        site.album.correct(number, eve, "", "label:square")
        if seed % 10 == 0:
            with pytest.raises(Refused):
                site.album.review(site.album.upload(number, eve, "")[1].id, eve, "label:square")
    assert agreed(site) == []
    assert site.album.queue(eve, 3) == []


def test_confirmations_count_and_broken_photos_are_set_aside(site: Site) -> None:
    ann, ben = Browser(site).signed_in("ann"), Browser(site).signed_in("ben", "reviewer")
    right, broken = ann.upload(jpeg(1)), ann.upload(jpeg(2))
    ann.post(f"/results/{right}", right="1")
    ann.post(f"/results/{broken}", label="broken")
    first = site.album.upload(right, 1, "")[1].id
    for _ in range(2):
        ben.post(f"/review/{(photo := ben.shown())}", decision="label:circle" if photo == first else "broken")
    assert agreed(site) == [(0, "circle")]
    assert "set aside" in ann.get("/mine").text
    table = ben.get("/statistics").text
    assert '<th scope="row">aside</th>' in table
    assert "100%" in table


def test_the_page_shows_the_last_statistics_while_new_ones_are_read(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "RECENT_S", 0)
    recent, read, go_on = statistics.RecentStatistics(), statistics.Statistics.of, threading.Event()
    first = recent.of(site.database)
    Browser(site).signed_in("ann").upload(jpeg(1))
    monkeypatch.setattr(statistics.Statistics, "of", lambda database: (go_on.wait(), read(database))[1])
    assert recent.of(site.database) is first
    go_on.set()
    eventually(lambda: recent.of(site.database).uploads == 1)


def test_several_photos_in_one_form_and_a_list_of_many_labels(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    many = tuple(f"breed {number}" for number in range(37))
    monkeypatch.setattr(FixedClassifier, "labels", many)
    ann = Browser(site).signed_in("ann")
    files = [("file", (f"{number}.jpg", jpeg(number), "image/jpeg")) for number in (1, 2, 3)]
    answer = ann.post("/upload_image", files=files)
    assert answer.headers["location"] == "/mine"
    assert ann.get("/mine").text.count('href="/results/') == 3
    page = ann.get("/results/1").text
    assert page.count("<progress") == 5
    assert "and 32 labels that are less likely" in page
    assert page.count("<option") == 36
    assert ann.post("/results/1", label="breed 36").status_code == 303
    assert "You said: <b>breed 36</b>" in ann.get("/results/1").text
    assert ann.post("/results/1", label="breed 99").status_code == 400


def test_the_first_start_prints_a_link_that_works_once(site: Site) -> None:
    key = site.people.new_first()
    assert key
    owner = Browser(site)
    assert owner.get(f"/first?key={key}x").status_code == 404
    short = owner.post("/first", key=key, name="ann", password="short")
    assert "choose 10 to 200 characters" in short.text
    assert owner.post("/first", key=key, name="ann", password="a long password").status_code == 303
    assert owner.get("/statistics").status_code == 200
    assert Browser(site).post("/first", key=key, name="eve", password="a long password").status_code == 404
    assert site.people.new_first() is None


def test_anonymous_uploads_are_off_and_never_a_first_opinion(tmp_path: Path) -> None:
    assert Browser(site_in(tmp_path / "off")).get("/").headers["location"] == "/login"
    site = site_in(tmp_path / "on", FEEDBACK_ANONYMOUS="yes")
    visitor, ben = Browser(site), Browser(site).signed_in("ben", "reviewer")
    result = visitor.upload(jpeg(1))
    visitor.post(f"/results/{result}", label="label:square")
    assert "You said" not in Browser(site).get(f"/results/{result}").text
    ben.post(f"/review/{ben.shown()}", decision="label:square")
    assert agreed(site) == []


def test_a_photo_like_a_frozen_one_is_never_handed_to_the_training(tmp_path: Path) -> None:
    from io import BytesIO

    from PIL import Image

    from feedback.photos.hashing import phash

    frozen = phash(Image.open(BytesIO(jpeg(1))))
    site = site_in(tmp_path, (frozen,))
    ann, ben = Browser(site).signed_in("ann"), Browser(site).signed_in("ben", "reviewer")
    for data in (jpeg(1, quality=60, side=200), jpeg(2)):
        ann.post(f"/results/{ann.upload(data)}", label=LABELS[1])
        ben.post(f"/review/{ben.shown()}", decision=f"label:{LABELS[1]}")
    rows = Browser(site).client.get("/user-labels?detail=1", headers=machine(site)).json()
    assert [row["id"] for row in rows] == [2]
