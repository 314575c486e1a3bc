"""Servers for benchmarks and tests: TorchServe alone, or supervised as `make up` starts it; and swaps of versions."""

import base64
import contextlib
import re
import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import requests

from benchmarks.harness.commands import run_command, sleep_until
from benchmarks.harness.versions import goldens_photo
from common.errors import UserError
from deploy.clients.load import Load, Result
from deploy.host.locks import server_lock
from deploy.host.processes import cmdline, group_of_server, java_of, members
from deploy.settings import ROOT, read_settings, separate_environment
from deploy.store import copies, desired
from deploy.store.journal import JournalEntry, State, Step, entries
from deploy.store.mar import read_manifest, served_version
from deploy.store.profile import ServingOptions
from deploy.supervision.lifecycle import ask_keeper
from deploy.supervision.metrics import REPAIRS
from deploy.torchserve.management import Client
from deploy.torchserve.probes import example
from deploy.torchserve.process import Server

SAME_S = 120.0
KEEPER = "deploy.supervision.keeper"
_CODE = ("common", "config", "dataset", "deploy", "handler")


@dataclass(frozen=True)
class Swap:
    """One swap; times on the clock of time.monotonic()."""

    version: str
    begun: float
    ended: float


@dataclass
class ServedModel:
    """A model on a server with a separate folder and free ports, and the request that is sent to it.

    Args:
        environment: settings of the server, as environment variables.
        name: model name.
        body: request that is sent to it.
    """

    environment: dict[str, str]
    name: str
    body: dict[str, Any]

    def __post_init__(self) -> None:
        self.settings = read_settings(self.environment)
        self.client = Client(self.settings)
        self.var, self.store = self.settings.var, self.settings.store

    def predict(self, version: str = "", **changes: object) -> requests.Response:
        """Send the request, with changed keys, to the default version or to one version."""
        return self.client.predict(f"{self.name}/{version}" if version else self.name, self.body | changes)

    def answered_by(self, version: str = "") -> str:
        """The version that answers."""
        return str(self.predict(version).json()["model_version"])

    def registered(self) -> dict[str, int]:
        """The number of ready workers by version."""
        rows = [row for row in self.client.models() if row["modelName"] == self.name]
        return {str(row["modelVersion"]): self.client.ready(self.name, row["modelVersion"]) for row in rows}

    def manifest(self) -> list[str]:
        """The versions that must be served."""
        return [entry.version for entry in desired.read(self.var)]

    def last(self) -> JournalEntry:
        """The last change of what is served."""
        return entries(self.var)[-1]


@dataclass
class MeasuredServer(ServedModel):
    """A running server, the request that is sent to it, and the swaps so far."""

    expected: str | None = None
    swaps: list[Swap] = field(default_factory=list)

    def learn(self) -> None:
        """Send the request once, and expect the same label from now on."""
        self.expected = self.client.predict(self.name, self.body).json()["result"]

    def load(self, rate: float | None = None, clients: int | None = None) -> Load:
        """A load on /predictions/NAME, answered by the default version."""
        url = f"{self.settings.url('inference')}/predictions/{self.name}"
        return Load(url, self.settings.var, self.body, rate, clients=clients, expected=self.expected)

    def steady(self, seconds: float, rate: float | None = None, clients: int | None = None) -> Result:
        """A load without swaps."""
        with self.load(rate, clients) as load:
            sleep_until(load.begun + seconds)
            return load.stop()

    def through_swaps(self, mars: Iterable[Path], every_s: float, rate: float, swap: Callable[[Path], None]) -> Result:
        """A load with a swap to each archive, one every `every_s` seconds (later if the swap before takes longer)."""
        with self.load(rate) as load:
            number = 0
            for number, mar in enumerate(mars, 1):
                sleep_until(load.begun + (number - 0.5) * every_s)
                swap(mar)
            sleep_until(load.begun + number * every_s)
            return load.stop()

    def roll_out(self, mar: Path) -> None:
        """Swap by `deploy rollout`: it drains the old version and unregisters it.

        Raises:
            UserError: with the last words of the command that failed.
        """
        begun = time.monotonic()
        run_command("deploy", "rollout", mar, "--keep", "0", "--json", environment=self.environment)
        self._note(mar, begun)

    def swap_naively(self, mar: Path) -> None:
        """Swap without draining, as if unregistering waited for open requests."""
        old, begun = self.client.default(self.name), time.monotonic()
        self.client.register(mar.name, self.name)
        self.client.set_default(self.name, read_manifest(mar).version)
        with contextlib.suppress(UserError):  # TorchServe sometimes fails when its queue is full
            self.client.unregister(self.name, str(old))
        self._note(mar, begun)

    def _note(self, mar: Path, begun: float) -> None:
        self.swaps.append(Swap(read_manifest(mar).version, begun, time.monotonic()))

    def seen(self) -> dict[str, Any]:
        """The swaps according to journal, access log and API. The first one replaced nothing and is left out."""
        done = [e for e in entries(self.settings.var) if (e.action, e.state) == ("rollout", State.DONE)]
        steps = [step for entry in done[1:] for step in entry.steps]
        logs = sorted((self.settings.var / "logs").glob("access_log*.log"))
        # A line of the log is JSON that contains the request in escaped quotes.
        log = "".join(path.read_text() for path in logs).replace(r"\"", '"')
        return {
            "journal": {"registered": len(done) - 1, "unregistered": str(steps).count("is retired")},
            "log": {
                "registered": len(re.findall(r'"POST /models\?\S+ HTTP/1.1" 200 ', log)) - 1,
                "unregistered": len(re.findall(rf'"DELETE /models/{self.name}/\S+ HTTP/1.1" 200 ', log)),
            },
            "left": [row["modelVersion"] for row in self.client.models()],
            "steps_median_s": _medians(steps),
        }


@contextmanager
def measured_server(var: Path, first: Path, picture: bytes) -> Iterator[MeasuredServer]:
    """A TorchServe without a keeper that serves one version.

    Args:
        first: archive of that version, in the store.
        picture: photo that requests send; the first answer is the expected one from then on.
    """
    server = MeasuredServer(separate_environment(var, first.parent), read_manifest(first).name, question(picture))
    with Server(server.settings):
        server.roll_out(first)
        server.learn()
        yield server


def question(picture: bytes) -> dict[str, Any]:
    """The request to classify a photo."""
    return {"image_id": "1", "image_base64": base64.b64encode(picture).decode(), "detail": True}


@dataclass
class SupervisedServer(MeasuredServer):
    """supervisord with TorchServe and the keeper; all `versions` must answer, the first is the default."""

    versions: list[str] = field(default_factory=list)
    cold_s: float = 0.0

    def wait_until_the_same(self) -> None:
        """Wait until all versions answer, the default is right, and supervisord runs two programs.

        Raises:
            UserError: that takes too long.
        """
        deadline = time.monotonic() + SAME_S
        while not self.same():
            if time.monotonic() > deadline:
                raise UserError(f"not the same versions after {SAME_S:.0f} s: {ask_keeper(self.settings)}")
            time.sleep(0.05)

    def same(self) -> bool:
        """Whether all versions answer, the default is right, and supervisord runs two programs."""
        models = [self.name, *(f"{self.name}/{version}" for version in self.versions)]
        try:
            answers = [self.client.predict(model, self.body).json().get("model_version") for model in models]
            right = answers == [self.versions[0], *self.versions]
            return right and ask_keeper(self.settings)["ready"] and len(self.programs()) == 2
        except (UserError, requests.RequestException, psutil.Error, ValueError, KeyError):
            return False

    def repairs(self) -> int:
        """Number of repairs by the keeper, including the one at the start."""
        return sum(entry.action in REPAIRS for entry in entries(self.settings.var))

    def supervisor(self) -> psutil.Process:
        """supervisord.

        Raises:
            UserError: there is none.
        """
        owner = server_lock(self.settings.var).owner()
        if owner is None:
            raise UserError("supervisord is not running")
        return psutil.Process(owner.pid)

    def programs(self, module: str = "-m") -> list[psutil.Process]:
        """The programs that supervisord runs; `module` selects by command line."""
        return [child for child in self.supervisor().children() if module in cmdline(child)]

    def torchserve(self) -> list[psutil.Process]:
        """TorchServe's launcher, Java and workers."""
        return members(group_of_server(self.settings.var) or 0)

    def java(self) -> psutil.Process:
        """TorchServe's front end.

        Raises:
            UserError: there is none.
        """
        java = java_of(group_of_server(self.settings.var) or 0)
        if java is None:
            raise UserError("TorchServe is not running")
        return java


@contextmanager
def supervised_server(
    var: Path, mars: Sequence[Path], bundle: Path, vmargs: str | None = None
) -> Iterator[SupervisedServer]:
    """A supervised server, stopped at the end of the block; starts it, waits for all versions and measures `cold_s`.

    Args:
        mars: archives in one store; the first is the default.
        bundle: a bundle of their recipe.
        vmargs: Java's arguments, instead of those in config.properties.
    """
    versions = [read_manifest(mar).version for mar in mars]
    environment, body = separate_environment(var, mars[0].parent), question(goldens_photo(mars[0]))
    server = SupervisedServer(environment, read_manifest(mars[0]).name, body, versions=versions)
    for mar in mars:
        copies.keep_copy(var, mar)
    desired.write(var, [replace(served_version(mar), default=mar == mars[0]) for mar in mars])
    root = _code_with(vmargs, var.parent / "code") if vmargs else ROOT
    try:
        begun = time.monotonic()
        run_command("deploy", "up", "--bundle", bundle, environment=environment, root=root)
        server.wait_until_the_same()
        server.cold_s = time.monotonic() - begun
        server.learn()
        yield server
    finally:
        run_command("deploy", "down", "--now", environment=environment)


def _code_with(vmargs: str, folder: Path) -> Path:
    """A copy of the code with other arguments for Java: only config.properties can set them."""
    for package in _CODE:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "config" / "config.properties"
    path.write_text(re.sub(r"(?m)^vmargs=.*$", lambda _: f"vmargs={vmargs}", path.read_text()))
    return folder


def put_in_service(server: Server, mar: Path) -> None:
    """Register an archive, and check that its version answers a golden photo correctly.

    Raises:
        UserError: it was refused, its worker did not start, or the answer is wrong.
    """
    entry = served_version(mar)
    try:
        server.client.register(mar.name, entry.name, ServingOptions(entry.workers))
    except UserError as error:
        raise UserError(f"{mar.name}: {error.message}\n{server.why_no_worker()}") from error
    question = example(mar)
    answer = server.client.predict(f"{entry.name}/{entry.version}", question.body)
    if not answer.ok or answer.json().get("result") != question.golden.label:
        raise UserError(f"{mar.name} answers {answer.text[:200]} to a photo of {question.golden.label}: not measured")


def _medians(steps: Iterable[Step]) -> dict[str, float]:
    spent: dict[str, list[float]] = {}
    for step in steps:
        spent.setdefault(step.name, []).append(step.seconds or 0.0)
    return {name: round(statistics.median(seconds), 2) for name, seconds in spent.items()}
