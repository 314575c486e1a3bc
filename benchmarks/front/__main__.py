"""What the front costs, whether shares of keys are right, and the walk of a canary.

    python -m benchmarks.front [--chart docs/images/canary.svg]

Serves the shipped model as `make up` does, with nginx in front. A request of 200 KB is sent directly and through the
front in turn; 2,000 ids are sent at 5 and 25 %; then a copy of the model goes through shadow and shares to the default,
while two clients ask all the time. Prints the canary's output, Markdown, and one JSON line last.
"""

import base64
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import requests

from benchmarks.harness.commands import run_command
from benchmarks.harness.server import question
from benchmarks.harness.versions import copy_as, goldens_photo
from common.cli import command
from common.console import note
from common.errors import UserError
from deploy.archive import pack
from deploy.clients.generator import NUMBER
from deploy.clients.load import Load, Result
from deploy.settings import ROOT, Settings, read_settings, separate_environment
from deploy.torchserve.keys import read_key
from traffic.front import route, tokens

BUNDLE = ROOT / "models" / "classroom"
BODY_BYTES, ROUNDS, IDS, START_S = 200_000, 200, 2000, 120.0


@command(epilog="Example: python -m benchmarks.front")
@click.option("--chart", type=click.Path(dir_okay=False, path_type=Path), help="Write the canary's picture here (SVG).")
@click.option("--steps", default="10,50,100", show_default=True, help="Shares of the canary.")
@click.option("--requests", "needed", default=100, show_default=True, help="Requests that each step needs.")
def main(chart: Path | None, steps: str, needed: int) -> None:
    """Measure the front and walk a canary, with the shipped model."""
    with tempfile.TemporaryDirectory() as work:
        mar = pack(BUNDLE, "1.0", Path(work) / "store")
        environment = {**separate_environment(Path(work) / "var", mar.parent), "SERVE_FRONT": "on"}
        environment |= {"SERVE_FRONT_RATE": "100000"}
        with served(environment) as settings:
            figures: dict[str, Any] = {}
            for measure in (lambda: cost(settings, mar), lambda: shares(settings)):
                figures |= (found := measure())
                note(json.dumps(found))
            newer = copy_as(mar, "1.1", mar.parent)  # only now: `up` serves the newest of the store
            options = ["--steps", steps, "--requests", str(needed), "--shadow", "50"]
            load, output = walk(settings, environment, newer, options)
            click.echo(output)
            if chart:
                run_command("traffic", "verdict", "--chart", chart.resolve(), environment=environment)
        counts = load.as_json()
        figures |= {
            key: counts[key] for key in ("sent", "statuses", "lost", "unanswered", "versions", "p50_ms", "p99_ms")
        }
        log = (settings.var / "logs" / "front_error.log").read_text()
        figures["reloads"] = log.count("reconfiguring")
    for key, value in figures.items():
        click.echo(f"| {key.replace('_', ' ')} | {value} |")
    click.echo(json.dumps({"benchmark": "front", **figures}))


@contextmanager
def served(environment: Mapping[str, str], bundle: Path = BUNDLE) -> Iterator[Settings]:
    """A model, by default the shipped one, behind a front that answers. Raises UserError: it does not in time."""
    settings, env = read_settings(environment), dict(environment)
    try:
        run_command("deploy", "up", "--bundle", bundle, environment=env)
        deadline = time.monotonic() + START_S
        while not _ready(settings):
            if time.monotonic() > deadline:
                raise UserError("the front does not answer", f"see {settings.var}/logs")
            time.sleep(0.2)
        yield settings
    finally:
        run_command("deploy", "down", "--now", environment=env)


def _ready(settings: Settings) -> bool:
    try:
        return requests.get(settings.url("front") + "/ready", timeout=10).ok
    except requests.RequestException:
        return False


def cost(settings: Settings, mar: Path) -> dict[str, float]:
    """p50 in ms of one client, directly and through the front in turn. Spaces make the JSON body BODY_BYTES long."""
    body = json.dumps({"image_id": "1", "image_base64": base64.b64encode(goldens_photo(mar)).decode()}).encode()
    body += b" " * max(BODY_BYTES - len(body), 0)
    ways = {
        "direct": (requests.Session(), settings.url("inference"), read_key(settings.var, "inference")),
        "front": (requests.Session(), settings.url("front"), token(settings)),
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS + 10):
        for name, (session, url, key) in ways.items():
            headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
            begun = time.perf_counter()
            answer = session.post(f"{url}/predictions/classroom", data=body, headers=headers, timeout=60)
            spent[name].append((time.perf_counter() - begun) * 1000)
            answer.raise_for_status()
    p50 = {f"{name}_p50_ms": round(statistics.median(values[10:]), 2) for name, values in spent.items()}
    fastest = {f"{name}_fastest_ms": round(min(values[10:]), 2) for name, values in spent.items()}
    return {"body_bytes": len(body), **p50, **fastest}


def shares(settings: Settings) -> dict[str, Any]:
    """Shares of IDS ids at 5 and 25 %, twice each. A body that is no photo is refused, and routed like others."""
    found = route.begin(settings.var, "classroom", "9.9", (5, 25, 100))
    seen: dict[str, set[str]] = {}
    for look in ("5", "25", "5 again", "25 again"):
        route.set_share(settings.var, found, float(look.split()[0]))
        seen[look] = candidates(settings)
    route.end(settings.var, "classroom")
    return {
        "ids": IDS,
        "share_at_5": len(seen["5"]) / IDS,
        "share_at_25": len(seen["25"]) / IDS,
        "same_again": seen["5"] == seen["5 again"] and seen["25"] == seen["25 again"],
        "nested": seen["5"] <= seen["25"],
    }


def candidates(settings: Settings) -> set[str]:
    """The ids that the front gave to the candidate: version 9.9 does not exist, so their answer is a 404."""
    chosen = set()
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {token(settings)}"
        for number in range(IDS):
            headers = {"X-Image-Id": f"photo-{number}"}
            url = settings.url("front") + "/predictions/classroom"
            if session.post(url, data=b"x", headers=headers, timeout=60).status_code == requests.codes.not_found:
                chosen.add(headers["X-Image-Id"])
    return chosen


def walk(settings: Settings, environment: Mapping[str, str], newer: Path, options: list[str]) -> tuple[Result, str]:
    """A canary while two clients ask all the time; the load, and what the canary printed."""
    body = question(goldens_photo(newer)) | {"image_id": NUMBER}
    url = settings.url("front") + "/predictions/classroom"
    with Load(url, None, body, clients=2, key=token(settings)) as load:
        output = run_command("traffic", "canary", newer.name, *options, environment=dict(environment), both=True)
        return load.stop(), output


def token(settings: Settings) -> str:
    """The token of the front's first client."""
    return tokens.read(settings.var)[tokens.FIRST]


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.front")
