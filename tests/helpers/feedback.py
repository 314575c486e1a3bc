"""The web application of the feedback loop without a TorchServe: a model that answers what a test tells it."""

import functools
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.testclient import TestClient

from dataset.draw import draw
from feedback.settings import Settings, read_settings
from feedback.web.app import application, open_site
from feedback.web.classifier import Classifier, Served
from feedback.web.site import Site
from handler.spec import Input, Spec

LABELS = ("circle", "square")
PASSWORD = "a long password"
ORIGIN = "http://testserver"


class FixedClassifier(Classifier):
    """Answers the first label; `labels` are those of the recipe that it pretends to serve."""

    labels: tuple[str, ...] = LABELS
    confidence = 0.7

    def served(self) -> Served:
        return Served("shapes", "1.0", Spec(name="shapes", labels=self.labels, input=Input(height=32, width=32)))

    def ask(self, data: bytes) -> tuple[dict[str, Any], float]:
        rest = (1 - self.confidence) / (len(self.labels) - 1)
        probabilities = {label: self.confidence if not index else rest for index, label in enumerate(self.labels)}
        answer = {"result": self.labels[0], "probabilities": probabilities, "confidence": self.confidence}
        return {**answer, "unsure": self.confidence < 0.8, "model_version": "1.0"}, 12.0


def site_in(folder: Path, frozen: tuple[str, ...] = (), **environ: str) -> Site:
    """A site with its own database and photos."""
    site = open_site(settings_in(folder, **environ), frozen)
    return Site(site.settings, site.database, site.people, site.album, FixedClassifier(site.settings))


def settings_in(folder: Path, **environ: str) -> Settings:
    return read_settings({"SERVE_VAR": str(folder), **environ})


@contextmanager
def running(served: Site | Starlette) -> Iterator[str]:
    """An application, or that of a site, on a free port; its address."""
    app = application(served) if isinstance(served, Site) else served
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(20)


class Browser:
    """A browser at the application: it keeps cookies and sends the forms of the page that it sees."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.client = TestClient(application(site), ORIGIN, follow_redirects=False)

    def signed_in(self, name: str, role: str = "uploader") -> "Browser":
        self.site.people.add(name, role, PASSWORD)
        assert self.post("/login", name=name, password=PASSWORD).status_code == 303
        return self

    def get(self, path: str, **headers: str) -> Any:
        return self.client.get(path, headers=headers)

    def csrf(self, page: str = "/login") -> str:
        """The token in the forms of a page."""
        found = re.search(r'name="csrf" value="([0-9a-f]+)"', self.get(page).text)
        assert found, self.get(page).text
        return found[1]

    def post(self, path: str, files: Any = None, **fields: str) -> Any:
        data = {"csrf": self.csrf(), **fields}
        return self.client.post(path, data=data, files=files, headers={"Origin": ORIGIN})

    def upload(self, data: bytes, name: str = "photo.jpg") -> int:
        """Upload a photo; the id of its result."""
        answer = self.post("/upload_image", files={"file": (name, data, "image/jpeg")})
        assert answer.status_code == 303, answer.text
        return int(answer.headers["location"].removeprefix("/results/"))

    def shown(self) -> int:
        """The photo that the review shows."""
        found = re.search(r'action="/review/(\d+)"', self.get("/review").text)
        return int(found[1]) if found else 0


@functools.cache
def jpeg(seed: int, kind: str = "discs", side: int = 320, **options: Any) -> bytes:
    """A drawn photo."""
    picture = draw(kind, seed)
    picture.thumbnail((side, side))
    buffer = BytesIO()
    picture.save(buffer, "JPEG", **{"quality": 90, **options})
    return buffer.getvalue()
