"""Take the pictures of the feedback pages in docs/images: drawn photos, light and dark.

    python -m scripts.record_pages

Needs playwright and Chromium (make test). No model is involved: the answer is made up.
"""

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import uvicorn
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from common.cli import command
from common.errors import NotFound
from dataset.draw import draw
from deploy.settings import ROOT
from feedback.settings import read_settings
from feedback.web.app import application, open_site
from feedback.web.classifier import Classifier, Served
from feedback.web.site import Site
from handler.spec import Input, Spec

IMAGES = ROOT / "docs" / "images"
PASSWORD = "a long password"
WINDOW = {"width": 1000, "height": 700}
KINDS = {"room": 3, "call": 4, "discs": 5}


class _Drawn(Classifier):
    """Answers `online`, and is unsure."""

    def served(self) -> Served:
        spec = Spec(name="classroom", labels=("offline", "online"), input=Input(height=700, width=500))
        return Served("classroom", "1.0", spec)

    def ask(self, data: bytes) -> tuple[dict[str, Any], float]:
        answer = {"result": "online", "confidence": 0.71, "unsure": True, "model_version": "1.0"}
        return {**answer, "probabilities": {"online": 0.71, "offline": 0.29}}, 14.0


@contextmanager
def _running(folder: Path) -> Iterator[str]:
    site = open_site(read_settings({"SERVE_VAR": str(folder)}))
    site = Site(site.settings, site.database, site.people, site.album, _Drawn(site.settings))
    for name in ("ann", "ben"):
        site.people.add(name, "reviewer", PASSWORD)
    server = uvicorn.Server(uvicorn.Config(application(site), port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(20)
    site.database.close()


def _photo(kind: str) -> dict[str, Any]:
    drawn, buffer = draw(kind, KINDS[kind]), BytesIO()
    drawn.thumbnail((900, 900))
    drawn.save(buffer, "JPEG", quality=90)
    return {"name": f"{kind}.jpg", "mimeType": "image/jpeg", "buffer": buffer.getvalue()}


def _signed_in(browser: Any, address: str, name: str, scheme: str) -> Page:
    page: Page = browser.new_context(viewport=WINDOW, color_scheme=scheme).new_page()
    page.goto(f"{address}/login")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Upload photos").wait_for()
    return page


def _write(page: Page, name: str) -> None:
    """Write a picture of a page with 128 colours: half of the bytes."""
    with Image.open(BytesIO(page.screenshot())) as picture:
        picture.convert("RGB").quantize(128).save(IMAGES / name, optimize=True)


@command(epilog="Example: python -m scripts.record_pages")
def main() -> None:
    """Take the pictures of the feedback pages in docs/images."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise NotFound("there is no Chromium here", "apt-get install chromium")
    with tempfile.TemporaryDirectory() as name, _running(Path(name)) as address, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        ann, ben = _signed_in(browser, address, "ann", "light"), _signed_in(browser, address, "ben", "dark")
        for kind in KINDS:
            ann.goto(address)
            ann.get_by_label("Choose one or more photos").set_input_files([_photo(kind)])
            ann.wait_for_url("**/results/*")
            if kind == "room":
                _write(ann, "feedback-result.png")
            ann.get_by_role("button", name="Right").click()
        ben.goto(f"{address}/review")
        ben.get_by_role("img", name="The photo to judge").wait_for()
        _write(ben, "feedback-review-dark.png")
        browser.close()


if __name__ == "__main__":
    main()
