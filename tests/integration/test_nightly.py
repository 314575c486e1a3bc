"""One night on drawn photos: agreed labels are pulled over HTTP, learnt from, judged and packed."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import uvicorn

from common.files import write_whole
from config.recipe import read_recipe
from feedback.review.album import Answered
from feedback.web.app import application
from feedback.web.site import Site
from handler.spec import Limits
from tests.helpers.commands import SHAPES, command, newest
from tests.helpers.feedback import PASSWORD, FixedClassifier, jpeg, site_in

KINDS = ("discs", "stripes", "crosses")


@contextmanager
def served(labels: tuple[str, ...]) -> Iterator[None]:
    """The model that the application pretends to serve has these labels."""
    with mock.patch.object(FixedClassifier, "labels", labels):
        yield


def label_folders_of_drawings(folder: Path, labels: tuple[str, ...], seeds: range) -> Path:
    for seed in seeds:
        kind = seed % len(labels)
        write_whole(folder / labels[kind] / f"{seed}.jpg", jpeg(seed, KINDS[kind]))
    return folder


@contextmanager
def running(site: Site) -> Iterator[str]:
    """The application on a free port; its address."""
    server = uvicorn.Server(uvicorn.Config(application(site), port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(20)


def agree(site: Site, seeds: range, labels: tuple[str, ...]) -> None:
    """Photos of every label that two accounts agree on."""
    for seed in seeds:
        label = labels[seed % len(labels)]
        data = jpeg(seed, KINDS[seed % len(labels)])
        answered = Answered(data, f"{seed}.jpg", "shapes", {"result": labels[0], "model_version": "1.0"}, 1.0)
        upload = site.album.add(answered, 1, "", Limits())
        site.album.correct(upload, 1, "", f"label:{label}")
        site.album.review(site.album.upload(upload, 1, "")[1].id, 2, f"label:{label}")


def night(server: str, token: Path, run: Path, data: Path, frozen: Path, recipe: Path, work: Path) -> Any:
    words = ["--server", server, "--token-file", token, "--recipe", recipe, "--anchor", run, "--signed", run / "bundle"]
    more = ["--base", data, "--frozen", frozen, "--no-prune", "--work", work]
    return command("feedback", "nightly", *words, *more, check=False)


@pytest.fixture(scope="module")
def labels() -> tuple[str, ...]:
    return tuple(read_recipe(SHAPES).labels)


def test_a_night_learns_judges_packs_and_goes_on_where_it_was_stopped(
    drawn: Path, tmp_path: Path, labels: tuple[str, ...]
) -> None:
    recipe = SHAPES
    command("training", "train", recipe, "--data", drawn, "--runs", tmp_path / "runs", "--epochs", 1)
    anchor = newest(tmp_path / "runs" / "shapes", "train")
    command("training", "export", anchor, "--data", drawn)
    frozen = label_folders_of_drawings(tmp_path / "frozen", labels, range(900, 915))
    site = site_in(tmp_path / "var")
    for name in ("ann", "ben"):
        site.people.add(name, "reviewer", PASSWORD)
    token = tmp_path / "token"
    token.write_text(site.people.add_token("trainer", "nightly"))
    work = tmp_path / "work"
    with served(labels), running(site) as server:
        arguments = (server, token, anchor, drawn, frozen, recipe, work)
        agree(site, range(100, 110), labels)
        few = night(*arguments)
        assert (few.returncode, few.stdout) == (0, "nothing to learn: 10 newly agreed photos, 20 are needed\n"), (
            few.stderr
        )
        agree(site, range(110, 136), labels)
        done = night(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (work / "archives" / "shapes-2.0.mar").is_file()
