"""The feedback pages in a real browser: upload, correction, agreement; on a phone and without JavaScript."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from feedback.accounts.people import People
from tests.helpers.feedback import LABELS, PASSWORD, jpeg, running, site_in

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: run make test")
expect = sync_api.expect
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium here: apt-get install chromium")


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
    with sync_api.sync_playwright() as play:
        running = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


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
    ann.get_by_role("button", name="Make the account").click()
    ann.get_by_label("Choose one or more photos").set_input_files(photo)
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
