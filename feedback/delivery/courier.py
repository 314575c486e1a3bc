"""Deliver what was announced: check, download into the store, roll out with the existing command.

    announced -> rolling -> serving | refused          announced -> superseded, if a newer version was announced

Each step looks at what is there, so a delivery that was killed is finished by the next one.
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from sqlalchemy import select

from common.errors import CannotWrite, InvalidInput, UserError
from common.files import copy_whole
from feedback.delivery.contents import require_harmless
from feedback.delivery.download import allowed, download, small_file
from feedback.delivery.keys import trusted
from feedback.delivery.release import SUFFIX, File, Rejected, Release, verified
from feedback.settings import ROOT, Settings
from feedback.storage.database import Database
from feedback.storage.tables import Model

ANNOUNCED, ROLLING, SERVING, REFUSED, SUPERSEDED = "announced", "rolling", "serving", "refused", "superseded"
WAITING = (ANNOUNCED, ROLLING)
MOST_SIGNATURE = 16 * 1024
_log = logging.getLogger(__name__)


class Courier:
    """Delivers to the TorchServe and the store of the settings."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings, self.database = settings, database

    def waiting(self) -> list[Model]:
        """The newest version of each model that waits to be delivered; older ones are superseded."""
        with self.database.begin() as session:
            rows = session.scalars(select(Model).where(Model.state.in_(WAITING)).order_by(Model.version.desc())).all()
            newest: dict[str, Model] = {}
            for model in rows:
                if model is not newest.setdefault(model.name, model):
                    model.state, model.why = SUPERSEDED, f"version {newest[model.name].version} was announced"
            return list(newest.values())

    def deliver(self, model: Model) -> str:
        """Download, check and roll out one version.

        Returns:
            the name of its archive.

        Raises:
            Rejected: it is not served; the message is also in the database.
            CannotWrite: this machine's disk is full or read-only; the next delivery tries again.
        """
        try:
            archive = self._delivered(model)
        except Rejected as error:
            self._note(model, REFUSED, error.message)
            _log.warning("%s %s refused: %s", model.name, model.version, error.message)
            raise
        except OSError as error:
            raise CannotWrite(self.settings.store, error) from error
        self._note(model, SERVING, "")
        return archive

    def _delivered(self, model: Model) -> str:
        if not allowed(model.link, self.settings.links):
            raise Rejected("its link is outside of FEEDBACK_LINKS")
        keys = trusted(self.settings.folder)
        if not keys:
            raise InvalidInput(
                "no key is trusted", "python -m feedback keys trust KEY, with the training machine's key"
            )
        release = verified(small_file(model.link + SUFFIX, MOST_SIGNATURE), keys)
        _require_same(release, model)
        new = self._stored(release, model.link)
        self._note(model, ROLLING, "")
        if not self._serves(release):
            self._roll_out(release, model, new)
        return release.archive.name

    def _stored(self, release: Release, link: str) -> list[Path]:
        """Put the files of a release into the store; those that were not there before."""
        folder, new = link.rpartition("/")[0], list[Path]()
        with tempfile.TemporaryDirectory(dir=self._incoming()) as name:
            parts = {file: Path(name) / file.name for file in (release.manifest, release.archive)}
            wanted = [file for file in parts if not self._has(file)]
            for file in wanted:
                download(f"{folder}/{file.name}", file, parts[file])
            if release.archive in wanted:
                require_harmless(parts[release.archive])
            for file in wanted:
                copy_whole(parts[file], self.settings.store / file.name)
                new.append(self.settings.store / file.name)
        return new

    def _incoming(self) -> Path:
        folder = self.settings.folder / "incoming"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    def _has(self, file: File) -> bool:
        path = self.settings.store / file.name
        if not path.exists():
            return False
        if File.of(path) == file:
            return True
        raise Rejected(f"the store has another {file.name}: announce a new version")

    def _serves(self, release: Release) -> bool:
        """Whether it is the default version already: a delivery was killed after its rollout."""
        try:
            rows = json.loads((self.settings.var / "served.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return any(row["default"] and (row["name"], row["version"]) == (release.name, release.version) for row in rows)

    def _roll_out(self, release: Release, model: Model, new: list[Path]) -> None:
        words = ["rollout", str(self.settings.store / release.archive.name), "--why", f"feedback: {model.ckpt_name}"]
        environment = {**os.environ, "SERVE_VAR": str(self.settings.var), "SERVE_STORE": str(self.settings.store)}
        done = subprocess.run(
            [sys.executable, "-m", "deploy", *words],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode > 0:
            for path in new:
                path.unlink(missing_ok=True)
            last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1].removeprefix("Error: ")
            raise Rejected(f"rollout: {last}")
        if done.returncode < 0:
            raise UserError(f"the rollout was killed by signal {-done.returncode}", "deliver again: it resumes")

    def _note(self, model: Model, state: str, why: str) -> None:
        with self.database.begin() as session:
            row = session.get_one(Model, model.id)
            row.state, row.why = state, why


def _require_same(release: Release, model: Model) -> None:
    """The signed release must be the announced one, or an old signature could be sent again as a new version."""
    archive = f"{release.name}-{release.version}"
    names = (f"{archive}.mar", f"{archive}.json", model.link.rpartition("/")[2])
    if names != (release.archive.name, release.manifest.name, release.archive.name):
        raise Rejected(f"the signed files are not those of {archive}")
    if (release.name, release.version) != (model.name, f"{model.version}.0"):
        raise Rejected(f"{archive} is signed, but {model.name} {model.version} was announced")
