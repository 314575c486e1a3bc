"""A training machine that publishes archives: a folder over HTTP, signed with a key of its own."""

import http.server
import json
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from common.files import write_json
from feedback.delivery.keys import make_key, read_key, text_of, trust
from feedback.delivery.release import sign
from feedback.storage.tables import Model
from feedback.web.site import Site


class _Quiet(http.server.SimpleHTTPRequestHandler):
    """Files of a folder; /models/away/... is a redirect into it."""

    def do_GET(self) -> None:
        if self.path.startswith("/models/away/"):
            self.send_response(302)
            self.send_header("Location", self.path.replace("/away", ""))
            self.end_headers()
            return
        super().do_GET()

    def log_message(self, *_: Any) -> None:
        pass


class Publisher:
    """Archives below FOLDER/models, at `url`/models."""

    def __init__(self, folder: Path, url: str) -> None:
        self.archives, self.url = folder / "models", url
        self.archives.mkdir(exist_ok=True)
        self.key = folder / "trainer.key"
        self.public = text_of(read_key(self.key).public_key()) if self.key.exists() else make_key(self.key)

    def archive(self, name: str = "shapes", version: int = 2, extra: str = "", sign_it: bool = True) -> Path:
        """An archive with little in it; `extra` is the name of one more file in it."""
        mar = self.archives / f"{name}-{version}.0.mar"
        with zipfile.ZipFile(mar, "w") as contents:
            for inside in ("recipe.json", "MAR-INF/MANIFEST.json", *([extra] if extra else [])):
                contents.writestr(inside, "{}")
        mar.with_suffix(".json").write_text("{}")
        if sign_it:
            sign(mar, read_key(self.key))
        return mar

    def link(self, mar: Path, prefix: str = "models") -> str:
        return f"{self.url}/{prefix}/{mar.name}"


@contextmanager
def publishing(folder: Path, port: int = 0) -> Iterator[Publisher]:
    """A running publisher; port 0 is a free one."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), partial(_Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Publisher(folder, f"http://127.0.0.1:{server.server_address[1]}")
    server.shutdown()
    server.server_close()


def announced(site: Site, link: str, name: str = "shapes", version: int = 2) -> Model:
    """A version in the database, without the check of the link by POST /model."""
    with site.database.begin() as session:
        model = Model(name=name, version=version, ckpt_name="night", link=link)
        session.add(model)
    return model


def trusting(site: Site, publisher: Publisher) -> None:
    trust(site.settings.folder, publisher.public)


def change_signed(mar: Path, **values: object) -> None:
    """Change the signed text without signing it again."""
    path = mar.with_name(f"{mar.name}.signed")
    content = json.loads(path.read_text())
    release = json.loads(content["release"]) | values
    path.write_text(json.dumps(content | {"release": json.dumps(release)}))


class Rollout:
    """Stands for `deploy rollout`: it serves the archive of the store, or prints an error."""

    def __init__(self, site: Site) -> None:
        self.site, self.error = site, ""

    def __call__(self, words: list[str], **options: Any) -> "subprocess.CompletedProcess[str]":
        archive = next(Path(word) for word in words if word.endswith(".mar"))
        assert archive.is_file() and archive.with_suffix(".json").is_file()
        if self.error:
            output = json.dumps({"error": {"kind": self.error}})
            return subprocess.CompletedProcess(words, 1, output, "Error: no")
        name, _, version = archive.stem.partition("-")
        write_json(self.site.settings.var / "served.json", [{"name": name, "version": version, "default": True}])
        return subprocess.CompletedProcess(words, 0, "{}", "")
