"""Whether the server answers correctly: one golden photo of every served name, at most once a second."""

import threading
import time
from typing import Any

from common.errors import CheckFailed, NotFound, Unreachable, UserError
from deploy.host.log import log
from deploy.settings import Settings
from deploy.store import copies
from deploy.supervision.reconcile import Reconciler
from deploy.torchserve.management import Client
from deploy.torchserve.probes import Question, first_question

PROBE_S = 5.0
"""The longest that one prediction may take."""
CACHE_S = 1.0
"""How long an answer of /ready is valid."""


class Readiness:
    """The answer of /ready. Any number of threads may call it."""

    def __init__(self, settings: Settings, reconciler: Reconciler) -> None:
        self.settings = settings
        self.reconciler = reconciler
        self.client = Client(settings, PROBE_S)
        self._lock = threading.Lock()
        self._note = "TorchServe is starting"
        self._questions: dict[str, Question] = {}  # by digest of the archive
        self._answer: dict[str, Any] = {}
        self._valid_until = 0.0

    def note(self, text: str) -> None:
        """Set why the keeper's last round failed; empty if it did not."""
        self._note = text

    def answer(self) -> dict[str, Any]:
        """At most CACHE_S old.

        Returns:
            `ready`; `models`: the names that answer correctly, each with its version; `missing`: versions that cannot
            be served, each with the reason; `repairing`: whether a repair is in progress; `warnings`; and a `reason`
            if it is not ready.
        """
        with self._lock:  # one probe at a time
            if time.monotonic() > self._valid_until:
                self._answer = self._probe()
                self._valid_until = time.monotonic() + CACHE_S
            return self._answer

    def _probe(self) -> dict[str, Any]:
        missing_before, repairing = self.reconciler.missing, self.reconciler.repairing  # read before the predictions
        models, reasons = self._predictions()
        missing = self.reconciler.missing
        answer: dict[str, Any] = {
            "ready": not reasons,
            "models": models,
            "missing": missing,
            "repairing": repairing or missing != missing_before,
        }
        if reasons:
            answer["reason"] = self._note or "; ".join(reasons)
        return {**answer, "warnings": [text for text in self.reconciler.warnings.values() if text]}

    def _predictions(self) -> tuple[list[dict[str, str]], list[str]]:
        """The names that answer correctly with their versions, and why the others do not."""
        models, reasons = [], []
        for name in dict.fromkeys(entry.name for entry in self.reconciler.entries):
            try:
                models.append({"name": name, "version": self._predict(name)})
            except (UserError, OSError, ValueError, KeyError) as error:
                reasons.append(f"{name}: {_short(error)}")
            except Exception as error:  # a bug, or an unexpected answer
                log("error", text=f"the probe of {name} failed: {error!r}")
                reasons.append(f"{name}: {error!r}")
        if not models and not reasons:
            reasons = ["var/served.json lists no version"]
        return models, reasons

    def _predict(self, name: str) -> str:
        """The version that answers a golden photo of a name correctly.

        Raises:
            UserError: there is no answer, or it is wrong or an error.
        """
        question = self._question_of(name)
        headers = {"X-Request-Id": "keeper"}
        answer = self.client.ask("inference", "POST", f"/predictions/{name}", json=question.body, headers=headers)
        content = answer.json()
        # Versions need not agree on a drawn pattern.
        label = question.golden.label if question.golden.shows_label else None
        if not answer.ok or label not in (None, content.get("result")):
            photo = f"a photo of {label}" if label else "a golden photo"
            raise CheckFailed(f"HTTP {answer.status_code}, {answer.text[:200]} to {photo}")
        return str(content["model_version"])

    def _question_of(self, name: str) -> Question:
        """A golden photo of any version of a name: all its versions have the same labels."""
        entries = [entry for entry in self.reconciler.entries if entry.name == name]
        for entry in entries:
            question = self._questions.get(entry.digest) or first_question(self.settings, entry)
            if question:
                self._questions[entry.digest] = question
                return question
        raise NotFound(f"neither {entries[0].archive} nor its copy in var/{copies.FOLDER} can be read")


def _short(error: Exception) -> str:
    """For /ready: without the advice to start the server, because it is running."""
    if isinstance(error, Unreachable):
        return error.problem
    return error.message if isinstance(error, UserError) else repr(error)
