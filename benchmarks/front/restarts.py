"""Restart two nodes one after the other, again and again, under load; count what clients lose.

    python -m benchmarks.front.restarts [--requests 5000]

Serves the shipped model on two nodes behind nginx, and sends requests at a constant rate. In turn the second node is
stopped with `deploy down` and started with `deploy up`, and TorchServe of each node is killed, and its keeper starts it
again with a new key. Each waits until the front sends requests to both. Takes about five minutes. Exits 1 if a request
was lost. Prints the number of restarts, and one JSON line last.
"""

import json
import time

import click

from benchmarks.front.__main__ import BUNDLE
from benchmarks.front.kills import Kills
from benchmarks.front.pair import Clients, running_pair, start_second, stop_second
from common.cli import command
from common.console import note
from common.errors import CheckFailed


@command(epilog="Example: python -m benchmarks.front.restarts --requests 2000")
@click.option("--requests", "count", default=5000, show_default=True, help="Requests to send, at least.")
@click.option("--rate", default=20.0, show_default=True, type=click.FloatRange(1), help="Requests in a second.")
def main(count: int, rate: float) -> None:
    """Restart both nodes under load."""
    restarts = 0
    with running_pair() as (settings, environment, mar), Clients(settings, mar).load(rate) as load:
        kills = Kills(settings, environment, mar, load.begun)
        while time.monotonic() < load.begun + count / rate:
            note(f"{time.monotonic() - load.begun:6.1f} s: down and up of node2")
            stop_second(settings)
            start_second(environment, BUNDLE)
            kills.kill_node(0)
            kills.kill_node(1)
            restarts += 3
        result = load.stop()
    facts = {key: result.as_json()[key] for key in ("sent", "statuses", "lost", "unanswered", "p50_ms", "p99_ms")}
    click.echo(f"{result.lost} of {result.sent} requests were lost in {restarts} restarts")
    click.echo(json.dumps({"benchmark": "front.restarts", "restarts": restarts, **facts}))
    if result.lost or result.failed or result.unanswered:
        raise CheckFailed(f"requests were lost: {result.statuses}")


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.front.restarts")
