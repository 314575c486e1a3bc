"""Ask the running TorchServe, as any client does: over HTTP, with the token that it issued at its start."""

import base64
import json
import time
import zipfile
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import requests

from common.errors import Unreachable
from feedback.settings import Settings
from handler.spec import Spec

SERVED, KEYS, COPIES = "served.json", "key_file.json", "archives"
TIMEOUT_S = (2, 60)
_START = "start it with make serve, then try again"


@dataclass(frozen=True)
class Served:
    """The model that answers: its name, its default version and its recipe."""

    name: str
    version: str
    spec: Spec


class NotAnswered(Exception):
    """The model refused a photo.

    Args:
        status: HTTP status of the answer.
        code: of the error (docs/api.md).
        message: for a person.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Classifier:
    """The served model. Its labels come from its archive, so every recipe works."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._specs: dict[str, Spec] = {}

    def served(self) -> Served:
        """The model that answers now.

        Raises:
            Unreachable: nothing is served, or its archive cannot be read.
        """
        row = self._row_of_front() if self.settings.token else self._row()
        if row["digest"] not in self._specs:
            self._specs = {row["digest"]: self._read_spec(row["archive"])}
        return Served(row["name"], row["version"], self._specs[row["digest"]])

    def _read_spec(self, archive: str) -> Spec:
        for folder in (self.settings.store, self.settings.var / COPIES):
            try:
                return _spec(folder / archive)
            except (OSError, ValueError, KeyError, zipfile.BadZipFile):
                continue
        raise Unreachable(f"{self.settings.store / archive} cannot be read", "pack or restore it")

    def _row(self) -> dict[str, Any]:
        try:
            rows = json.loads((self.settings.var / SERVED).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            rows = []
        wanted = self.settings.model
        found = [row for row in rows if row.get("default") and wanted in ("", row["name"])]
        if not found:
            raise Unreachable(f"no model {wanted} is served".replace("  ", " "), _START)
        return dict(found[0])

    def _row_of_front(self) -> dict[str, Any]:
        """As `_row`, of what the nodes behind a front answer with: an archive has the name and the version."""
        try:
            with requests.Session() as session:
                session.trust_env = False
                rows = session.get(f"{self.settings.inference}/ready", timeout=TIMEOUT_S).json()["models"]
            found = [row for row in rows if self.settings.model in ("", row["name"])]
            archive = f"{found[0]['name']}-{found[0]['version']}.mar"
        except (requests.RequestException, ValueError, LookupError, TypeError) as error:
            raise Unreachable(f"no model is served by {self.settings.inference}", "try again in a minute") from error
        return {**found[0], "archive": archive, "digest": archive}

    def ask(self, data: bytes) -> tuple[dict[str, Any], float]:
        """Classify a photo.

        Returns:
            the answer with details, and how long it took in milliseconds.

        Raises:
            NotAnswered: the model refused the photo.
            Unreachable: TorchServe does not answer.
        """
        name = self.served().name
        body = {"image_base64": base64.b64encode(data).decode(), "detail": True}
        started = time.perf_counter()
        try:
            with requests.Session() as session:
                session.trust_env = False
                reply = session.post(
                    f"{self.settings.inference}/predictions/{name}",
                    json=body,
                    headers={"Authorization": f"Bearer {self._key()}"},
                    timeout=TIMEOUT_S,
                )
        except requests.RequestException as error:
            raise Unreachable("the model does not answer", "try again in a minute") from error
        milliseconds = (time.perf_counter() - started) * 1000
        return _content(reply), milliseconds

    def _key(self) -> str:
        """TorchServe writes a new key at each start, so it is read each time."""
        if self.settings.token:
            return self.settings.token
        try:
            content = json.loads((self.settings.var / KEYS).read_text(encoding="utf-8"))
            return str(content["inference"]["key"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Unreachable("the model does not run", _START) from error


def _content(reply: requests.Response) -> dict[str, Any]:
    try:
        answer = reply.json()
    except ValueError:
        answer = {}
    answer = answer if isinstance(answer, dict) else {}
    error = answer.get("error")
    if reply.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR or (not reply.ok and not isinstance(error, dict)):
        raise Unreachable(f"the model answers {reply.status_code}", "try again in a minute")
    if isinstance(error, dict):
        raise NotAnswered(reply.status_code, str(error.get("code")), str(error.get("message")))
    return answer


def _spec(archive: Path) -> Spec:
    with zipfile.ZipFile(archive) as contents:
        return Spec.model_validate_json(contents.read("recipe.json"))
