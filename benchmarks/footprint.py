"""Measure what serving needs: start time, memory, archive size, and latency.

    python -m benchmarks.footprint [--rounds 5]

Starts a TorchServe several times; prints Markdown, and one JSON line last. One client sends a drawn photo of
1000 x 750 as base64 in JSON.
"""

import base64
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import psutil

from benchmarks.harness.server import put_in_service
from benchmarks.harness.versions import drawn_photo
from common.cli import command
from deploy.archive import pack
from deploy.settings import ROOT, read_settings, separate_environment
from deploy.torchserve.process import Server

BUNDLE = ROOT / "models" / "classroom"
REQUESTS = 100


@command(epilog="Example: python -m benchmarks.footprint --rounds 1")
@click.option("--rounds", default=5, show_default=True, help="Number of starts.")
def main(rounds: int) -> None:
    """Measure start, memory, size and latency of the shipped model."""
    with tempfile.TemporaryDirectory() as work:
        mar = pack(BUNDLE, "1.0", Path(work) / "store")
        results = [one_round(Path(work), mar) for _ in range(rounds)]
    columns = {key: sorted(result[key] for result in results) for key in results[0]}
    figures = {
        key: {"median": round(statistics.median(values), 2), "min": values[0], "max": values[-1]}
        for key, values in columns.items()
    }
    for key, values in figures.items():
        click.echo(f"| {key.replace('_', ' ')} | {values['median']} | {values['min']} to {values['max']} |")
    click.echo(json.dumps({"benchmark": "footprint", "rounds": rounds, **figures}))


def one_round(work: Path, mar: Path) -> dict[str, float]:
    """Start, send requests, stop."""
    settings = read_settings(separate_environment(work / "var", mar.parent))
    started = time.perf_counter()
    with Server(settings) as server:
        put_in_service(server, mar)
        ready = time.perf_counter() - started
        body = {"image_id": "1", "image_base64": base64.b64encode(drawn_photo()).decode()}
        spent = [request_ms(server, body) for _ in range(REQUESTS + 10)][10:]
        assert server.process is not None
        sizes = memory(server.process.pid)
    return {
        "ready_s": round(ready, 2),
        "request_p50_ms": round(statistics.median(spent), 2),
        "request_p95_ms": round(sorted(spent)[int(len(spent) * 0.95)], 2),
        **sizes,
        "archive_mb": round(mar.stat().st_size / 1e6, 2),
    }


def request_ms(server: Server, body: dict[str, Any]) -> float:
    """Milliseconds of one request, until the answer is read."""
    started = time.perf_counter()
    server.client.predict("classroom", body).raise_for_status()
    return (time.perf_counter() - started) * 1000


def memory(launcher: int) -> dict[str, float]:
    """Resident megabytes of the worker, of its decoder processes together, and of the Java front end."""
    sizes = dict.fromkeys(("worker_rss_mb", "decoders_rss_mb", "java_rss_mb"), 0.0)
    for process in psutil.Process(launcher).children(recursive=True):
        words = " ".join(process.cmdline())
        name = "worker" if "model_service_worker" in words else "decoders" if "handler.decoder" in words else "java"
        sizes[f"{name}_rss_mb"] += round(process.memory_info().rss / 1e6, 1)
    return sizes


if __name__ == "__main__":
    main()
