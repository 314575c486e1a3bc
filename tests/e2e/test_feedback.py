"""The feedback pages in a real browser: upload, correction, agreement; on a phone and without JavaScript.

One test goes the whole way: a photo is answered wrongly, corrected, agreed on and learnt from at night; the new model
is judged, signed, delivered and rolled out under load, and answers the photo correctly.
"""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from benchmarks.harness.server import measured_server
from feedback.accounts.people import People
from feedback.delivery.keys import make_key
from feedback.publish import application
from feedback.review.arrivals import Answered
from feedback.settings import read_settings
from feedback.web.app import open_site
from feedback.web.site import Site
from handler.spec import Limits
from tests.helpers.commands import command, newest
from tests.helpers.feedback import LABELS, PASSWORD, jpeg, running, site_in
from tests.helpers.night import tints
from tests.helpers.running.browser import running_browser
from tests.helpers.running.forked import PYTHON, python_that_forks
from tests.helpers.waiting import Once

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: run make test")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed: run make test")
expect = sync_api.expect


@dataclass(frozen=True)
class Pages:
    """Where the pages are, the link that makes the first account, and the accounts."""

    address: str
    link: str
    people: People


@pytest.fixture
def pages(tmp_path: Path) -> Iterator[Pages]:
    site = site_in(tmp_path / "var")
    with running(site) as address:
        yield Pages(address, f"{address}/first?key={site.people.new_first()}", site.people)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with running_browser() as running:
        yield running


@pytest.fixture(autouse=True)
def _closed(browser: Any) -> Iterator[None]:
    """Pages do not outlive their test."""
    yield
    for context in browser.contexts:
        context.close()


def opened(browser: Any, address: str, **options: object) -> Any:
    """A page whose scripts may not fail and which may ask no other server."""
    page = browser.new_context(**options).new_page()
    page.set_default_timeout(30_000)
    expect.set_options(timeout=30_000)
    page.on("pageerror", lambda error: pytest.fail(str(error)))
    page.on("request", lambda request: None if request.url.startswith((address, "blob:")) else pytest.fail(request.url))
    return page


def sign_in(page: Any, address: str, name: str) -> None:
    page.goto(f"{address}/login")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Upload photos")).to_be_visible()


def test_a_photo_is_uploaded_corrected_and_agreed(browser: Any, pages: Pages, tmp_path: Path) -> None:
    address = pages.address
    photo = tmp_path / "a drawing.jpg"
    photo.write_bytes(jpeg(4, "stripes"))
    ann = opened(browser, address)
    ann.goto(pages.link)
    ann.get_by_label("Name").fill("ann")
    ann.get_by_label(re.compile("Password")).fill(PASSWORD)
    scripts: list[Any] = []
    # A slow connection: the photo is chosen before the script arrives.
    ann.route("**/feedback.js", lambda route: scripts.append(route), times=1)
    with ann.expect_request("**/feedback.js"):
        ann.get_by_role("button", name="Make the account").click()
    ann.get_by_label("Choose one or more photos").set_input_files(photo)
    scripts[0].continue_()
    expect(ann).to_have_url(re.compile(r"/results/1$"))
    expect(ann.get_by_text(re.compile(r"shapes 1\.0 answered in 12 ms"))).to_be_visible()
    expect(ann.get_by_role("heading", level=1)).to_have_text(LABELS[0])
    wrong = LABELS[1]
    ann.get_by_role("group", name="Wrong, it is").get_by_role("button", name=wrong).click()
    expect(ann.locator("#own")).to_contain_text(f"You said: {wrong}")
    ann.goto(f"{address}/review")
    expect(ann.get_by_text("No photo waits for you")).to_be_visible()

    pages.people.add("ben", "reviewer", PASSWORD)
    ben = opened(browser, address, viewport={"width": 390, "height": 844}, color_scheme="dark")
    sign_in(ben, address, "ben")
    ben.goto(f"{address}/review")
    expect(ben.get_by_role("img", name="The photo to judge")).to_be_visible()
    assert ben.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page is wider than a phone"
    ben.keyboard.press(str(LABELS.index(wrong) + 1))
    expect(ben.get_by_text("No photo waits for you")).to_be_visible()
    ann.goto(f"{address}/mine")
    expect(ann.get_by_text(f"agreed: {wrong}")).to_be_visible()


def test_pages_work_without_javascript(browser: Any, pages: Pages, tmp_path: Path) -> None:
    pages.people.add("eve", "uploader", PASSWORD)
    photos = [tmp_path / "one.jpg", tmp_path / "two.jpg"]
    for seed, path in enumerate(photos, 20):
        path.write_bytes(jpeg(seed))
    page = opened(browser, pages.address, java_script_enabled=False)
    sign_in(page, pages.address, "eve")
    page.get_by_label("Choose one or more photos").set_input_files(photos)
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("heading", name="My uploads")).to_be_visible()
    assert page.locator(".cards li").count() == 2
    page.locator(".cards a").first.click()
    page.get_by_role("button", name="Right").click()
    expect(page.locator("#own")).to_contain_text("You said")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_no_page_has_a_serious_accessibility_fault(
    browser: Any, pages: Pages, tmp_path: Path, scheme: str, width: int
) -> None:
    pages.people.add("ann", "reviewer", PASSWORD)
    photo = tmp_path / "drawing.jpg"
    photo.write_bytes(jpeg(4, "stripes"))
    page = opened(browser, pages.address, color_scheme=scheme, viewport={"width": width, "height": 844})
    page.goto(f"{pages.address}/login")
    assert faults(page) == []
    sign_in(page, pages.address, "ann")
    upload(page, pages.address, photo)
    expect(page.locator("h1")).to_have_text(LABELS[0])
    assert faults(page) == []
    for path in ("/", "/mine", "/review", "/statistics", "/versions"):
        page.goto(f"{pages.address}{path}")
        assert faults(page) == [], path
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path} is wider than the window"


def faults(page: Any) -> list[str]:
    """What axe-core finds of serious or critical impact."""
    found = axe.Axe().run(page).response["violations"]
    return [f"{row['id']}: {row['nodes'][0]['html']}" for row in found if row["impact"] in ("serious", "critical")]


def upload(page: Any, address: str, photo: Path) -> None:
    page.goto(address)
    page.get_by_label("Choose one or more photos").set_input_files(photo)


def agree(site: Site, seeds: range) -> None:
    """Photos that the model is wrong about, and two accounts agree on, as the pages store them."""
    decision, answer = f"label:{tints.AGREED['yellow']}", {"result": tints.TAUGHT["yellow"], "model_version": "1.0"}
    for seed in seeds:
        answered = Answered(tints.tinted("yellow", seed), f"{seed}.jpg", "tints", answer, 1.0)
        number = site.album.add(answered, 1, "", Limits())
        site.album.correct(number, 1, "", decision)
        site.album.review(site.album.upload(number, 1, "")[1].id, 2, decision)


@pytest.fixture(scope="session")
def first(once: Once) -> Path:
    """The model of the first night (tests/helpers/night/tints.py), as archive 1.0 in the folder `store`."""

    def make(folder: Path) -> None:
        tints.train_first(folder)
        command("deploy", "archive", folder / "signed", "1.0", env={"SERVE_STORE": str(folder / "store")})

    return once("tints", make)


def test_a_wrong_answer_is_corrected_learnt_from_and_right_in_the_next_version(
    browser: Any, first: Path, tmp_path: Path
) -> None:
    wrong, right = tints.TAUGHT["yellow"], tints.AGREED["yellow"]
    photo, key, token, work = tmp_path / "yellow.jpg", tmp_path / "trainer.key", tmp_path / "token", tmp_path / "work"
    photo.write_bytes(tints.tinted("yellow", 500))
    frozen = tints.write_photos(tmp_path / "frozen", tints.AGREED, range(1000, 1060))
    store = Path(shutil.copytree(first / "store", tmp_path / "store"))
    public, forking = make_key(key), {PYTHON: python_that_forks(tmp_path)}
    with (
        measured_server(tmp_path / "var", store / "tints-1.0.mar", tints.tinted("red", 7)) as torchserve,
        running(application(work / "archives")) as published,
    ):
        environment = {**torchserve.environment, "FEEDBACK_LINKS": published}
        site = open_site(read_settings(environment))
        for name in ("ann", "ben"):
            site.people.add(name, "reviewer", PASSWORD)
        token.write_text(site.people.add_token("trainer", "nightly"))
        with running(site) as address:
            ann, ben = opened(browser, address), opened(browser, address)
            sign_in(ann, address, "ann")
            upload(ann, address, photo)
            expect(ann.get_by_role("heading", level=1)).to_have_text(wrong)
            ann.get_by_role("group", name="Wrong, it is").get_by_role("button", name=right).click()
            expect(ann.locator("#own")).to_contain_text(f"You said: {right}")
            sign_in(ben, address, "ben")
            ben.goto(f"{address}/review")
            expect(ben.get_by_role("img", name="The photo to judge")).to_be_visible()
            ben.keyboard.press(str(tints.LABELS.index(right) + 1))
            expect(ben.get_by_text("No photo waits for you")).to_be_visible()

            words = ["--server", address, "--token-file", token, "--recipe", first / "tints.yaml"]
            words += ["--anchor", newest(first / "runs" / "tints", "train"), "--signed", first / "signed"]
            words += ["--base", first / "base", "--frozen", frozen, "--no-prune", "--no-idle", "--work", work]
            words += ["--publish", published, "--key", key]
            agree(site, range(100, 110))
            few = command("feedback", "nightly", *words, env=forking)
            assert few.stdout == "nothing to learn: 11 newly agreed photos, 20 are needed\n"
            agree(site, range(110, 150))
            with FileLock(work / ".lock"):
                second = command("feedback", "nightly", *words, env=forking, check=False)
                assert (second.returncode, "another nightly run works" in second.stderr) == (1, True)
            done = command("feedback", "nightly", *words, env=forking, check=False)
            gates = [path.read_text() for path in work.glob("nights/*/gate.json")]
            assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{gates}"
            frozen_set, _, held, *_ = (row["numbers"] for row in json.loads(gates[0])["conditions"])
            assert frozen_set["fixes"] - frozen_set["regressions"] > 40, gates
            assert held["fixes"] - held["regressions"] > 4, gates
            again = command("feedback", "nightly", *words, env=forking)
            assert again.stdout == "nothing to learn: 0 newly agreed photos, 20 are needed\n"

            command("feedback", "keys", "trust", public, env=environment)
            with torchserve.load(rate=10) as load:
                delivered = command("feedback", "deliver", env=environment | forking)
                result = load.stop()
            assert delivered.stdout == "tints-2.0.mar serves\n"
            assert result.statuses == {200: result.sent}
            assert (result.lost, result.unanswered, result.wrong, list(result.versions)) == (0, 0, 0, ["1.0", "2.0"])

            upload(ann, address, photo)
            expect(ann.get_by_role("heading", level=1)).to_have_text(right)
            expect(ann.get_by_text(re.compile(r"tints 2\.0 answered in"))).to_be_visible()
            ann.goto(f"{address}/versions")
            expect(ann.get_by_role("heading", name="tints 2: serving")).to_be_visible()
            expect(ann.get_by_text(re.compile("passed: the chance that at most 1%"))).to_be_visible()
