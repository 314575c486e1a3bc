"""Send predictions to the running server (deploy/clients/load.py), and print what a benchmark records.

    python -m benchmarks.harness.load models/classroom/goldens/1_0.jpg --rate 20 --seconds 30

Prints Markdown, and one JSON line last.
"""

import base64
import json
import time
from pathlib import Path

import click

from common.cli import command
from deploy.clients.load import Load, Result
from deploy.settings import read_settings


def table(results: dict[str, Result]) -> str:
    """Markdown: one column for each load."""
    rows = {name: result.as_json() for name, result in results.items()}
    keys = ("sent", "rate", "failed", "unanswered", "lost", "wrong", "stale", "p50_ms", "p95_ms", "p99_ms", "max_ms")
    lines = [f"| | {' | '.join(rows)} |", "|---|" + "---|" * len(rows)]
    lines += [
        f"| {key.replace('_ms', ', ms')} | {' | '.join(f'{row[key]:,}' for row in rows.values())} |" for key in keys
    ]
    return "\n".join(lines)


@command(epilog="Example: python -m benchmarks.harness.load models/classroom/goldens/1_0.jpg --clients 8 --seconds 10")
@click.argument("photo", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", default="classroom", show_default=True, help="NAME or NAME/VERSION.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Requests per second, at a constant rate.")
@click.option(
    "--clients",
    type=click.IntRange(1),
    help="Number of clients, each sending its next request when the last one is answered.",
)
@click.option("--seconds", default=10.0, show_default=True, type=click.FloatRange(0, min_open=True))
@click.option("--expect", help="Expected label; others count as wrong.")
def main(photo: Path, model: str, rate: float | None, clients: int | None, seconds: float, expect: str | None) -> None:
    """Send PHOTO to the running server repeatedly."""
    if (rate is None) == (clients is None):
        raise click.UsageError("give either --rate or --clients")
    settings = read_settings()
    url = f"{settings.url('inference')}/predictions/{model}"
    body = {"image_id": "1", "image_base64": base64.b64encode(photo.read_bytes()).decode(), "detail": True}
    with Load(url, settings.var, body, rate, clients=clients, expected=expect) as load:
        time.sleep(seconds)
        result = load.stop()
    click.echo(table({model: result}))
    click.echo(json.dumps({"benchmark": "load", "url": url, **result.as_json()}))


if __name__ == "__main__":
    main()
