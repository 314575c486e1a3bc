"""Measure how long it takes until the same versions serve again after a process was killed, and what clients lost.

    python -m benchmarks.killed [--rate 5] [--only "kill -9 of a worker"]

Starts `python -m deploy up` with the shipped model as version 1.1 (the default) and 1.0 (kept), under a light load at a
constant rate. Exits 1 if a bound was missed:

- in every case the same versions serve again within twice the cold start of the same run; a rollout that was killed and
  run again is done within that time;
- every request is answered within 10 s;
- no request fails, except those that a killed worker had or that were in its queue, and
- while Java is down, those that it had and those sent until it is back. They are counted, but have no bound.

Prints Markdown, then one JSON line; writes benchmarks/results/killed.json unless --only chooses cases.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import psutil

from benchmarks.footprint import BUNDLE
from benchmarks.harness.commands import RESULTS, run_command, sleep_until
from benchmarks.harness.disk import Skipped, fill, small_disk
from benchmarks.harness.server import KEEPER, SupervisedServer, supervised_server
from benchmarks.harness.versions import relaxed
from common.cli import command
from common.errors import CheckFailed, UserError
from common.files import write_json
from common.words import number_of
from deploy.archive import pack
from deploy.clients.load import Result
from deploy.host.processes import alive
from deploy.settings import HOST, ROOT
from deploy.store.journal import State, entries

VERSIONS = ("1.1", "1.0", "1.2", "1.3")  # the default, the kept one, and two to roll out
AT_MOST = 2.0  # cold starts
TAKEN_S = 5.0  # how long another process uses the port
SETTLE_S = 3.0
NOTHING, IN_HAND, UNTIL_BACK = "nothing", "what the worker had", "what is sent until Java is back"


@dataclass(frozen=True)
class Case:
    """A failure: `do` causes it and returns the time from which to measure; `may_lose` says which requests may fail."""

    name: str
    do: Callable[[SupervisedServer], float]
    may_lose: str = NOTHING


def kill(process: psutil.Process) -> float:
    """Send SIGKILL, wait until the process is gone, and return the time of the signal."""
    moment = time.monotonic()
    process.kill()
    while alive(process):
        time.sleep(0.01)
    return moment


def kill_worker(node: SupervisedServer) -> float:
    version = node.client.describe(node.name, node.versions[0]) or {}
    pid, moment = int(version["workers"][0]["pid"]), time.monotonic()
    os.kill(pid, signal.SIGKILL)
    return moment


def delete_archive(node: SupervisedServer) -> float:
    (node.settings.store / f"{node.name}-{node.versions[0]}.mar").unlink()
    return kill(node.java())


def take_port(node: SupervisedServer) -> float:
    """Returns the time at which the port is free again."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kill(node.java())
        other.bind((HOST, node.settings.ports["management_address"]))
        other.listen()
        time.sleep(TAKEN_S)
    return time.monotonic()


def kill_rollout(node: SupervisedServer, now: Callable[[SupervisedServer, str], bool]) -> float:
    """Kill a rollout of the next version as soon as `now` is true, then run the same command again."""
    version = next(version for version in VERSIONS[2:] if version > node.versions[0])
    words = ["deploy", "rollout", f"{node.name}-{version}.mar"]
    environment = {**os.environ, **node.environment}
    with subprocess.Popen(
        [sys.executable, "-m", *words], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as rollout:
        while not now(node, version):
            if rollout.poll() is not None:
                raise CheckFailed(f"the rollout of {version} ended before it could be killed")
            time.sleep(0.005)
        moment = time.monotonic()
        rollout.kill()
    run_command(*words, environment=node.environment)
    last = entries(node.settings.var)[-1]
    if (last.action, last.version, last.state) != ("rollout", version, State.DONE):
        raise CheckFailed(f"the second rollout of {version} did not succeed: {last}")
    node.versions = [version, node.versions[0]]
    return moment


def worker_starts(node: SupervisedServer, version: str) -> bool:
    workers = (node.client.describe(node.name, version) or {}).get("workers", [])
    return any(worker["pid"] > 0 and worker["status"] != "READY" for worker in workers)


def switched(node: SupervisedServer, version: str) -> bool:
    return node.client.default(node.name) == version


def fill_disk(node: SupervisedServer) -> float:
    """Fill the disk completely, unregister the kept version, and kill the keeper."""
    fill(node.settings.var.parent)
    node.client.unregister(node.name, node.versions[1])
    return kill(*node.programs(KEEPER))


DISK = Case("disk full, keeper killed", fill_disk)
CASES = (
    Case("kill -9 of a worker", kill_worker, IN_HAND),
    Case("kill -9 of Java", lambda node: kill(node.java()), UNTIL_BACK),
    Case("kill -9 of the keeper", lambda node: kill(*node.programs(KEEPER))),
    Case("kill -9 of supervisord", lambda node: kill(node.supervisor())),
    Case("archive deleted, Java killed", delete_archive, UNTIL_BACK),
    Case(f"port taken for {TAKEN_S:.0f} s at a restart (from when it is free)", take_port, UNTIL_BACK),
    Case("kill -9 of a rollout whose worker starts (until done)", lambda node: kill_rollout(node, worker_starts)),
    Case("kill -9 of a rollout right after its switch (until done)", lambda node: kill_rollout(node, switched)),
)


@command(epilog="Example: python -m benchmarks.killed --only keeper --only rollout")
@click.option("--rate", default=5.0, show_default=True, type=click.FloatRange(1), help="Requests a second.")
@click.option(
    "--only", multiple=True, metavar="WORDS", help="Only cases whose name contains these words; writes no file."
)
def main(rate: float, only: tuple[str, ...]) -> None:
    """Cause each failure under load, and measure the recovery."""
    chosen = [case for case in (*CASES, DISK) if not only or any(words in case.name for words in only)]
    if not chosen:
        raise click.UsageError(
            f"no case matches --only; the cases are: {'; '.join(case.name for case in (*CASES, DISK))}"
        )
    with tempfile.TemporaryDirectory() as work:
        report = {"benchmark": "killed", "rate": rate, **measure(Path(work), chosen, rate)}
    if not only:
        write_json(RESULTS / "killed.json", report)
    click.echo(json.dumps(report))
    missed = broken(report["cases"])
    if missed:
        raise CheckFailed("; ".join(missed))


def measure(work: Path, cases: list[Case], rate: float) -> dict[str, Any]:
    """Measure all cases on one server, except that of the full disk; prints a row for each."""
    bundle = relaxed(BUNDLE, work / "bundle")  # a busy machine must not make a rollout fail
    mars = [pack(bundle, version, work / "store") for version in VERSIONS]
    report: dict[str, Any] = {"cold_s": None, "cases": []}
    click.echo("| case | sent | failed | may fail | no answer in 10 s | recovered after | cold starts |")
    click.echo("|---|---|---|---|---|---|---|")
    if others := [case for case in cases if case is not DISK]:
        with supervised_server(work / "var", mars[:2], bundle) as node:
            report |= {"cold_s": round(node.cold_s, 2), "cases": [one_case(node, case, rate) for case in others]}
    if DISK in cases:
        try:
            with small_disk(work / "disk") as disk, supervised_server(disk / "var", mars[:2], bundle) as node:
                report["cold_s"] = report["cold_s"] or round(
                    node.cold_s, 2
                )  # each case is compared with the cold start of its server
                report["cases"].append(one_case(node, DISK, rate))
        except Skipped as error:
            report["skipped"] = {DISK.name: error.message}
            click.echo(f"\n{DISK.name}: skipped: {error.message}")
    return report


def one_case(node: SupervisedServer, case: Case, rate: float) -> dict[str, Any]:
    """Cause the failure under load, wait for the recovery, continue the load for a while; prints a row."""
    with node.load(rate) as load:
        sleep_until(load.begun + SETTLE_S)
        try:
            moment = case.do(node)
            node.wait_until_the_same()
        except UserError as error:
            raise CheckFailed(f"{case.name}: {error.message}") from error
        seconds = time.monotonic() - moment
        time.sleep(SETTLE_S)
        result = load.stop()
    row = row_of(case, result, moment, seconds, node.cold_s)
    may = "any" if row["allowed"] is None else row["allowed"]
    cells = (case.name, row["sent"], row["failed"], may, row["unanswered"], f"{seconds:.1f} s", row["ratio"])
    click.echo(f"| {' | '.join(map(str, cells))} |")
    return row


def row_of(case: Case, result: Result, moment: float, seconds: float, cold_s: float) -> dict[str, Any]:
    """The figures of a case. Wrong answers count as failed; `allowed` is how many may fail (None: any number)."""
    at = moment - result.begun
    in_hand = sum(sample.sent <= at < sample.answered for sample in result.samples)
    return {
        "case": case.name,
        "sent": result.sent,
        "failed": result.failed + result.lost + result.wrong,
        "unanswered": result.unanswered,
        "seconds": round(seconds, 2),
        "ratio": round(seconds / cold_s, 2),
        "allowed": {NOTHING: 0, IN_HAND: in_hand, UNTIL_BACK: None}[case.may_lose],
    }


def broken(rows: list[dict[str, Any]]) -> list[str]:
    """The bounds that were missed, as sentences."""
    missed = []
    for row in rows:
        allowed = row["sent"] if row["allowed"] is None else row["allowed"]
        checks = {
            "no request was sent": row["sent"] > 0,
            f"{number_of(row['failed'], 'request')} failed, {allowed} may": row["failed"] <= allowed,
            f"{number_of(row['unanswered'], 'request')} got no answer": row["unanswered"] == 0,
            f"it took {row['ratio']} cold starts, more than {AT_MOST:g}": row["ratio"] <= AT_MOST,
        }
        missed += [f"{row['case']}: {text}" for text, kept in checks.items() if not kept]
    return missed


if __name__ == "__main__":
    main()
