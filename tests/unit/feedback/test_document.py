"""The client of the pets document, in the form that its text describes; only the constant URL has a token."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from PIL import Image

from feedback.web.site import Site
from tests.helpers.feedback import Browser, jpeg, running, site_in


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return site_in(tmp_path, FEEDBACK_LINKS="http://trainer:8181/shapes")


@pytest.fixture
def url(site: Site) -> Iterator[str]:
    """The constant URL of the client."""
    token = site.people.add_token("trainer", "nightly")
    with running(site) as address:
        yield address.replace("http://", f"http://machine:{token}@")


def test_it_downloads_the_agreed_photos_and_announces_the_next_version(site: Site, url: str, tmp_path: Path) -> None:
    ann, ben = Browser(site).signed_in("ann"), Browser(site).signed_in("ben", "reviewer")
    ann.post(f"/results/{ann.upload(jpeg(1))}", label="1")  # the document's form sends a class index
    ben.post(f"/review/{ben.shown()}", decision="label:square")

    images = json.loads(requests.get(f"{url}/user-labels", timeout=20).text)
    assert [sorted(image) for image in images] == [["id", "label", "name", "url"]]
    for image in images:
        target = tmp_path / image["name"] / (image["url"].split("/")[-1] + ".jpg")
        target.parent.mkdir()
        with target.open("wb") as file:
            for chunk in requests.get(f"{url}{image['url']}", timeout=20):
                file.write(chunk)
        with Image.open(target) as photo:
            assert (image["label"], photo.format) == (1, "JPEG")

    assert requests.get(f"{url}/model", timeout=20).status_code == 404
    link = "http://trainer:8181/shapes/8.zip"
    data = {"link": link, "ckpt_name": "2017-05-26_02-12-49", "version": 8, "name": "shapes"}
    row = requests.post(f"{url}/model", data=data, timeout=20).json()
    assert row == {**data, "id": 1}
    latest = json.loads(requests.get(f"{url}/model", timeout=20).text)
    assert (latest["ckpt_name"], int(latest["version"])) == ("2017-05-26_02-12-49", 8)
    assert requests.post(f"{url}/model", data=data, timeout=20).status_code == 409
