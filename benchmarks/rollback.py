"""How long from the call of a rollback to the first answer of the former version?

    python -m benchmarks.rollback [--times 10]

Runs a server of `python -m deploy up` with the shipped model as 1.1 (the default) and 1.0 (kept), under a light load:
one request after the other, 20 ms between them. Then, again and again, `python -m deploy rollback`, and back by
`rollback --to 1.1`. Exits 1 if half of them took longer than a second, or a request failed. Prints Markdown, and one
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
from benchmarks.harness.bench import RESULTS, run_command
from benchmarks.harness.node import Node, up
from common.cli import command
from common.errors import UserError
from common.files import write_json
from deploy.archive import pack
from deploy.torchserve.management import Client

DEFAULT, KEPT = "1.1", "1.0"
AT_MOST_S = 1.0
PAUSE_S = 0.02
SETTLE_S = 1.0
ANSWER_S = 30.0


class Answer(NamedTuple):
    """Moments of time.monotonic(), and who answered."""

    sent: float
    arrived: float
    version: str


class Asking:
    """A light load from a thread, and its answers."""

    def __init__(self, node: Node) -> None:
        self.answers: list[Answer] = []
        self.failed = 0
        self._node, self._client = node, Client(node.settings)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> "Asking":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def first(self, version: str, since: float) -> float:
        """When a version first answered what was sent since a moment.

        Raises:
            UserError: it never does.
        """
        deadline = time.monotonic() + ANSWER_S
        while time.monotonic() < deadline:
            for answer in list(self.answers):
                if answer.sent >= since and answer.version == version:
                    return answer.arrived
            time.sleep(PAUSE_S)
        raise UserError(f"{version} did not answer within {ANSWER_S:.0f} s")

    def _ask(self) -> None:
        while not self._over.wait(PAUSE_S):
            sent = time.monotonic()
            try:
                version = str(self._client.predict(self._node.name, self._node.body).json()["model_version"])
            except (UserError, ValueError, KeyError):
                self.failed += 1
            else:
                self.answers.append(Answer(sent, time.monotonic(), version))


@command(epilog="Example: python -m benchmarks.rollback --times 3")
@click.option("--times", default=10, show_default=True, type=click.IntRange(1), help="Rollbacks to measure.")
@click.option("--out", default=RESULTS, type=click.Path(file_okay=False, path_type=Path), help="Folder of the results.")
def main(times: int, out: Path) -> None:
    """Roll back again and again, and look when the former version answers."""
    with tempfile.TemporaryDirectory() as work:
        bundle, store = BUNDLE, Path(work) / "store"
        mars = [pack(bundle, version, store) for version in (DEFAULT, KEPT)]
        with up(Path(work) / "var", mars, bundle) as node, Asking(node) as asking:
            spent = [one_rollback(node, asking) for _ in range(times)]
    report = summary(spent, len(asking.answers), asking.failed)
    write_json(out / "rollback.json", report)
    click.echo("| seconds from the call | median | min | max |\n|---|---|---|---|")
    for key in ("first_answer_s", "command_s"):
        row = report[key]
        click.echo(f"| {key.removesuffix('_s').replace('_', ' ')} | {row['median']} | {row['min']} | {row['max']} |")
    click.echo(json.dumps(report))
    if report["broken"]:
        raise UserError("; ".join(report["broken"]))


def one_rollback(node: Node, asking: Asking) -> tuple[float, float]:
    """Seconds from the call to the first answer of the former version, and until the command has ended; then back."""
    time.sleep(SETTLE_S)
    begun = time.monotonic()
    run_command("deploy", "rollback", environment=node.environment)
    ended = time.monotonic()
    answered = asking.first(KEPT, begun)
    run_command("deploy", "rollback", "--to", DEFAULT, environment=node.environment)
    asking.first(DEFAULT, ended)
    return answered - begun, ended - begun


def summary(spent: Sequence[tuple[float, float]], answered: int, failed: int) -> dict[str, Any]:
    """The figures; `broken` names the promises that were not kept.

    Args:
        spent: of each rollback, seconds to the first answer and to the end of the command.
    """
    first, whole = (figures(column) for column in zip(*spent, strict=True))
    told = {
        f"the first answer came after {first['median']} s, more than {AT_MOST_S:g}": first["median"] <= AT_MOST_S,
        f"{failed} requests failed": failed == 0,
    }
    return {
        "benchmark": "rollback",
        "cores": os.cpu_count(),
        "times": len(spent),
        "first_answer_s": first,
        "command_s": whole,
        "answered": answered,
        "failed": failed,
        "broken": [text for text, kept in told.items() if not kept],
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
