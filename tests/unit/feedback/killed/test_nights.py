"""SIGKILL at every step of a night and of a delivery: the same command ends in the same place.

Training, export and packing are stand-ins that leave what the real commands leave (those have tests of their own), and
so is the rollout; the web application, the pull, the snapshot, the archive's way and the database are the real ones.
"""

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import s3fs
from click.testing import CliRunner
from sqlalchemy import delete, select, update

from common.errors import Busy, UserError
from common.files import new_folder, write_json, write_whole
from feedback.delivery.courier import ANNOUNCED, REFUSED, ROLLING, SERVING, Courier
from feedback.delivery.keys import make_key
from feedback.delivery.release import Rejected
from feedback.learning import night as nights
from feedback.learning.conditions import Verdict
from feedback.nightly import nightly
from feedback.review.arrivals import Answered
from feedback.settings import ROOT
from feedback.storage.tables import Model
from feedback.web.site import Site
from handler.spec import Limits
from tests.helpers.feedback import LABELS, PASSWORD, running, site_in
from tests.helpers.night.publishing import Publisher, Rollout, announced, publishing, trusting
from tests.helpers.night.tints import tinted
from tests.helpers.running.killing import killed_at_each_step
from tests.helpers.s3 import keys, s3_server
from tests.helpers.waiting import eventually

pytestmark = pytest.mark.slow
PHOTOS = 2


@dataclass(frozen=True)
class Trainer:
    """A training machine whose night learns from two photos."""

    folder: Path
    site: Site
    words: tuple[str, ...]

    @property
    def work(self) -> Path:
        return self.folder / "work"

    def run(self, _: int = 0) -> tuple[int, str]:
        done = CliRunner().invoke(nightly, self.words)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
        return done.exit_code, done.output

    def models(self) -> list[tuple[int, str, str]]:
        with self.site.database.begin() as session:
            return [(row.version, row.link, row.ckpt_name) for row in session.scalars(select(Model))]

    def left(self) -> dict[str, bytes]:
        """Every file of the nights that is not hidden."""
        paths = {path.relative_to(self.work): path for path in self.work.rglob("*") if path.is_file()}
        return {
            str(name): path.read_bytes()
            for name, path in paths.items()
            if not any(part.startswith(".") for part in name.parts)
        }

    def begin_again(self) -> None:
        shutil.rmtree(self.work)
        with self.site.database.begin() as session:
            session.execute(delete(Model))


def call(night: nights.Night, package: str, *words: str, **environment: str) -> None:
    """What the commands of a night leave."""
    step, options = words[0], dict(itertools.pairwise(words))
    if step == "train":
        with new_folder(Path(options["--runs"]) / "shapes" / "1-train") as folder:
            write_whole(folder / "weights.pth", b"weights")
    elif step == "export":
        with new_folder(Path(options["--out"])) as folder:
            shutil.copy(night.plan.signed / "recipe.json", folder)
    else:
        archive = Path(environment["SERVE_STORE"]) / f"shapes-{words[2]}.mar"
        write_json(archive.with_suffix(".json"), {})
        write_whole(archive, b"archive")


@pytest.fixture
def trainer(light: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trainer]:
    monkeypatch.setattr(nights.Night, "_call", call)
    monkeypatch.setattr(nights, "judge", lambda *_: Verdict(()))
    monkeypatch.setattr(nights, "LEAST_NEW", PHOTOS)
    site, limits = site_in(tmp_path / "var", FEEDBACK_LINKS="http://trainer.test s3://models/"), Limits()
    for name in ("ann", "ben"):
        site.people.add(name, "reviewer", PASSWORD)
    for seed in range(PHOTOS):
        answered = Answered(tinted("yellow", seed), "x.jpg", "shapes", {"result": LABELS[0]}, 1.0)
        number = site.album.add(answered, 1, "", limits)
        site.album.correct(number, 1, "", f"label:{LABELS[1]}")
        site.album.review(number, 2, f"label:{LABELS[1]}")
    make_key(tmp_path / "key")
    (tmp_path / "token").write_text(site.people.add_token("trainer", "nightly"))
    for name in ("anchor", "base"):
        (tmp_path / name).mkdir()
    signed = Path(shutil.copytree(light, tmp_path / "signed"))
    recipe = json.loads((signed / "recipe.json").read_text())
    write_json(signed / "recipe.json", {**recipe, "labels": LABELS})
    for label in LABELS:
        write_whole(tmp_path / "frozen" / label / "1.jpg", tinted("red", len(label)))
    with running(site) as address:
        options = {"--server": address, "--token-file": "token", "--recipe": "shapes", "--anchor": "anchor"}
        options |= {"--signed": "signed", "--base": "base", "--frozen": "frozen", "--key": "key", "--work": "work"}
        words = [word if name in ("--server", "--recipe") else str(tmp_path / word) for name, word in options.items()]
        pairs = [part for pair in zip(options, words, strict=True) for part in pair]
        yield Trainer(tmp_path, site, (*pairs, "--no-prune", "--no-idle", "--publish", "http://trainer.test"))


def test_a_night(trainer: Trainer) -> None:
    code, output = trainer.run()
    assert (code, "passed: " in output) == (0, True), output
    undisturbed, models = trainer.left(), trainer.models()
    assert [version for version, *_ in models] == [2]
    assert {name.partition("/")[0] for name in undisturbed} == {"archives", "cache", "nights", "snapshots"}
    trainer.begin_again()
    again = set[str]()
    for step in killed_at_each_step(trainer.run):
        code, output = trainer.run()
        assert code == 0, (step, output)
        again.add(output.partition(":")[0])
        assert trainer.left() == undisturbed, step
        assert trainer.models() == models, step
        trainer.begin_again()
    assert "nothing to learn" in again, "no night was killed after its last step"
    assert step > 20


def test_a_version_that_another_machine_has_announced_meanwhile_is_packed_again(trainer: Trainer) -> None:
    refused = CliRunner().invoke(nightly, [*trainer.words[:-1], "http://elsewhere.test"])
    assert "link is outside of FEEDBACK_LINKS" in refused.output
    announced(trainer.site, "http://other.test/shapes-2.0.mar", version=2)
    assert "the same command packs the next version" in trainer.run()[1]
    assert trainer.run()[0] == 0
    assert [version for version, *_ in trainer.models()] == [2, 3]


def test_a_night_publishes_to_object_storage(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server("models") as env:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        done = CliRunner().invoke(nightly, [*trainer.words[:-1], "s3://models/nights"])
        assert done.exit_code == 0, done.output
        assert sorted(keys(env, "models", "nights/")) == [f"shapes-2.0.{end}" for end in ("json", "mar", "mar.signed")]
    assert [link for _, link, _ in trainer.models()] == ["s3://models/nights/shapes-2.0.mar"]


def test_a_command_that_outlives_a_killed_night_keeps_the_next_one_out(tmp_path: Path) -> None:
    with nights.only_one(tmp_path) as lock:
        sleeping = subprocess.Popen(["sleep", "60"], pass_fds=(lock,))
    try:
        with pytest.raises(Busy, match="another nightly run"), nights.only_one(tmp_path):
            pass
    finally:
        sleeping.kill()
        sleeping.wait()
    with nights.only_one(tmp_path):
        pass


def test_a_command_of_a_night_that_is_killed_is_no_verdict(light: Path, tmp_path: Path) -> None:
    plan = nights.Plan("shapes", tmp_path, light, (), tmp_path, None, False, tmp_path)
    night = nights.Night(tmp_path / "night", plan)
    priority = Path("/proc/self/autogroup")
    before = priority.read_text() if priority.exists() else ""
    with pytest.raises(UserError, match="export was killed by signal 9: the same command goes on there") as caught:
        night._call("tests.helpers.running.dying_at_once", "export")
    assert type(caught.value) is UserError
    assert not before or priority.read_text() == before, "the commands changed the priority of this session"


@pytest.fixture
def site(tmp_path: Path, publisher: Publisher) -> Site:
    site = site_in(tmp_path / "var", FEEDBACK_LINKS=f"{publisher.url}/models", SERVE_STORE=str(tmp_path / "store"))
    trusting(site, publisher)
    announced(site, publisher.link(publisher.archive()))
    return site


@pytest.fixture
def rollout(site: Site, monkeypatch: pytest.MonkeyPatch) -> Rollout:
    monkeypatch.setattr(subprocess, "run", stand_in := Rollout(site))
    return stand_in


def deliver(site: Site) -> None:
    courier = Courier(site.settings, site.database)
    for model in courier.waiting():
        courier.deliver(model)


def state(site: Site) -> tuple[str, list[str], list[str]]:
    """The version's state, the files of the store and of the downloads."""
    with site.database.begin() as session:
        row = session.scalars(select(Model)).one()
    incoming = site.settings.folder / "incoming"
    store, downloads = (sorted(path.name for path in place.glob("*")) for place in (site.settings.store, incoming))
    return row.state, store, downloads


@pytest.mark.parametrize("error", ["", "Refused"])
def test_a_delivery(error: str, site: Site, rollout: Rollout) -> None:
    rollout.error, seen = error, set[str]()
    site.database.close()
    for step in killed_at_each_step(lambda _: rejected(site) if error else deliver(site)):
        seen.add(state(site)[0])
        rejected(site) if error else deliver(site)
        files = [] if error else ["shapes-2.0.json", "shapes-2.0.mar"]
        assert state(site) == (REFUSED if error else SERVING, files, []), step
        shutil.rmtree(site.settings.store)
        (site.settings.var / "served.json").unlink(missing_ok=True)
        with site.database.begin() as session:
            session.execute(update(Model).values(state=ANNOUNCED))
        site.database.close()
    assert seen == {ANNOUNCED, ROLLING, REFUSED if error else SERVING}, "some steps were not reached"


def rejected(site: Site) -> None:
    with contextlib.suppress(Rejected):
        deliver(site)


@pytest.mark.parametrize("error", ["Busy", "Unreachable", "CannotWrite"])
def test_a_version_waits_while_another_rollout_runs_or_the_server_is_down(
    error: str, site: Site, rollout: Rollout
) -> None:
    rollout.error = error
    for _ in range(2):
        with pytest.raises(UserError, match="rollout: no"):
            deliver(site)
        assert state(site)[0] == ROLLING
    rollout.error = ""
    deliver(site)
    assert state(site)[0] == SERVING


def test_the_pages_deliver_by_themselves(site: Site, publisher: Publisher) -> None:
    """`feedback serve` finds the announcement; what it downloads has no signature."""
    mar = publisher.archive(sign_it=False)
    mar.with_name(f"{mar.name}.signed").unlink()
    environment = {**os.environ, "SERVE_VAR": str(site.settings.var), "SERVE_STORE": str(site.settings.store)}
    environment |= {"FEEDBACK_LINKS": " ".join(site.settings.links), "SERVE_WEB_PORT": "5000"}
    words = [sys.executable, "-m", "feedback", "serve", "--port", "0"]
    pages = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: state(site)[0] == REFUSED, 120)
    finally:
        pages.terminate()
        pages.wait()
    with site.database.begin() as session:
        assert "answers 404" in session.scalars(select(Model)).one().why
    assert state(site)[1] == []


def test_a_version_waits_until_the_training_machine_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trainer").mkdir()
    with publishing(tmp_path / "trainer") as publisher:
        site = site_in(tmp_path / "var", FEEDBACK_LINKS=publisher.url, SERVE_STORE=str(tmp_path / "store"))
        trusting(site, publisher)
        announced(site, publisher.link(publisher.archive()))
        port = int(publisher.url.rpartition(":")[2])
    monkeypatch.setattr(subprocess, "run", Rollout(site))
    with pytest.raises(UserError, match="cannot be downloaded"):
        deliver(site)
    assert state(site)[0] == ANNOUNCED
    with publishing(tmp_path / "trainer", port):
        deliver(site)
    assert state(site)[0] == SERVING
