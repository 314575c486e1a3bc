"""The versions that the running server serves: python -m deploy models [--json]; exits 1 if it serves none."""

import json
from typing import Any

import click
from rich.table import Table

from common.cli import command
from common.console import console, say
from common.errors import NotFound, UserError
from deploy.settings import Settings, read_settings
from deploy.store.mar import ArchiveManifest, read_manifest
from deploy.torchserve.management import Client


@command(epilog="Example: python -m deploy models --json")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list instead of a table.")
def models(as_json: bool) -> None:
    """List what is served: version, default, workers ready, digest, run."""
    settings = read_settings()
    rows = [describe(version, settings) for version in Client(settings).models()]
    if as_json:
        say(json.dumps(rows, indent=2))
    elif rows:
        console.print(models_table(rows))
    if not any(row["workers_ready"] for row in rows):
        raise NotFound("nothing is served", "start the server with make serve")


def describe(version: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """One row: what TorchServe says about a version, and what the manifest says about its archive."""
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


def models_table(rows: list[dict[str, Any]]) -> Table:
    """One row per version; long names and runs wrap, so that nothing is cut in 80 columns."""
    table = Table()
    table.add_column("version", overflow="fold")
    table.add_column("default")
    table.add_column("ready", no_wrap=True)
    table.add_column("digest", no_wrap=True)
    table.add_column("run", overflow="fold")
    for row in rows:
        table.add_row(
            f"{row['name']} {row['version']}",
            "yes" if row["default"] else "",
            f"{row['workers_ready']} of {row['workers']}",
            (row["digest"] or "unknown")[:12],
            row["run"] or "unknown",
        )
    return table


def _manifest(settings: Settings, version: dict[str, Any]) -> ArchiveManifest | None:
    try:
        return read_manifest(settings.store / f"{version['modelName']}-{version['modelVersion']}.mar")
    except UserError:
        return None
