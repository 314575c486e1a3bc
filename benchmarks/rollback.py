"""Measure the time from the start of a rollback to the first answer of the former version.

    python -m benchmarks.rollback [--times 10]

Starts `python -m deploy up` with the shipped model as version 1.1 (the default) and 1.0 (kept), under a light load: one
request after the other with pauses of 20 ms. Then it repeats `python -m deploy rollback`, and returns by
`rollback --to 1.1`. Exits 1 if the median is above one second, or a request failed. Prints Markdown, and one
JSON line last; writes benchmarks/results/rollback.json.
"""

import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from benchmarks.footprint import BUNDLE
from benchmarks.harness.commands import RESULTS, run_command
from benchmarks.harness.server import SupervisedServer, supervised_server
from common.cli import command
from common.errors import CheckFailed, Unreachable, UserError
from common.files import write_json
from common.words import number_of
from deploy.archive import pack
from deploy.torchserve.management import Client

DEFAULT, KEPT = "1.1", "1.0"
AT_MOST_S = 1.0
PAUSE_S = 0.02
SETTLE_S = 1.0
ANSWER_S = 30.0


class Answer(NamedTuple):
    """Times on the clock of time.monotonic(), and the version that answered."""

    sent: float
    arrived: float
    version: str


class LightLoad:
    """A load from a thread, and its answers."""

    def __init__(self, node: SupervisedServer) -> None:
        self.answers: list[Answer] = []
        self.failed = 0
        self._node, self._client = node, Client(node.settings)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._send)

    def __enter__(self) -> "LightLoad":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def first(self, version: str, since: float) -> float:
        """The time at which a version first answered a request sent at or after `since`.

        Raises:
            Unreachable: it did not answer in time.
        """
        deadline = time.monotonic() + ANSWER_S
        while time.monotonic() < deadline:
            for answer in list(self.answers):
                if answer.sent >= since and answer.version == version:
                    return answer.arrived
            time.sleep(PAUSE_S)
        raise Unreachable(f"{version} did not answer within {ANSWER_S:.0f} s")

    def _send(self) -> None:
        while not self._ended.wait(PAUSE_S):
            sent = time.monotonic()
            try:
                version = str(self._client.predict(self._node.name, self._node.body).json()["model_version"])
            except (UserError, ValueError, KeyError):
                self.failed += 1
            else:
                self.answers.append(Answer(sent, time.monotonic(), version))


@command(epilog="Example: python -m benchmarks.rollback --times 3")
@click.option("--times", default=10, show_default=True, type=click.IntRange(1), help="Number of rollbacks.")
@click.option("--out", default=RESULTS, type=click.Path(file_okay=False, path_type=Path), help="Folder of the results.")
def main(times: int, out: Path) -> None:
    """Repeat a rollback, and measure when the former version answers."""
    with tempfile.TemporaryDirectory() as work:
        bundle, store = BUNDLE, Path(work) / "store"
        mars = [pack(bundle, version, store) for version in (DEFAULT, KEPT)]
        with supervised_server(Path(work) / "var", mars, bundle) as node, LightLoad(node) as load:
            spent = [one_rollback(node, load) for _ in range(times)]
    report = summary(spent, len(load.answers), load.failed)
    write_json(out / "rollback.json", report)
    click.echo("| seconds from the call | median | min | max |\n|---|---|---|---|")
    for key in ("first_answer_s", "command_s"):
        row = report[key]
        click.echo(f"| {key.removesuffix('_s').replace('_', ' ')} | {row['median']} | {row['min']} | {row['max']} |")
    click.echo(json.dumps(report))
    if report["broken"]:
        raise CheckFailed("; ".join(report["broken"]))


def one_rollback(node: SupervisedServer, load: LightLoad) -> tuple[float, float]:
    """Seconds until the former version answers, and until the command ends; then return to the default version."""
    time.sleep(SETTLE_S)
    begun = time.monotonic()
    run_command("deploy", "rollback", environment=node.environment)
    ended = time.monotonic()
    answered = load.first(KEPT, begun)
    run_command("deploy", "rollback", "--to", DEFAULT, environment=node.environment)
    load.first(DEFAULT, ended)
    return answered - begun, ended - begun


def summary(spent: Sequence[tuple[float, float]], answered: int, failed: int) -> dict[str, Any]:
    """The figures; `broken` lists the missed bounds.

    Args:
        spent: for each rollback, seconds until the first answer and until the end of the command.
    """
    first, whole = (figures(column) for column in zip(*spent, strict=True))
    checks = {
        f"the first answer came after {first['median']} s, more than {AT_MOST_S:g}": first["median"] <= AT_MOST_S,
        f"{number_of(failed, 'request')} failed": failed == 0,
    }
    return {
        "benchmark": "rollback",
        "cores": os.cpu_count(),
        "times": len(spent),
        "first_answer_s": first,
        "command_s": whole,
        "answered": answered,
        "failed": failed,
        "broken": [text for text, kept in checks.items() if not kept],
    }


def figures(seconds: Sequence[float]) -> dict[str, float]:
    """Median, least and most, rounded to milliseconds."""
    return {
        "median": round(statistics.median(seconds), 3),
        "min": round(min(seconds), 3),
        "max": round(max(seconds), 3),
    }


if __name__ == "__main__":
    main()
