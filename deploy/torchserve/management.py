"""A client of TorchServe's HTTP APIs, inference and management, with timeouts and clear errors."""

import base64
import contextlib
import time
from http import HTTPStatus
from pathlib import Path
from typing import Any

import psutil
import requests
from requests.auth import AuthBase

from common.errors import Unreachable, UserError
from deploy.settings import Settings
from deploy.store.profile import ServingOptions
from deploy.torchserve.keys import read_key
from handler.requestlog import HEADER

CONNECT_S = 5
ANSWER_S = 120
POLL_S = 0.05
IDLE_POLL_S = 0.05
IDLE_POLLS = 4
"""A version is idle if so many polls in a row find its queue empty and no worker computing."""
LOGS = "see var/logs/ts_log.log"
PROBE = "photoloop-probe"
"""X-Request-Id of every request that this project sends by itself, for the keeper, a rollout, a load or a shadow. The
request log has it as `client_request_id`."""
PROBES = frozenset({PROBE, "keeper"})
"""Earlier versions of the keeper sent the second one."""


class KeyAuth(AuthBase):
    """Adds a key of the running server to a request. It is read each time: every start of TorchServe writes new keys.

    Args:
        kind: `inference` or `management`.
    """

    def __init__(self, var: Path, kind: str) -> None:
        self.var, self.kind = var, kind

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.setdefault("Authorization", f"Bearer {read_key(self.var, self.kind)}")
        return request


def local_session() -> requests.Session:
    """A session for programs on this machine: it ignores proxy settings."""
    session = requests.Session()
    session.trust_env = False
    return session


def request_body(image: bytes, image_id: str, detail: bool = False) -> dict[str, Any]:
    """The JSON of a prediction request for one photo."""
    body: dict[str, Any] = {"image_id": image_id, "image_base64": base64.b64encode(image).decode()}
    return {**body, "detail": True} if detail else body


class Client:
    """Inference and management of one TorchServe.

    Args:
        timeout_s: how long to wait for an answer, in seconds.
    """

    def __init__(self, settings: Settings, timeout_s: float = ANSWER_S) -> None:
        self.settings = settings
        self.timeout_s = timeout_s
        self.session = local_session()

    def ask(self, address: str, method: str, path: str, **arguments: Any) -> requests.Response:
        """Send one request with the key of its address.

        Args:
            address: `inference` or `management`.
            arguments: of `requests.Session.request`.

        Raises:
            NotFound: there is no key: no server has started yet.
            Unreachable: nothing listens, or no answer came in time.
        """
        url, auth = self.settings.url(address), KeyAuth(self.settings.var, address)
        timeout = (CONNECT_S, self.timeout_s)
        try:
            return self.session.request(method, url + path, auth=auth, timeout=timeout, **arguments)
        except requests.ConnectionError as error:
            raise Unreachable(f"nothing answers at {url}", "start the server with make serve") from error
        except requests.Timeout as error:
            raise Unreachable(f"{url} gave no answer within {self.timeout_s:g} s", LOGS) from error
        except requests.RequestException as error:
            raise Unreachable(f"{url} stopped in the middle of its answer ({error})", LOGS) from error

    def manage(self, method: str, path: str, **arguments: Any) -> Any:
        """Send a management request that must succeed.

        Returns:
            the JSON of the answer.

        Raises:
            UserError: TorchServe refused, with its own message.
        """
        answer = self.ask("management", method, path, **arguments)
        if not answer.ok:
            raise UserError(f"TorchServe refused {method} {path.partition('?')[0]}: {_message(answer)}")
        return content(answer)

    def predict(self, model: str, body: dict[str, Any], **arguments: Any) -> requests.Response:
        """Post JSON as a probe to /predictions/MODEL, where MODEL may be NAME or NAME/VERSION."""
        headers = {HEADER: PROBE}
        return self.ask("inference", "POST", f"/predictions/{model}", json=body, headers=headers, **arguments)

    def register(self, archive: str, name: str, options: ServingOptions | None = None) -> None:
        """Register an archive NAME-VERSION.mar of the store by its file name; returns when its workers are ready.

        The first version of a name becomes its default, later ones do not.

        Raises:
            UserError: it was refused, or its workers did not start; then it is not registered.
        """
        options = options or ServingOptions()
        batch = {"batch_size": options.batch_size, "max_batch_delay": options.max_batch_delay}
        self.manage("POST", "/models", params={"url": archive, "model_name": name, "initial_workers": 0, **batch})
        version = archive.removesuffix(".mar").rpartition("-")[2]
        try:
            self.scale(name, version, options.workers)
        except BaseException:
            with contextlib.suppress(UserError):
                self.unregister(name, version)
            raise

    def unregister(self, name: str, version: str) -> None:
        """Remove a version at once. Requests in its queue are never answered, so `drain` it first.

        Its workers end first: TorchServe would wait for them on one of its two network threads, and with it all clients
        of that thread (docs/log.md).

        Raises:
            UserError: it is not registered, or it is the default and there are other versions.
        """
        with contextlib.suppress(UserError):  # it may be removed with its workers, too
            if self.default(name) != version:
                self.scale(name, version, 0)
        self.manage("DELETE", f"/models/{name}/{version}")

    def set_default(self, name: str, version: str) -> None:
        """Make a version answer /predictions/NAME; TorchServe does not check whether it has workers."""
        self.manage("PUT", f"/models/{name}/{version}/set-default")

    def scale(self, name: str, version: str, workers: int) -> None:
        """Set the number of a version's workers; returns when they are ready. Surplus workers are killed.

        This polls instead of `synchronous=true`: with that, TorchServe waits on one of its two network threads, and so
        does every client whose connection belongs to that thread (docs/log.md).

        Raises:
            UserError: it was refused, a worker ended while it started, or the workers were not ready in time.
        """
        self.manage("PUT", f"/models/{name}/{version}", params={"min_worker": workers, "max_worker": workers})
        deadline = time.monotonic() + float(self.settings.properties["default_startup_timeout"])
        started: set[int] = set()
        while True:
            description = self.describe(name, version) or {}
            states = [(worker["pid"], worker["status"]) for worker in description.get("workers", [])]
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
        """TorchServe's description of a version, or of the default; None if it is not registered.

        Raises:
            Unreachable: nothing answers.
            UserError: TorchServe refused.
        """
        path = f"/models/{name}" + (f"/{version}" if version else "")
        answer = self.ask("management", "GET", path)
        if answer.status_code == HTTPStatus.NOT_FOUND:
            return None
        if not answer.ok:
            raise UserError(f"TorchServe refused GET {path}: {_message(answer)}")
        description: dict[str, Any] = content(answer)[0]
        return description

    def ready(self, name: str, version: str) -> int:
        """How many workers of a version are ready; 0 if it is not registered."""
        description = self.describe(name, version) or {}
        return sum(worker["status"] == "READY" for worker in description.get("workers", []))

    def default(self, name: str) -> str | None:
        """The version that answers /predictions/NAME; None if the name is not registered."""
        description = self.describe(name)
        return str(description["modelVersion"]) if description else None

    def models(self) -> list[dict[str, Any]]:
        """TorchServe's description of every registered version, with `default` added."""
        descriptions = []
        for model in self.manage("GET", "/models?limit=1000")["models"]:
            name = model["modelName"]
            default = self.manage("GET", f"/models/{name}")[0]["modelVersion"]
            for version in self.manage("GET", f"/models/{name}/all"):
                descriptions.append({**version, "default": version["modelVersion"] == default})
        return descriptions


def drain(client: Client, name: str, version: str, limit_s: float, body: dict[str, Any] | None = None) -> bool:
    """Wait until the queue of a version is empty and none of its workers computes.

    TorchServe's unregister does not wait: requests in the queue are never answered, and the request that a worker is
    computing is killed with the worker (docs/log.md).

    Args:
        limit_s: how long to wait, in seconds.
        body: a request to send first. Once it is answered, all requests before it have left the queue; CPU time alone
            would not show that of a worker that is stopped or swapped out.

    Returns:
        whether it became idle in time; a version that clients call at its own address may never.
    """
    deadline = time.monotonic() + limit_s
    if body is not None and client.ready(name, version):
        client.predict(f"{name}/{version}", body)
    idle_polls, cpu_before = 0, dict[int, float]()
    while True:
        description = client.describe(name, version)
        if description is None:
            return True
        cpu = cpu_seconds(description)
        queued = description.get("jobQueueStatus", {}).get("pendingRequests", 0)
        idle_polls = idle_polls + 1 if not queued and cpu == cpu_before else 0
        cpu_before = cpu
        if idle_polls >= IDLE_POLLS:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(IDLE_POLL_S)


def cpu_seconds(description: dict[str, Any]) -> dict[int, float]:
    """The CPU seconds of the workers and their decoders so far, by process id; they grow while a worker computes."""
    seconds = {}
    for worker in description.get("workers", []):
        with contextlib.suppress(psutil.Error, ValueError, KeyError):  # it died, or is just starting
            process = psutil.Process(worker["pid"])
            for part in (process, *process.children()):
                times = part.cpu_times()
                seconds[part.pid] = times.user + times.system
    return seconds


def content(answer: requests.Response) -> Any:
    """The JSON of an answer.

    Raises:
        UserError: it is not JSON.
    """
    try:
        return answer.json()
    except ValueError as error:
        raise UserError(f"{answer.url} answers {answer.text[:120]!r}, which is not JSON") from error


def _message(answer: requests.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {answer.status_code}"
