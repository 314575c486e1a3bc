"""A whole canary on two nodes, at half of the top throughput: what clients lose, and how much slower they are served.

    python -m benchmarks.front.walk [--requests 10000]

Serves the shipped model on two nodes behind nginx. 8 clients find the top throughput, then half of that is sent at a
constant rate: first undisturbed, then while a copy of the model goes through shadow, 1, 5 and 25 % to the default, and
the former version is retired on both nodes. The copies have no limit of latency at registration (docs/log.md,
2026-11-27). Takes about seven minutes. Exits 1 if a request was lost or another bound was missed. Prints the canary's
output, Markdown, and one JSON line last.
"""

import json
import time
from pathlib import Path
from typing import Any

import click

from benchmarks.front.pair import Clients, running_pair
from benchmarks.harness.commands import run_command, sleep_until
from benchmarks.harness.versions import copy_as
from common.cli import command
from common.console import note
from common.errors import CheckFailed
from deploy.clients.load import Result
from deploy.host.nodes import nodes
from deploy.settings import Settings
from deploy.store import desired

TOP_S, UNDISTURBED_S, CLIENTS = 10.0, 40.0, 8
MOST_P99, MOST_RELOADS = 3.0, 2


@command(epilog="Example: python -m benchmarks.front.walk --requests 2000 --needed 10")
@click.option("--requests", "count", default=10_000, show_default=True, help="Requests to send, at least.")
@click.option("--needed", default=30, show_default=True, help="Requests of the candidate that each step needs.")
@click.option("--rate", type=click.FloatRange(1), help="Requests in a second.  [default: half of what 8 clients get]")
def main(count: int, needed: int, rate: float | None) -> None:
    """Walk a canary over two nodes under load."""
    with running_pair() as pair:
        figures = _measured(*pair, count, needed, rate)
    for key, value in figures.items():
        click.echo(f"| {key.replace('_', ' ')} | {value} |")
    click.echo(json.dumps({"benchmark": "front.walk", **figures}))
    if missed := _missed(figures, count):
        raise CheckFailed("; ".join(missed))


def _measured(
    settings: Settings, environment: dict[str, str], mar: Path, count: int, needed: int, rate: float | None
) -> dict[str, Any]:
    clients = Clients(settings, mar)
    top = clients.steady(TOP_S, clients=CLIENTS).rate
    rate = rate or top / 2
    note(f"8 clients got {top:.1f} requests/s; {rate:.1f} requests/s are sent")
    undisturbed = clients.steady(UNDISTURBED_S, rate)
    newer = copy_as(mar, "1.1", mar.parent)
    options = ("--steps", "1,5,25,100", "--requests", needed, "--shadow", "20")
    with clients.load(rate) as load:
        output = run_command("traffic", "canary", newer.name, *options, environment=environment, both=True)
        run_command("deploy", "retire", "classroom", "1.0", environment=environment)
        walked = time.monotonic() - load.begun
        sleep_until(load.begun + count / rate)
        result = load.stop()
    click.echo(output)
    log = (settings.var / "logs" / "front_error.log").read_text(encoding="utf-8")
    served_by = [[str(entry) for entry in desired.read(node.settings.var)] for node in nodes(settings)]
    facts = {"top_rate": round(top, 1), "rate": round(rate, 1), "walk_s": round(walked, 1)}
    return {**facts, **_figures(result, undisturbed), "reloads": log.count("reconfiguring"), "served": served_by}


def _figures(result: Result, undisturbed: Result) -> dict[str, Any]:
    counts = result.as_json()
    plain, through = undisturbed.percentile(0.99), result.percentile(0.99)
    return {
        **{key: counts[key] for key in ("sent", "statuses", "lost", "unanswered", "versions", "p50_ms", "p99_ms")},
        "undisturbed_p50_ms": round(undisturbed.percentile(0.5), 1),
        "undisturbed_p99_ms": round(plain, 1),
        "p99_ratio": round(through / plain, 2),
    }


def _missed(figures: dict[str, Any], count: int) -> list[str]:
    """The bounds that were missed, as sentences."""
    bounds = {
        f"only {figures['sent']} requests were sent": figures["sent"] >= count,
        f"{figures['lost']} requests were lost, {figures['unanswered']} were not answered in time": not (
            figures["lost"] or figures["unanswered"]
        ),
        f"answers: {figures['statuses']}": set(figures["statuses"]) == {200},
        f"nginx was reloaded {figures['reloads']} times": figures["reloads"] <= MOST_RELOADS,
        f"p99 was {figures['p99_ratio']} times that of undisturbed requests": figures["p99_ratio"] <= MOST_P99,
        f"the nodes serve {figures['served']}": figures["served"] == [["classroom 1.1"]] * 2,
    }
    return [sentence for sentence, holds in bounds.items() if not holds]


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.front.walk")
