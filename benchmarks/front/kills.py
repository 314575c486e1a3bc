"""Kill every process behind and beside the front, at each step of a canary, under load; count what clients lose.

    python -m benchmarks.front.kills [--requests 5000]

Serves the shipped model on two nodes behind nginx, and sends requests at a constant rate. While a canary compares and
shares, `kill -9` ends the shadow, a keeper, nginx with its workers, the canary (the same command goes on) and
TorchServe; at the end both nodes one after the other. Takes about five minutes. Exits 1 if a request was lost that a
killed nginx did not have. Prints Markdown, and one JSON line last.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import click
import psutil

from benchmarks.front.pair import Clients, program_of, running_pair, shadow_of
from benchmarks.harness.commands import sleep_until
from benchmarks.harness.server import KEEPER
from benchmarks.harness.versions import copy_as
from common.cli import command
from common.console import note
from common.errors import CheckFailed, UserError
from deploy.clients.generator import LOST
from deploy.clients.load import Result
from deploy.host.processes import group_of_server, java_of
from deploy.settings import ROOT, Settings
from traffic import record
from traffic.front.gate import Gate
from traffic.front.nginx import Nginx
from traffic.front.nodes import nodes, settings_of
from traffic.record import State

NAME, RATE, STEP_S, SLACK_S = "classroom", 20.0, 180.0, 0.1
NGINX = "nginx"


@command(epilog="Example: python -m benchmarks.front.kills --requests 5000")
@click.option("--requests", "count", default=5000, show_default=True, help="Requests to send, at least.")
@click.option("--rate", default=RATE, show_default=True, type=click.FloatRange(1), help="Requests in a second.")
def main(count: int, rate: float) -> None:
    """Kill processes under load at each step of a canary."""
    with running_pair() as (settings, environment, mar):
        newer = copy_as(mar, "1.1", mar.parent)
        with Clients(settings, mar).load(rate) as load:
            kills = Kills(settings, environment, newer, load.begun)
            kills.all()
            sleep_until(load.begun + count / rate)
            result = load.stop()
    in_hand = kills.in_hand(result)
    click.echo("| killed | when | after, s |\n|---|---|---|")
    for what, when, moment in kills.done:
        click.echo(f"| {what} | {when} | {moment:.1f} |")
    facts = {key: result.as_json()[key] for key in ("sent", "statuses", "lost", "unanswered", "versions", "p99_ms")}
    click.echo(f"{result.lost} of {result.sent} requests were lost; a killed nginx had {in_hand} of them")
    click.echo(json.dumps({"benchmark": "front.kills", "kills": len(kills.done), "in_hand": in_hand, **facts}))
    if result.lost > in_hand or result.failed or result.unanswered:
        raise CheckFailed(f"{result.lost - in_hand} requests were lost otherwise; answers: {result.statuses}")


@dataclass
class Kills:
    """What is killed, and when: (process, step of the canary, seconds since the load began)."""

    settings: Settings
    environment: dict[str, str]
    newer: Path
    begun: float
    done: list[tuple[str, str, float]] = field(default_factory=list)

    def all(self) -> None:
        """Kill everything once at each step at which it can matter."""
        with self.canary() as first:
            self.until(State.SHADOWING, first)
            self.kill("shadow", [shadow_of(self.settings)])
            self.kill("keeper", [program_of(self.settings, KEEPER)])
            self.kill(NGINX, self.nginx())
            self.kill("canary", [psutil.Process(first.pid)])
        with self.canary() as second:
            self.until(State.SHARING, second)
            self.kill(NGINX, self.nginx())
            self.kill_node(1)
            self.kill("canary", [psutil.Process(second.pid)])
        with self.canary() as third:
            if third.wait(STEP_S * 2):
                raise UserError("the canary did not go on", f"see {self.settings.var}/logs")
        for number in (0, 1):
            self.kill_node(number)

    @contextmanager
    def canary(self) -> Iterator[subprocess.Popen[bytes]]:
        """The command; the same each time."""
        options = ["--steps", "20,100", "--requests", "400", "--shadow", "30"]
        words = [sys.executable, "-m", "traffic", "canary", self.newer.name, *options]
        env = {**os.environ, **self.environment}
        with ExitStack() as stack:
            process = stack.enter_context(subprocess.Popen(words, cwd=ROOT, env=env, stdout=subprocess.DEVNULL))
            stack.callback(process.kill)
            yield process

    def until(self, state: State, process: subprocess.Popen[bytes]) -> None:
        """Wait until the canary has come so far. Raises UserError: it ended, or takes too long."""
        deadline = time.monotonic() + STEP_S
        while (found := record.read(self.settings.var, NAME)) is None or found.state is not state:
            if process.poll() is not None or time.monotonic() > deadline:
                raise UserError(f"the canary is not {state}: {found and found.why}")
            time.sleep(0.05)
        time.sleep(1)  # in the middle of the step

    def kill_node(self, number: int) -> None:
        """Kill TorchServe of a node, and wait until the front sends it requests with its new key."""
        gate = Gate(self.settings.var, nodes(self.settings)[number])
        key = gate.key
        self.kill(f"TorchServe of node{number + 1}", [self.java(number)])
        deadline = time.monotonic() + STEP_S
        while gate.key in ("", key):
            if time.monotonic() > deadline:
                raise UserError(f"node{number + 1} does not come back", f"see {gate.node.var}/logs")
            time.sleep(0.1)

    def kill(self, what: str, doomed: list[psutil.Process]) -> None:
        """Kill processes, and note it."""
        found = record.read(self.settings.var, NAME)
        for process in doomed:
            process.kill()
        self.done.append((what, found.state if found else "before", time.monotonic() - self.begun))
        note(f"{self.done[-1][2]:6.1f} s: kill -9 of {what}")
        time.sleep(2)

    def nginx(self) -> list[psutil.Process]:
        """The master and its workers. Raises UserError: it does not run."""
        master = Nginx(self.settings.var).master()
        if master is None:
            raise UserError("nginx does not run")
        return [master, *master.children()]

    def java(self, number: int) -> psutil.Process:
        """TorchServe of a node. Raises UserError: it does not run."""
        java = java_of(group_of_server(settings_of(self.settings)[number].var) or 0)
        if java is None:
            raise UserError(f"TorchServe of node{number + 1} does not run")
        return java

    def in_hand(self, result: Result) -> int:
        """Lost requests that had been sent when nginx was killed."""
        moments = [moment for what, _, moment in self.done if what == NGINX]
        lost = [sample for sample in result.samples if sample.outcome == LOST]
        return sum(any(s.sent - SLACK_S <= m <= s.answered + SLACK_S for m in moments) for s in lost)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.front.kills")
