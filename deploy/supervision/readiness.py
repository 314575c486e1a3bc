"""Whether the server answers rightly: a golden photo through the served door, at most once a second."""

import contextlib
import threading
import time
from typing import Any

import requests

from common.errors import UserError
from deploy.host.log import log
from deploy.settings import Settings
from deploy.store import copies
from deploy.store.desired import ServedVersion
from deploy.supervision.reconcile import Reconciler
from deploy.torchserve.keys import read_key
from deploy.torchserve.probes import example

PROBE_S = 5.0
CACHE_S = 1.0


class Readiness:
    """The answer of /ready; may be asked by any number of threads."""

    def __init__(self, settings: Settings, reconciler: Reconciler) -> None:
        self.settings = settings
        self.reconciler = reconciler
        self.session = requests.Session()
        self.session.trust_env = False  # no proxy between two programs on one machine
        self._lock = threading.Lock()
        self._note = "TorchServe is starting"
        self._examples: dict[str, tuple[str | None, dict[str, Any]]] = {}
        self._answer: dict[str, Any] = {}
        self._until = 0.0

    def note(self, text: str) -> None:
        """What the keeper's last round stumbled on; empty if on nothing."""
        self._note = text

    def answer(self) -> dict[str, Any]:
        """`ready`, the `models` that answer rightly, those that are `missing` and why, whether the keeper is
        `repairing`, `warnings`; a `reason` if not ready. Not older than a second."""
        with self._lock:  # one probe at a time
            if time.monotonic() > self._until:
                self._answer = self._probe()
                self._until = time.monotonic() + CACHE_S
            return self._answer

    def _probe(self) -> dict[str, Any]:
        before, repairing = self.reconciler.missing, self.reconciler.repairing  # what the probes find is no older
        models, reasons = [], []
        for name in dict.fromkeys(entry.name for entry in self.reconciler.entries):
            try:
                models.append({"name": name, "version": self._ask(name)})
            except (requests.RequestException, UserError, OSError, ValueError, KeyError) as error:
                reasons.append(f"{name}: {_short(error)}")
            except Exception as error:  # a bug, or an answer that nobody has thought of
                log("error", text=f"the probe of {name} failed: {error!r}")
                reasons.append(f"{name}: {error!r}")
        if not models and not reasons:
            reasons = ["var/served.json names nothing to serve"]
        missing = self.reconciler.missing
        found: dict[str, Any] = {"ready": not reasons, "models": models, "missing": missing}
        found["repairing"] = repairing or missing != before
        if reasons:
            found["reason"] = self._note or "; ".join(reasons)
        return {**found, "warnings": [text for text in self.reconciler.warnings.values() if text]}

    def _ask(self, name: str) -> str:
        """The version that answers a golden photo of a name rightly.

        Raises:
            UserError: it is answered wrongly, or not at all; and what requests raises.
        """
        label, body = self._example_of(name)
        answer = self.session.post(
            f"{self.settings.url('inference')}/predictions/{name}",
            json=body,
            headers={"Authorization": f"Bearer {read_key(self.settings.var, 'inference')}", "X-Request-Id": "keeper"},
            timeout=PROBE_S,
        )
        content = answer.json()
        if not answer.ok or label not in (None, content.get("result")):
            told = f"a photo of {label}" if label else "a golden photo"
            raise UserError(f"HTTP {answer.status_code}, {answer.text[:200]} to {told}")
        return str(content["model_version"])

    def _example_of(self, name: str) -> tuple[str | None, dict[str, Any]]:
        """The label and the request of a name's first golden photo: of any version, for all have the same labels.

        No label where the photo is a pattern: versions need not agree on it.
        """
        entries = [entry for entry in self.reconciler.entries if entry.name == name]
        for entry in entries:
            if entry.digest in self._examples or self._read_example(entry):
                return self._examples[entry.digest]
        raise UserError(f"{entries[0].archive} cannot be read, nor its copy in var/{copies.FOLDER}")

    def _read_example(self, entry: ServedVersion) -> bool:
        for folder in (self.settings.store, self.settings.var / copies.FOLDER):
            with contextlib.suppress(Exception):  # a damaged zip can raise any: zlib.error, KeyError, IndexError ...
                question = example(folder / entry.archive)
                label = question.golden.label if question.golden.own else None
                self._examples[entry.digest] = label, {**question.body, "detail": True}
                return True
        return False


def _short(error: Exception) -> str:
    """Without the request's address and headers."""
    if isinstance(error, requests.Timeout):
        return f"no answer within {PROBE_S:.0f} s"
    if isinstance(error, requests.ConnectionError):
        return "TorchServe does not answer"
    return error.message if isinstance(error, UserError) else repr(error)
