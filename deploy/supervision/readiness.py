"""Whether the server answers correctly: one golden photo to every served name, shared by all who ask.

A name that has not answered yet may be busy with a slow request of a client, or dead. It is busy, and the node stays
ready, while a worker of its default version is ready and its last golden photo was answered correctly within BUSY_S.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from common.errors import CheckFailed, NotFound, Unreachable, UserError
from deploy.host.log import log
from deploy.settings import Settings
from deploy.store import copies
from deploy.supervision.reconcile import Reconciler
from deploy.supervision.repair_plan import ModelState
from deploy.torchserve.management import Client
from deploy.torchserve.probes import Question, first_question

WAIT_S = 1.0
"""How long /ready waits for golden photos to be answered."""
BUSY_S = 30.0
"""How long a name may be busy: more than one request may take, and half of the time after which TorchServe replaces a
worker that hangs (default_response_timeout)."""
CACHE_S = 1.0
"""How long an answer of /ready is valid."""


class Probe:
    """Sends golden photos to one name, one at a time. Any number of threads may call it.

    Args:
        predict: returns the version that answered correctly; raises if none did.
        busy_s: see BUSY_S, in seconds.
    """

    def __init__(self, name: str, predict: Callable[[], str], busy_s: float) -> None:
        self.name, self.busy_s = name, busy_s
        self._predict = predict
        self._over = threading.Event()
        self._over.set()
        self._version = ""
        self._reason: str | None = "no golden photo was answered yet"
        self._answered = self._ended = -float("inf")

    def start(self) -> None:
        """Send a golden photo, unless one is being answered or the last result is valid."""
        if self._over.is_set() and time.monotonic() > self._ended + CACHE_S:
            self._over.clear()
            threading.Thread(target=self._run, name=f"probe {self.name}", daemon=True).start()

    def result(self, until: float, model: ModelState) -> "Result":
        """Wait for the answer until a time on the monotonic clock.

        Args:
            model: what TorchServe says about the name.
        """
        if self._over.wait(max(until - time.monotonic(), 0)) or self._reason:
            return Result(self._version, self._reason)
        if not model.default or not model.ready.get(model.default):
            return Result(self._version, "no worker of its default version is ready")
        silent = time.monotonic() - self._answered
        if silent > self.busy_s:
            return Result(self._version, f"no golden photo was answered for {silent:.0f} s")
        return Result(self._version, busy=True)

    def _run(self) -> None:
        begun = time.monotonic()
        try:
            self._version, self._reason = self._predict(), None
            self._answered = begun
        except (UserError, OSError, ValueError, KeyError) as error:
            self._reason = _short(error)
        except Exception as error:  # a bug, or an unexpected answer
            log("error", text=f"the probe of {self.name} failed: {error!r}")
            self._reason = repr(error)
        finally:
            self._ended = time.monotonic()
            self._over.set()


@dataclass(frozen=True)
class Result:
    """What is known about one name: the version that answered last, why it is not ready, whether it is busy."""

    version: str
    reason: str | None = None
    busy: bool = False


class Readiness:
    """The answer of /ready. Any number of threads may call it."""

    def __init__(self, settings: Settings, reconciler: Reconciler, busy_s: float = BUSY_S) -> None:
        self.settings = settings
        self.reconciler = reconciler
        self.busy_s = busy_s
        self.client = Client(settings, busy_s)
        self._lock = threading.Lock()
        self._note = "TorchServe is starting"
        self._questions: dict[str, Question] = {}  # by digest of the archive
        self._probes: dict[str, Probe] = {}
        self._answer: dict[str, Any] = {}
        self._valid_until = 0.0

    def note(self, text: str) -> None:
        """Set why the keeper's last round failed; empty if it did not."""
        self._note = text

    def answer(self) -> dict[str, Any]:
        """At most CACHE_S old, and after at most about WAIT_S.

        Returns:
            `ready`; `models`: the names that answer correctly, each with its version; `busy`: those of them that are
            still working on the last golden photo; `missing`: versions that cannot be served, each with the reason;
            `repairing`: whether a repair is in progress; `warnings`; and a `reason` if it is not ready.
        """
        with self._lock:  # the first caller waits for the probes, the others for its answer
            if time.monotonic() > self._valid_until:
                self._answer = self._now()
                self._valid_until = time.monotonic() + CACHE_S
            return self._answer

    def _now(self) -> dict[str, Any]:
        missing_before, repairing = self.reconciler.missing, self.reconciler.repairing  # read before the predictions
        results = self._results()
        missing = self.reconciler.missing
        reasons = [f"{name}: {result.reason}" for name, result in results.items() if result.reason]
        reasons = reasons if results else ["var/served.json lists no version"]
        ready = {name: result for name, result in results.items() if not result.reason}
        answer: dict[str, Any] = {
            "ready": not reasons,
            "models": [{"name": name, "version": result.version} for name, result in ready.items()],
            "busy": [name for name, result in ready.items() if result.busy],
            "missing": missing,
            "repairing": repairing or missing != missing_before,
        }
        if reasons:
            answer["reason"] = self._note or "; ".join(reasons)
        return {**answer, "warnings": [text for text in self.reconciler.warnings.values() if text]}

    def _results(self) -> dict[str, Result]:
        """Probe all names at the same time, so that a slow one does not delay the others."""
        names = dict.fromkeys(entry.name for entry in self.reconciler.entries)
        self._probes = {name: self._probes.get(name) or self._probe_of(name) for name in names}
        for probe in self._probes.values():
            probe.start()
        until, models = time.monotonic() + WAIT_S, self.reconciler.models
        return {name: probe.result(until, models.get(name, ModelState())) for name, probe in self._probes.items()}

    def _probe_of(self, name: str) -> Probe:
        return Probe(name, lambda: self._predict(name), self.busy_s)

    def _predict(self, name: str) -> str:
        """The version that answers a golden photo of a name correctly.

        Raises:
            UserError: there is no answer, or it is wrong or an error.
        """
        question = self._question_of(name)
        answer = self.client.predict(name, question.body)
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
