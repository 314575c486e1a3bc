"""What clients notice of a shadow that hangs.

    python -m benchmarks.front.hung [--rate 20]

Serves the shipped model behind nginx and sends requests at a constant rate, in turn without a shadow and with one that
gets a copy of every tenth request and is stopped with SIGSTOP. Takes under three minutes. Exits 1 if the p99 of clients
is more than 1.3 times that without a shadow. Prints Markdown, and one JSON line last.
"""

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from benchmarks.front.__main__ import BUNDLE, served
from benchmarks.front.pair import Clients, shadow_of
from common.cli import command
from common.errors import CheckFailed, UserError
from deploy.archive import pack
from deploy.clients.load import Result
from deploy.settings import Settings, separate_environment
from traffic.front import route
from traffic.front.folder import shadow_socket

SECONDS, ROUNDS, SHARE, MOST, START_S = 30.0, 2, 10, 1.3, 30.0


@command(epilog="Example: python -m benchmarks.front.hung --rate 20")
@click.option("--rate", default=20.0, show_default=True, type=click.FloatRange(1), help="Requests in a second.")
def main(rate: float) -> None:
    """Measure the p99 of clients while the shadow hangs."""
    plain, hung = list[Result](), list[Result]()
    with tempfile.TemporaryDirectory() as work:
        mar = pack(BUNDLE, "1.0", Path(work) / "store")
        environment = {**separate_environment(Path(work) / "var", mar.parent), "SERVE_FRONT": "on"}
        with served(environment) as settings:
            clients = Clients(settings, mar)
            clients.steady(3, rate)
            for _ in range(ROUNDS):
                plain.append(clients.steady(SECONDS, rate))
                with hanging(settings):
                    hung.append(clients.steady(SECONDS, rate))
    without, with_it = (first.joined(second) for first, second in (plain, hung))
    ratio = round(with_it.percentile(0.99) / without.percentile(0.99), 2)
    click.echo("| shadow | requests | lost or failed | p50, ms | p99, ms |\n|---|---|---|---|---|")
    for name, result in (("none", without), ("hangs", with_it)):
        bad = result.lost + result.failed + result.unanswered
        p50, p99 = result.percentile(0.5), result.percentile(0.99)
        click.echo(f"| {name} | {result.sent} | {bad} | {p50:.1f} | {p99:.1f} |")
    click.echo(
        json.dumps(
            {
                "benchmark": "front.hung",
                "ratio": ratio,
                "p99_ms": [round(result.percentile(0.99), 1) for result in (without, with_it)],
            }
        )
    )
    if ratio > MOST:
        raise CheckFailed(f"with a shadow that hangs p99 is {ratio} times that without one, at most {MOST}")


@contextmanager
def hanging(settings: Settings) -> Iterator[None]:
    """A shadow that gets copies and hangs. Raises UserError: it does not start."""
    ready, deadline = Path(f"{shadow_socket(settings.var)}.ready"), time.monotonic() + START_S
    ready.unlink(missing_ok=True)  # of the round before
    found = route.begin(settings.var, "classroom", "9.9", (100,))
    try:
        route.set_share(settings.var, found, 0, SHARE)
        while not ready.exists():
            if time.monotonic() > deadline:
                raise UserError("the shadow does not start", f"see {settings.var}/logs/front_program.log")
            time.sleep(0.1)
        shadow_of(settings).suspend()
        yield
    finally:
        route.end(settings.var, "classroom")  # the front kills it


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.front.hung")
