"""Whether two nodes answer more requests than one on the same cores.

    python -m benchmarks.front.throughput [--rounds 3]

Serves the shipped model on two nodes behind nginx, and stops the second in every other measurement: 8 clients ask as
fast as they get answers, and then one. Takes under three minutes. Prints Markdown, and one JSON line last.
"""

import json
import os
import statistics

import click

from benchmarks.front.__main__ import BUNDLE
from benchmarks.front.pair import Clients, running_pair, start_second, stop_second
from common.cli import command
from common.console import note
from common.errors import CheckFailed
from deploy.clients.load import Result

SECONDS, WARM_S, CLIENTS = 12.0, 2.0, 8


@command(epilog="Example: python -m benchmarks.front.throughput --rounds 1")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1), help="Measurements of each.")
def main(rounds: int) -> None:
    """Measure the throughput of one node and of two."""
    rates: dict[str, list[float]] = {"one": [], "two": []}
    p50: dict[str, list[float]] = {"one": [], "two": []}
    with running_pair() as (settings, environment, mar):
        clients = Clients(settings, mar)
        for number in range(rounds):
            for name in ("two", "one"):
                if name == "one":
                    stop_second(settings)
                clients.steady(WARM_S, clients=CLIENTS)
                many, single = clients.steady(SECONDS, clients=CLIENTS), clients.steady(SECONDS / 3, clients=1)
                _refuse_errors(many, single)
                rates[name].append(round(many.rate, 1))
                p50[name].append(round(single.percentile(0.5), 1))
                note(f"{name}: {many.rate:.1f} requests/s with {CLIENTS} clients, p50 {p50[name][-1]} ms with one")
            if number < rounds - 1:
                start_second(environment, BUNDLE)
    click.echo("| nodes | requests/s, 8 clients (each round) | p50 with one client, ms |\n|---|---|---|")
    for name in rates:
        click.echo(f"| {name} | {statistics.median(rates[name])} {rates[name]} | {statistics.median(p50[name])} |")
    ratio = round(statistics.median(rates["two"]) / statistics.median(rates["one"]), 3)
    click.echo(f"two nodes answer {ratio} times as many requests as one, on {os.cpu_count()} cores")
    click.echo(json.dumps({"benchmark": "front.throughput", "rates": rates, "p50_ms": p50, "ratio": ratio}))


def _refuse_errors(*results: Result) -> None:
    """Raises CheckFailed: an answer was not 200, so the rate says nothing."""
    for result in results:
        if result.failed or result.lost or result.unanswered:
            raise CheckFailed(f"requests failed: {result.as_json()}")


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.front.throughput")
