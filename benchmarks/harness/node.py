"""A server of `python -m deploy up` that is measured: what runs in it, and whether it serves what it should."""

import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import requests

from benchmarks.harness.bench import Bench, question, run_command
from benchmarks.harness.versions import goldens_photo
from common.errors import UserError
from deploy.host.locks import server_lock
from deploy.host.processes import cmdline, group_of_server, java_of, members
from deploy.settings import ROOT, own_environment
from deploy.store import copies, desired
from deploy.store.journal import entries
from deploy.store.mar import read_manifest, served_version
from deploy.supervision.lifecycle import ask_keeper
from deploy.supervision.metrics import REPAIRS

SAME_S = 120.0
KEEPER = "deploy.supervision.keeper"
_CODE = ("handler", "config", "dataset", "deploy")


@dataclass
class Node(Bench):
    """supervisord with TorchServe and the keeper; `versions` must serve, the first is the default."""

    versions: list[str] = field(default_factory=list)
    cold_s: float = 0.0

    def wait_until_the_same(self) -> None:
        """Until all versions answer, the default is the default, and two programs run under one supervisord.

        Raises:
            UserError: that takes too long.
        """
        deadline = time.monotonic() + SAME_S
        while not self.same():
            if time.monotonic() > deadline:
                raise UserError(f"not the same versions after {SAME_S:.0f} s: {ask_keeper(self.settings)}")
            time.sleep(0.05)

    def same(self) -> bool:
        """Whether all is as it must be."""
        models = [self.name, *(f"{self.name}/{version}" for version in self.versions)]
        try:
            answers = [self.client.predict(model, self.body).json().get("model_version") for model in models]
            right = answers == [self.versions[0], *self.versions]
            return right and ask_keeper(self.settings)["ready"] and len(self.programs()) == 2
        except (UserError, requests.RequestException, psutil.Error, ValueError, KeyError):
            return False

    def repairs(self) -> int:
        """How often the keeper has mended what is served, its restoring at the start among it."""
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
        """What supervisord runs."""
        return [child for child in self.supervisor().children() if module in cmdline(child)]

    def torchserve(self) -> list[psutil.Process]:
        """TorchServe's launcher, Java and workers."""
        return members(group_of_server(self.settings.var) or 0)

    def java(self) -> psutil.Process:
        """TorchServe's front end.

        Raises:
            UserError: there is none.
        """
        found = java_of(group_of_server(self.settings.var) or 0)
        if found is None:
            raise UserError("TorchServe is not running")
        return found


@contextmanager
def up(var: Path, mars: Sequence[Path], bundle: Path, vmargs: str | None = None) -> Iterator[Node]:
    """A server of its own until the block has ended; returns when all versions answer, with `cold_s` measured.

    Args:
        mars: archives in one store; the first is the default.
        bundle: of their recipe.
        vmargs: Java's arguments, instead of those in config.properties.
    """
    versions = [read_manifest(mar).version for mar in mars]
    environment, body = own_environment(var, mars[0].parent), question(goldens_photo(mars[0]))
    node = Node(environment, read_manifest(mars[0]).name, body, versions=versions)
    for mar in mars:
        copies.keep_copy(var, mar)
    desired.write(var, [replace(served_version(mar), default=mar == mars[0]) for mar in mars])
    root = _code_with(vmargs, var.parent / "code") if vmargs else ROOT
    try:
        begun = time.monotonic()
        run_command("deploy", "up", "--bundle", bundle, environment=environment, root=root)
        node.wait_until_the_same()
        node.cold_s = time.monotonic() - begun
        node.learn()
        yield node
    finally:
        run_command("deploy", "down", "--now", environment=environment)


def _code_with(vmargs: str, folder: Path) -> Path:
    """A copy of the code with other arguments for Java: config.properties is the one place that gives them."""
    for room in _CODE:
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "config" / "config.properties"
    path.write_text(re.sub(r"(?m)^vmargs=.*$", lambda _: f"vmargs={vmargs}", path.read_text()))
    return folder
