"""What this project asks of TorchServe over HTTP, with time limits and clear errors."""

import contextlib
import time
from http import HTTPStatus
from typing import Any

import psutil
import requests

from common.errors import UserError
from deploy.settings import Settings
from deploy.store.profile import ServingOptions
from deploy.token import read_key

CONNECT_S = 5
ANSWER_S = 120
POLL_S = 0.05


class Unreachable(UserError):
    """Nothing answers at the address."""


class Client:
    """Inference and management of one TorchServe."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.session = requests.Session()
        self.session.trust_env = False  # no proxy between two programs on one machine

    def ask(self, address: str, method: str, path: str, **arguments: Any) -> requests.Response:
        """One request with the address's key.

        Args:
            address: `inference` or `management`.

        Raises:
            Unreachable: nothing listens, or no answer came in time.
        """
        headers = {"Authorization": f"Bearer {read_key(self.settings.var, address)}", **arguments.pop("headers", {})}
        url = self.settings.url(address)
        try:
            return self.session.request(method, url + path, headers=headers, timeout=(CONNECT_S, ANSWER_S), **arguments)
        except requests.ConnectionError as error:
            raise Unreachable(f"nothing answers at {url}: start the server with make serve") from error
        except requests.Timeout as error:
            raise Unreachable(f"{url} gave no answer within {ANSWER_S} s: see var/logs/ts_log.log") from error
        except requests.RequestException as error:
            raise Unreachable(f"{url} broke its answer off ({error}): see var/logs/ts_log.log") from error

    def manage(self, method: str, path: str, **arguments: Any) -> Any:
        """A management call that must succeed; its JSON.

        Raises:
            UserError: with TorchServe's own message.
        """
        answer = self.ask("management", method, path, **arguments)
        if not answer.ok:
            raise UserError(f"TorchServe refused {method} {path.partition('?')[0]}: {_message(answer)}")
        return content(answer)

    def predict(self, model: str, body: dict[str, Any]) -> requests.Response:
        """Post JSON to /predictions/MODEL, where MODEL may be NAME or NAME/VERSION."""
        return self.ask("inference", "POST", f"/predictions/{model}", json=body)

    def register(self, archive: str, name: str, how: ServingOptions | None = None) -> None:
        """Register an archive NAME-VERSION.mar of the store by its bare file name; returns when its workers are ready.

        The first version of a name becomes its default, later ones do not.

        Raises:
            UserError: it was refused, or its workers did not start; then it is not registered.
        """
        how = how or ServingOptions()
        batch = {"batch_size": how.batch_size, "max_batch_delay": how.max_batch_delay}
        self.manage("POST", "/models", params={"url": archive, "model_name": name, "initial_workers": 0, **batch})
        version = archive.removesuffix(".mar").rpartition("-")[2]
        try:
            self.scale(name, version, how.workers)
        except BaseException:
            with contextlib.suppress(UserError):
                self.unregister(name, version)
            raise

    def unregister(self, name: str, version: str) -> None:
        """Take a version out at once: what waits in its queue is never answered, so drain it first.

        Raises:
            UserError: it is not registered, or it is the default and others are.
        """
        self.manage("DELETE", f"/models/{name}/{version}")

    def set_default(self, name: str, version: str) -> None:
        """Have /predictions/NAME answered by a version; TorchServe does not look whether it has workers."""
        self.manage("PUT", f"/models/{name}/{version}/set-default")

    def scale(self, name: str, version: str, workers: int) -> None:
        """Set the number of a version's workers; returns when they are ready. Fewer means that some are killed.

        TorchServe is not asked to wait (`synchronous=true`): it would do so on one of its two network threads, and
        every client whose connection belongs to that thread would wait with us (docs/log.md).

        Raises:
            UserError: it was refused, a worker ended while it started, or none was ready in time.
        """
        self.manage("PUT", f"/models/{name}/{version}", params={"min_worker": workers, "max_worker": workers})
        deadline = time.monotonic() + float(self.settings.properties["default_startup_timeout"])
        started: set[int] = set()
        while True:
            found = self.describe(name, version) or {}
            states = [(worker["pid"], worker["status"]) for worker in found.get("workers", [])]
            ready = {pid for pid, state in states if state == "READY"}
            if len(ready) == len(states) == workers:
                return
            started |= {pid for pid, _ in states if pid > 0}
            if any(pid not in ready and not psutil.pid_exists(pid) for pid in started):
                raise UserError(f"a worker of {name} {version} ended while it started")
            if time.monotonic() > deadline:
                raise UserError(f"no worker of {name} {version} was ready in time")
            time.sleep(POLL_S)

    def describe(self, name: str, version: str = "") -> dict[str, Any] | None:
        """TorchServe's description of a version, of the default where none is named; None if it is not registered.

        Raises:
            Unreachable: nothing answers.
            UserError: TorchServe cannot tell.
        """
        path = f"/models/{name}" + (f"/{version}" if version else "")
        answer = self.ask("management", "GET", path)
        if answer.status_code == HTTPStatus.NOT_FOUND:
            return None
        if not answer.ok:
            raise UserError(f"TorchServe refused GET {path}: {_message(answer)}")
        found: dict[str, Any] = content(answer)[0]
        return found

    def ready(self, name: str, version: str) -> int:
        """How many workers of a version are ready; 0 too where it is not registered."""
        found = self.describe(name, version) or {}
        return sum(worker["status"] == "READY" for worker in found.get("workers", []))

    def default(self, name: str) -> str | None:
        """The version that /predictions/NAME answers with; None where the name is not registered."""
        found = self.describe(name)
        return str(found["modelVersion"]) if found else None

    def models(self) -> list[dict[str, Any]]:
        """TorchServe's description of every registered version, with `default` added."""
        found = []
        for entry in self.manage("GET", "/models?limit=1000")["models"]:
            name = entry["modelName"]
            default = self.manage("GET", f"/models/{name}")[0]["modelVersion"]
            for version in self.manage("GET", f"/models/{name}/all"):
                found.append({**version, "default": version["modelVersion"] == default})
        return found


def content(answer: requests.Response) -> Any:
    """The JSON of an answer.

    Raises:
        UserError: it is none.
    """
    try:
        return answer.json()
    except ValueError as error:
        raise UserError(f"{answer.url} answers {answer.text[:120]!r}, which is no JSON") from error


def _message(answer: requests.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {answer.status_code}"
