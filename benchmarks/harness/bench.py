"""A server that is measured, and versions that are swapped on it while it answers a load."""

import base64
import contextlib
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness.load import Load, Result
from common.errors import UserError
from deploy.settings import ROOT, own_environment, read_settings
from deploy.store.journal import State, Step, entries
from deploy.store.mar import read_manifest
from deploy.torchserve.management import Client
from deploy.torchserve.process import Server

RESULTS = ROOT / "benchmarks" / "results"
COMMAND_S = 600


@dataclass(frozen=True)
class Swap:
    """One swap; times on the clock of time.monotonic()."""

    version: str
    begun: float
    ended: float


@dataclass
class Bench:
    """A running server, the request that it is asked, and the swaps that were made on it."""

    environment: dict[str, str]
    name: str
    body: dict[str, Any]
    expected: str | None = None
    swaps: list[Swap] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.settings = read_settings(self.environment)
        self.client = Client(self.settings)

    def learn(self) -> None:
        """Take the answer of now for the right one."""
        self.expected = self.client.predict(self.name, self.body).json()["result"]

    def load(self, rate: float | None = None, clients: int | None = None) -> Load:
        """A load on /predictions/NAME, which the default version answers."""
        url = f"{self.settings.url('inference')}/predictions/{self.name}"
        return Load(url, self.settings.var, self.body, rate, clients=clients, expected=self.expected)

    def steady(self, seconds: float, rate: float | None = None, clients: int | None = None) -> Result:
        """A load without swaps."""
        with self.load(rate, clients) as load:
            sleep_until(load.begun + seconds)
            return load.stop()

    def through_swaps(self, mars: Iterable[Path], every_s: float, rate: float, swap: Callable[[Path], None]) -> Result:
        """A load, and in its course a swap to each archive, one in `every_s` (later if the one before takes longer)."""
        with self.load(rate) as load:
            number = 0
            for number, mar in enumerate(mars, 1):
                sleep_until(load.begun + (number - 0.5) * every_s)
                swap(mar)
            sleep_until(load.begun + number * every_s)
            return load.stop()

    def roll_out(self, mar: Path) -> None:
        """Swap by the command that a person types; the old version is drained and unregistered.

        Raises:
            UserError: with the last words of the command that failed.
        """
        begun = time.monotonic()
        run_command("deploy", "rollout", mar, "--keep", "0", "--json", environment=self.environment)
        self._note(mar, begun)

    def swap_naively(self, mar: Path) -> None:
        """Swap as one does who trusts that unregistering waits for what was asked."""
        old, begun = self.client.default(self.name), time.monotonic()
        self.client.register(mar.name, self.name)
        self.client.set_default(self.name, read_manifest(mar).version)
        with contextlib.suppress(UserError):  # TorchServe trips over its own full queue at times
            self.client.unregister(self.name, str(old))
        self._note(mar, begun)

    def _note(self, mar: Path, begun: float) -> None:
        self.swaps.append(Swap(read_manifest(mar).version, begun, time.monotonic()))

    def seen(self) -> dict[str, Any]:
        """What the journals, TorchServe's access log and its API say of all swaps; the first replaced nothing."""
        done = [e for e in entries(self.settings.var) if (e.action, e.state) == ("rollout", State.DONE)]
        steps = [step for entry in done[1:] for step in entry.steps]
        logs = sorted((self.settings.var / "logs").glob("access_log*.log"))
        # A line of the log is JSON, in which the request stands in escaped quotes.
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
def running(var: Path, first: Path, picture: bytes) -> Iterator[Bench]:
    """A TorchServe of its own, without a keeper, with one version in service.

    Args:
        first: archive of that version, in the store.
        picture: the photo to ask about; the version's first answer to it is the right one for all.
    """
    bench = Bench(own_environment(var, first.parent), read_manifest(first).name, question(picture))
    with Server(bench.settings):
        bench.roll_out(first)
        bench.learn()
        yield bench


def question(picture: bytes) -> dict[str, Any]:
    """The request that asks for a photo."""
    return {"image_id": "1", "image_base64": base64.b64encode(picture).decode(), "detail": True}


def run_command(*words: object, environment: dict[str, str] | None = None, root: Path = ROOT) -> str:
    """Run `python -m WORDS` as a person would, and return what it printed.

    Args:
        root: of the code.

    Raises:
        UserError: with the last words of the command that failed.
    """
    line = [sys.executable, "-m", *map(str, words)]
    env = {**os.environ, **(environment or {})}
    done = subprocess.run(line, cwd=root, env=env, capture_output=True, text=True, timeout=COMMAND_S)
    if done.returncode:
        raise UserError(f"{' '.join(line[1:])} failed: {(done.stderr or done.stdout).strip()[-800:]}")
    return done.stdout


def sleep_until(moment: float) -> None:
    """Sleep until a moment of time.monotonic()."""
    time.sleep(max(moment - time.monotonic(), 0))


def _medians(steps: Iterable[Step]) -> dict[str, float]:
    spent: dict[str, list[float]] = {}
    for step in steps:
        spent.setdefault(step.name, []).append(step.seconds or 0.0)
    return {name: round(statistics.median(seconds), 2) for name, seconds in spent.items()}
