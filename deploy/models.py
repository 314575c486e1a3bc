"""What is served: python -m deploy models [--json]; exits 1 when nothing is."""

import json
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from common.cli import command
from common.errors import UserError
from deploy.settings import Settings, read_settings
from deploy.store.mar import ArchiveManifest, read_manifest
from deploy.torchserve.management import Client

COLUMNS = ("name", "version", "default", "workers_ready", "workers", "digest", "run")


@command(epilog="Example: python -m deploy models --json")
@click.option("--json", "as_json", is_flag=True, help="One JSON list instead of a table.")
def models(as_json: bool) -> None:
    """List what is served: version, default, workers ready, digest, run."""
    settings = read_settings()
    rows = [describe(version, settings) for version in Client(settings).models()]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif rows:
        Console().print(_table(rows))
    if not any(row["workers_ready"] for row in rows):
        raise UserError("nothing is served: start the server with make serve")


def describe(version: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """One row: what TorchServe says of a version, and what its manifest says of its archive."""
    manifest = _manifest(settings, version)
    workers = version.get("workers", [])
    return {
        "name": version["modelName"],
        "version": version["modelVersion"],
        "default": version["default"],
        "workers_ready": sum(worker["status"] == "READY" for worker in workers),
        "workers": len(workers),
        "digest": manifest.digest if manifest else None,
        "run": manifest.run if manifest else None,
    }


def _manifest(settings: Settings, version: dict[str, Any]) -> ArchiveManifest | None:
    try:
        return read_manifest(settings.store / f"{version['modelName']}-{version['modelVersion']}.mar")
    except UserError:
        return None


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(*COLUMNS)
    for row in rows:
        cells = {**row, "digest": (row["digest"] or "unknown")[:12], "default": "yes" if row["default"] else ""}
        table.add_row(*(str(cells[column]) for column in COLUMNS))
    return table
