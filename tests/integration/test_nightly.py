"""One night on drawn photos: agreed labels are pulled over HTTP, learnt from, judged and packed."""

import json
from pathlib import Path

import pytest
import requests
from filelock import FileLock

from feedback.delivery.keys import make_key
from feedback.delivery.release import verified
from feedback.review.album import Answered
from feedback.web.site import Site
from handler.spec import Limits
from tests.helpers.commands import command, newest
from tests.helpers.feedback import PASSWORD, FixedClassifier, running, site_in
from tests.helpers.night import tints
from tests.helpers.waiting import Once


def agree(site: Site, seeds: range) -> None:
    """Photos that the model is wrong about, and two accounts agree on."""
    decision, answer = f"label:{tints.AGREED['yellow']}", {"result": tints.LABELS[0], "model_version": "1.0"}
    for seed in seeds:
        answered = Answered(tints.tinted("yellow", seed), f"{seed}.jpg", "tints", answer, 1.0)
        upload = site.album.add(answered, 1, "", Limits())
        site.album.correct(upload, 1, "", decision)
        site.album.review(site.album.upload(upload, 1, "")[1].id, 2, decision)


@pytest.fixture(scope="session")
def first(once: Once) -> Path:
    """The model of the first night (tests/helpers/night/tints.py)."""
    return once("tints", tints.train_first)


def test_a_night_learns_judges_packs_and_goes_on_where_it_was_stopped(
    first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FixedClassifier, "labels", tints.LABELS)
    site = site_in(tmp_path / "var", FEEDBACK_LINKS="http://trainer:8181/models")
    for name in ("ann", "ben"):
        site.people.add(name, "reviewer", PASSWORD)
    token = tmp_path / "token"
    token.write_text(site.people.add_token("trainer", "nightly"))
    public = make_key(tmp_path / "trainer.key")
    frozen, work = tints.write_photos(tmp_path / "frozen", tints.AGREED, range(1000, 1060)), tmp_path / "work"
    with running(site) as server:
        words = ["--server", server, "--token-file", token, "--recipe", first / "tints.yaml"]
        words += ["--anchor", newest(first / "runs" / "tints", "train"), "--signed", first / "signed"]
        words += ["--base", first / "base", "--frozen", frozen, "--no-prune", "--no-idle", "--work", work]
        words += ["--publish", "http://trainer:8181/models", "--key", tmp_path / "trainer.key"]
        agree(site, range(100, 110))
        few = command("feedback", "nightly", *words)
        assert few.stdout == "nothing to learn: 10 newly agreed photos, 20 are needed\n"
        agree(site, range(110, 150))
        with FileLock(work / ".lock"):
            second = command("feedback", "nightly", *words, check=False)
            assert (second.returncode, "another nightly run works" in second.stderr) == (1, True)
        done = command("feedback", "nightly", *words, check=False)
        gates = [path.read_text() for path in work.glob("nights/*/gate.json")]
        assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{gates}"
        assert f"python -m deploy rollout {work}/archives/tints-2.0.mar" in done.stdout
        assert requests.get(f"{server}/model", headers=bearer(token), timeout=20).json()["version"] == 2
        again = command("feedback", "nightly", *words)
        assert again.stdout == "nothing to learn: 0 newly agreed photos, 20 are needed\n"
    signed = work / "archives" / "tints-2.0.mar.signed"
    assert verified(signed.read_bytes(), [public]).archive.name == "tints-2.0.mar"
    frozen_set, _, held, _ = json.loads(gates[0])["conditions"]
    assert frozen_set["numbers"]["fixes"] - frozen_set["numbers"]["regressions"] > 40, gates
    assert held["numbers"]["fixes"] - held["numbers"]["regressions"] > 4, gates
    snapshot = next(work.glob("snapshots/*"))
    parts = json.loads((snapshot / "snapshot.json").read_text())["photos"]
    assert parts["train"] > parts["held"] > 0


def bearer(token: Path) -> dict[str, str]:
    return {"Authorization": f"Bearer {token.read_text()}"}
