"""Measure how the running server answers many requests at once (concurrency test).

    python -m deploy load photos --rate 20 --seconds 30 --chart load.svg
    python -m deploy load photos --clients 8
    python -m deploy load photos --rate 20 --url http://127.0.0.1:8086 --token "$(python -m traffic token)"

By default it is an open loop: each request has a time at which it is due, whether or not earlier ones are answered, and
its latency counts from that time, as for people who do not wait for each other. With --clients each client sends its
next request when the last one is answered (closed loop): that finds the largest throughput, but a server that stalls
then slows the measurement itself, and the latencies look too good.
"""

import itertools
import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from rich.progress import track

from common.cli import command
from common.console import err_console, note, say
from common.errors import InvalidInput, NotFound, Unreachable
from common.files import write_whole, writing
from common.words import number_of
from dataset.listing import files_of
from deploy.clients.chart import latency_chart
from deploy.clients.load import Load, Result
from deploy.predict import default_model
from deploy.settings import Settings, read_settings
from deploy.torchserve.management import request_body

PHOTOS, BYTES = 200, 64_000_000
"""At most so many photos, and so many bytes of them, are sent in turn."""
RATE, LATE_MS = 10.0, 50.0


@command(epilog="Example: python -m deploy load models/classroom/goldens --rate 5 --seconds 3")
@click.argument("photos", type=click.Path(exists=True, path_type=Path))
@click.option("--rate", type=click.FloatRange(0, min_open=True), help=f"Requests in a second.  [default: {RATE:g}]")
@click.option("--clients", type=click.IntRange(1, 1000), help="Instead: clients that each wait for their answer.")
@click.option("--seconds", default=10.0, show_default=True, type=click.FloatRange(0, min_open=True))
@click.option("--model", help="NAME or NAME/VERSION.  [default: the served model]")
@click.option("--url", help="HTTP address of a front.  [default: TorchServe on this machine]")
@click.option("--token", help="Token for --url.")
@click.option(
    "--chart", type=click.Path(dir_okay=False, path_type=Path), help="Write a picture of it to this SVG file."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
def load(
    photos: Path,
    rate: float | None,
    clients: int | None,
    seconds: float,
    model: str | None,
    url: str | None,
    token: str | None,
    chart: Path | None,
    as_json: bool,
) -> None:
    """Send PHOTOS (a folder, or one file) again and again; print latencies and errors."""
    if rate and clients:
        raise InvalidInput("--rate and --clients exclude each other", "give --rate for an open loop, else --clients")
    settings = read_settings()
    bodies = bodies_of(photos)
    address = f"{_base(settings, url)}/predictions/{model or default_model(settings)}"
    var = None if url else settings.var
    open_loop = None if clients else rate or RATE
    result = send(Load(address, var, bodies, open_loop, clients=clients, key=token), seconds)
    if not result.statuses:
        raise Unreachable(f"none of {result.sent} requests to {address} was answered", "see python -m deploy status")
    sending = number_of(clients, "client") if clients else f"{open_loop:g} requests/s"
    title = f"{address}: {sending}, {number_of(len(bodies), 'photo')}"
    if chart:
        with writing(chart):
            write_whole(chart, latency_chart(result, title).encode())
        note(f"{chart} shows the latency of each request")
    say(json.dumps(figures(result), indent=2) if as_json else text_of(result, title))


def bodies_of(photos: Path) -> list[dict[str, Any]]:
    """The requests for the photos of a folder, or for one photo.

    Raises:
        NotFound: there is no photo.
    """
    files = files_of(photos) if photos.is_dir() else [photos]
    sizes = itertools.accumulate(path.stat().st_size for path in files)
    chosen = [path for path, size in zip(files, sizes, strict=True) if size <= BYTES][:PHOTOS]
    if not chosen:
        raise NotFound(f"{photos} has no photo of at most {BYTES // 10**6} MB", "give a folder of photos")
    if len(chosen) < len(files):
        note(f"the first {len(chosen)} of {len(files)} photos are sent in turn")
    return [request_body(path.read_bytes(), path.name[-256:], detail=True) for path in chosen]


def send(load: Load, seconds: float) -> Result:
    """Send for some seconds; Ctrl-C ends it early, and what was measured counts."""
    with load:
        try:
            for _ in track(range(max(round(seconds * 5), 1)), "sending", console=err_console, transient=True):
                time.sleep(seconds / max(round(seconds * 5), 1))
        except KeyboardInterrupt:
            note("stopped early: these are the requests until now")
        return load.stop()


def figures(result: Result) -> dict[str, Any]:
    """What is printed as JSON."""
    percentiles = {f"p{share}_ms": round(result.percentile(share / 100), 1) for share in (50, 90, 99)}
    return {
        "sent": result.sent,
        "seconds": round(result.seconds, 1),
        "rate": round(result.rate, 2),
        "statuses": result.statuses,
        "errors": result.errors,
        "versions": result.versions,
        **percentiles,
        "max_ms": round(result.percentile(1), 1),
        "late_ms": round(1000 * max((s.sent - s.due for s in result.samples), default=0.0), 1),
    }


def text_of(result: Result, title: str) -> str:
    """The same for people."""
    found = figures(result)
    errors = ", ".join(f"{code} {count}" for code, count in found["errors"].items()) or "none"
    lines = [
        title,
        f"sent      {found['sent']} in {found['seconds']} s, {found['rate']}/s",
        f"latency   p50 {found['p50_ms']} ms, p90 {found['p90_ms']} ms, p99 {found['p99_ms']} ms, "
        f"longest {found['max_ms']} ms",
        f"errors    {errors}",
        f"versions  {', '.join(f'{version} {count}' for version, count in found['versions'].items()) or 'unknown'}",
    ]
    if found["late_ms"] > LATE_MS:
        lines.append(f"note: this machine sent a request {found['late_ms']} ms late: it is too busy for this load")
    return "\n".join(lines)


def _base(settings: Settings, url: str | None) -> str:
    if url is None:
        return settings.url("inference")
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname or parts.path.strip("/") or parts.query:
        raise InvalidInput(f"--url {url!r} is not the address of a front", "give for example http://127.0.0.1:8086")
    return f"http://{parts.hostname}:{parts.port or 80}"
