"""A front before two nodes of this machine, for the commands beside this file."""

import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.front.__main__ import BUNDLE, served
from benchmarks.harness.commands import run_command, sleep_until
from benchmarks.harness.server import question
from benchmarks.harness.versions import goldens_photo, relaxed
from common.errors import UserError
from deploy.archive import pack
from deploy.clients.generator import NUMBER
from deploy.clients.load import Load, Result
from deploy.host.locks import server_lock
from deploy.host.nodes import PORTS, environment, others
from deploy.host.processes import cmdline
from deploy.settings import Settings, read_settings, separate_environment
from traffic.front import tokens
from traffic.front.gate import Gate
from traffic.front.nodes import nodes

OPEN_S = 30.0
_VARIABLES = {"grpc_inference": "GRPC_INFERENCE", "grpc_management": "GRPC_MANAGEMENT"}


class Pair(NamedTuple):
    """Two nodes that serve the archive `mar`; `environment` is that of commands."""

    settings: Settings
    environment: dict[str, str]
    mar: Path


@contextmanager
def running_pair() -> Iterator[Pair]:
    """The shipped model as version 1.0 on two nodes behind a front, without a limit of latency at registration.

    Raises:
        UserError: the front sends no requests to both in time.
    """
    with tempfile.TemporaryDirectory() as work:
        bundle = relaxed(BUNDLE, Path(work) / "bundle")
        mar = pack(bundle, "1.0", Path(work) / "store")
        environment = pair_environment(Path(work), mar.parent)
        with served(environment, bundle) as settings:
            wait_for_both(settings)
            yield Pair(settings, environment, mar)


def pair_environment(folder: Path, store: Path) -> dict[str, str]:
    """The environment of a front and two nodes with free ports; their list is `folder`/nodes.yaml."""
    first, second = (separate_environment(folder / name / "var", store) for name in ("first", "second"))
    ports = {name: int(second[f"SERVE_{_VARIABLES.get(name, name.upper())}_PORT"]) for name in PORTS}
    rows = [{"name": "node1"}, {"name": "node2", "var": str(folder / "second" / "var"), "ports": ports}]
    (folder / "nodes.yaml").write_text(json.dumps({"nodes": rows}))
    return {**first, "SERVE_FRONT": "on", "SERVE_FRONT_RATE": "100000", "SERVE_NODES": str(folder / "nodes.yaml")}


def second_environment(settings: Settings) -> dict[str, str]:
    """The environment of commands that concern the second node only."""
    return environment(others(settings)[0].settings)


@dataclass(frozen=True)
class Clients:
    """Clients of the front that ask one model, each request with an id of its own.

    Args:
        mar: an archive of the model; its first golden photo is sent.
    """

    settings: Settings
    mar: Path

    def load(self, rate: float | None = None, clients: int | None = None) -> Load:
        """A load that runs until it is stopped."""
        name = self.mar.stem.rpartition("-")[0]
        body = question(goldens_photo(self.mar)) | {"image_id": NUMBER}
        key = tokens.read(self.settings.var)[tokens.FIRST]
        return Load(f"{self.settings.url('front')}/predictions/{name}", None, body, rate, clients=clients, key=key)

    def steady(self, seconds: float, rate: float | None = None, clients: int | None = None) -> Result:
        """A load of so many seconds."""
        with self.load(rate, clients) as load:
            sleep_until(load.begun + seconds)
            return load.stop()


def stop_second(settings: Settings) -> None:
    """Stop the second node; the front goes on with the first."""
    run_command("deploy", "down", environment=second_environment(settings))


def start_second(env: Mapping[str, str], bundle: Path) -> None:
    """Start the second node again; returns when the front sends requests to both. Raises UserError: it does not."""
    run_command("deploy", "up", "--bundle", bundle, environment=dict(env))
    wait_for_both(read_settings(env))


def program_of(settings: Settings, module: str) -> psutil.Process:
    """A program of supervisord. Raises UserError: it does not run."""
    owner = server_lock(settings.var).owner()
    for child in psutil.Process(owner.pid).children() if owner else ():
        if module in cmdline(child):
            return child
    raise UserError(f"{module} does not run")


def shadow_of(settings: Settings) -> psutil.Process:
    """The shadow's daemon, a child of the front's program. Raises UserError: it does not start in time."""
    deadline = time.monotonic() + OPEN_S
    while time.monotonic() < deadline:
        for child in program_of(settings, "traffic.front.program").children():
            if "traffic.shadow.program" in cmdline(child):
                return child
        time.sleep(0.1)
    raise UserError("the shadow does not run", f"see {settings.var}/logs/front_program.log")


def wait_for_both(settings: Settings) -> None:
    """Wait until the front sends requests to every node. Raises UserError: it does not in time."""
    gates = [Gate(settings.var, node) for node in nodes(settings)]
    deadline = time.monotonic() + OPEN_S
    while not all(gate.key for gate in gates):
        if time.monotonic() > deadline:
            raise UserError("the front sends no requests to a node", f"see {settings.var}/logs/front_program.log")
        time.sleep(0.1)
