"""Deliver what was announced: check, download into the store, roll out with the existing command.

    announced -> rolling -> serving | refused          announced -> superseded, if a newer version was announced

Each step looks at what is there, so a delivery that was killed is finished by the next one.
"""

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

from sqlalchemy import select

from common.errors import CannotWrite, InvalidInput, Unreachable, UserError
from common.files import copy_whole, remove_unfinished
from feedback.delivery.contents import require_harmless
from feedback.delivery.download import allowed, download, small_file
from feedback.delivery.keys import trusted
from feedback.delivery.release import SUFFIX, File, Rejected, Release, verified
from feedback.settings import ROOT, Settings
from feedback.storage.database import Database
from feedback.storage.tables import Model

ANNOUNCED, ROLLING, SERVING, REFUSED, SUPERSEDED = "announced", "rolling", "serving", "refused", "superseded"
WAITING = (ANNOUNCED, ROLLING)
WAITS = ("Busy", "CannotWrite", "Unreachable")
"""Kinds of errors of a rollout that say nothing about the version (common/errors.py)."""
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
            UserError: it waits, and the next delivery tries again: this machine's disk is full, another change is in
                progress, or the archive's server or TorchServe does not answer.
        """
        incoming = self._incoming(model)
        try:
            archive = self._delivered(model, incoming)
        except Rejected as error:
            shutil.rmtree(incoming, ignore_errors=True)
            self._note(model, REFUSED, error.message)
            _log.warning("%s %s refused: %s", model.name, model.version, error.message)
            raise
        except OSError as error:
            raise CannotWrite(self.settings.store, error) from error
        shutil.rmtree(incoming, ignore_errors=True)
        self._note(model, SERVING, "")
        return archive

    def _delivered(self, model: Model, incoming: Path) -> str:
        if not allowed(model.link, self.settings.links):
            raise Rejected("its link is outside of FEEDBACK_LINKS")
        keys = trusted(self.settings.folder)
        if not keys:
            raise InvalidInput(
                "no key is trusted", "python -m feedback keys trust KEY, with the training machine's key"
            )
        release = verified(small_file(model.link + SUFFIX, MOST_SIGNATURE), keys)
        _require_same(release, model)
        self._store(release, model.link, incoming)
        self._note(model, ROLLING, "")
        if not self._serves(release):
            try:
                self._roll_out(release, model)
            except Rejected:
                self._take_back(release, incoming)
                raise
        return release.archive.name

    def _store(self, release: Release, link: str, incoming: Path) -> None:
        """Put the files of a release into the store. What was downloaded stays in `incoming` until it is decided."""
        folder, files = link.rpartition("/")[0], (release.manifest, release.archive)
        wanted = [file for file in files if not self._has(file)]
        for file in wanted:
            if not _is(incoming / file.name, file):
                download(f"{folder}/{file.name}", file, incoming / file.name)
        if release.archive in wanted:
            require_harmless(incoming / release.archive.name)
        for file in wanted:
            remove_unfinished(self.settings.store / file.name)
            copy_whole(incoming / file.name, self.settings.store / file.name)

    def _take_back(self, release: Release, incoming: Path) -> None:
        """Remove from the store what this delivery, or an earlier try of it that was killed, has put there."""
        for file in (release.archive, release.manifest):
            if _is(incoming / file.name, file):
                (self.settings.store / file.name).unlink(missing_ok=True)

    def _incoming(self, model: Model) -> Path:
        """The folder of a version's downloads; those of versions that no longer wait are removed."""
        parent = self.settings.folder / "incoming"
        folder = parent / f"{model.name}-{model.version}"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        waiting = {f"{row.name}-{row.version}" for row in self.waiting()}
        for other in parent.iterdir():
            if other != folder and other.name not in waiting:
                shutil.rmtree(other, ignore_errors=True)
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

    def _roll_out(self, release: Release, model: Model) -> None:
        archive, why = str(self.settings.store / release.archive.name), f"feedback: {model.ckpt_name}"
        words = ["rollout", archive, "--why", why, "--json"]
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
        if done.returncode < 0:
            raise UserError(f"the rollout was killed by signal {-done.returncode}", "deliver again: it resumes")
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1].removeprefix("Error: ")
            if _kind_of(done.stdout) in WAITS:
                raise Unreachable(f"rollout: {last}")
            raise Rejected(f"rollout: {last}")

    def _note(self, model: Model, state: str, why: str) -> None:
        with self.database.begin() as session:
            row = session.get_one(Model, model.id)
            row.state, row.why = state, why


def _is(path: Path, file: File) -> bool:
    return path.is_file() and File.of(path) == file


def _kind_of(output: str) -> str:
    """The kind of error that `deploy rollout --json` printed; empty if it printed none."""
    try:
        return str(json.loads(output)["error"]["kind"])
    except (ValueError, LookupError, TypeError):
        return ""


def _require_same(release: Release, model: Model) -> None:
    """The signed release must be the announced one, or an old signature could be sent again as a new version."""
    archive = f"{release.name}-{release.version}"
    names = (f"{archive}.mar", f"{archive}.json", model.link.rpartition("/")[2])
    if names != (release.archive.name, release.manifest.name, release.archive.name):
        raise Rejected(f"the signed files are not those of {archive}")
    if (release.name, release.version) != (model.name, f"{model.version}.0"):
        raise Rejected(f"{archive} is signed, but {model.name} {model.version} was announced")
