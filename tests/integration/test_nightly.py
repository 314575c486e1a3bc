"""One night on drawn photos: agreed labels are pulled over HTTP, learnt from, judged and packed."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from unittest import mock

import pytest
import requests
from filelock import FileLock
from PIL import Image

from common.files import write_whole
from config.recipe import read_recipe
from feedback.review.album import Answered
from feedback.web.site import Site
from handler.spec import Limits
from tests.helpers.commands import SHAPES, command, newest
from tests.helpers.feedback import PASSWORD, FixedClassifier, jpeg, running, site_in

KINDS = ("discs", "stripes", "crosses")
OTHERS = ("room", "call")
"""Drawings that the anchor does not know: people agree to call them disc and stripe."""


@contextmanager
def served(labels: tuple[str, ...]) -> Iterator[None]:
    """The model that the application pretends to serve has these labels."""
    with mock.patch.object(FixedClassifier, "labels", labels):
        yield


def turned_drawings(folder: Path, labels: tuple[str, ...], count: int) -> Path:
    """Label folders of small drawings, each turned and mirrored in eight ways: near duplicates to nobody."""
    for seed in range(900, 900 + count):
        kind = seed % len(labels)
        small = Image.open(BytesIO(jpeg(seed, KINDS[kind], 160)))
        for number, way in enumerate((None, *Image.Transpose)):
            buffer = BytesIO()
            (small.transpose(way) if way is not None else small).save(buffer, "JPEG")
            write_whole(folder / labels[kind] / f"{seed}-{number}.jpg", buffer.getvalue())
    return folder


def agree(site: Site, seeds: range, labels: tuple[str, ...]) -> None:
    """Photos that two accounts agree on."""
    for seed in seeds:
        label = labels[seed % 2]
        data = jpeg(seed, OTHERS[seed % 2], 160)
        answered = Answered(data, f"{seed}.jpg", "shapes", {"result": labels[0], "model_version": "1.0"}, 1.0)
        upload = site.album.add(answered, 1, "", Limits())
        site.album.correct(upload, 1, "", f"label:{label}")
        site.album.review(site.album.upload(upload, 1, "")[1].id, 2, f"label:{label}")


@pytest.fixture(scope="module")
def labels() -> tuple[str, ...]:
    return tuple(read_recipe(SHAPES).labels)


def test_a_night_learns_judges_packs_and_goes_on_where_it_was_stopped(
    drawn: Path, runs: Path, bundle: Path, tmp_path: Path, labels: tuple[str, ...]
) -> None:
    site = site_in(tmp_path / "var", FEEDBACK_LINKS="http://trainer:8181/models")
    for name in ("ann", "ben"):
        site.people.add(name, "reviewer", PASSWORD)
    token = tmp_path / "token"
    token.write_text(site.people.add_token("trainer", "nightly"))
    frozen, work = turned_drawings(tmp_path / "frozen", labels, 36), tmp_path / "work"
    with served(labels), running(site) as server:
        words = ["--server", server, "--token-file", token, "--recipe", SHAPES, "--anchor", newest(runs, "train")]
        words += ["--signed", bundle, "--base", drawn, "--frozen", frozen, "--no-prune", "--work", work]
        words += ["--publish", "http://trainer:8181/models"]
        agree(site, range(100, 110), labels)
        few = command("feedback", "nightly", *words)
        assert few.stdout == "nothing to learn: 10 newly agreed photos, 20 are needed\n"
        agree(site, range(110, 150), labels)
        with FileLock(work / ".lock"):
            second = command("feedback", "nightly", *words, check=False)
            assert (second.returncode, "another nightly run works" in second.stderr) == (1, True)
        done = command("feedback", "nightly", *words, check=False)
        gates = [path.read_text() for path in work.glob("nights/*/gate.json")]
        assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{gates}"
        assert f"python -m deploy rollout {work}/archives/shapes-2.0.mar" in done.stdout
        assert requests.get(f"{server}/model", headers=bearer(token), timeout=20).json()["version"] == 2
        again = command("feedback", "nightly", *words)
        assert again.stdout == "nothing to learn: 0 newly agreed photos, 20 are needed\n"
    snapshot = next(work.glob("snapshots/*"))
    parts = json.loads((snapshot / "snapshot.json").read_text())["photos"]
    assert parts["train"] > parts["held"] > 0


def bearer(token: Path) -> dict[str, str]:
    return {"Authorization": f"Bearer {token.read_text()}"}
