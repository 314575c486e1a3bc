"""The versions that the running server serves: python -m deploy models [--json]; exits 1 if it serves none."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import click
from rich.table import Table

from common.cli import command
from common.console import console, say
from common.errors import NotFound, UserError
from deploy.settings import Settings, read_settings
from deploy.store.mar import ArchiveManifest, read_manifest
from deploy.torchserve.management import Client


@dataclass(frozen=True)
class RegisteredVersion:
    """What TorchServe says about a version, and what the manifest says about its archive.

    Attributes:
        workers_ready: of all its `workers`.
        digest, run: None if the archive's manifest is missing or damaged.
    """

    name: str
    version: str
    default: bool
    workers_ready: int
    workers: int
    digest: str | None
    run: str | None


@command(epilog="Example: python -m deploy models --json")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list instead of a table.")
def models(as_json: bool) -> None:
    """List what is served: version, default, workers ready, digest, run."""
    settings = read_settings()
    rows = [describe(version, settings) for version in Client(settings).models()]
    if as_json:
        say(json.dumps([asdict(row) for row in rows], indent=2))
    elif rows:
        console.print(models_table(rows))
    if not any(row.workers_ready for row in rows):
        raise NotFound("nothing is served", "start the server with make serve")


def describe(version: dict[str, Any], settings: Settings) -> RegisteredVersion:
    """Combine TorchServe's description of a version (`Client.models`) with the manifest of its archive."""
    manifest = _manifest(settings, version)
    workers = version.get("workers", [])
    return RegisteredVersion(
        name=version["modelName"],
        version=version["modelVersion"],
        default=version["default"],
        workers_ready=sum(worker["status"] == "READY" for worker in workers),
        workers=len(workers),
        digest=manifest.digest if manifest else None,
        run=manifest.run if manifest else None,
    )


def models_table(rows: list[RegisteredVersion]) -> Table:
    """One row per version; long names and runs wrap, so that nothing is cut in 80 columns."""
    table = Table()
    table.add_column("version", overflow="fold")
    table.add_column("default")
    table.add_column("ready", no_wrap=True)
    table.add_column("digest", no_wrap=True)
    table.add_column("run", overflow="fold")
    for row in rows:
        table.add_row(
            f"{row.name} {row.version}",
            "yes" if row.default else "",
            f"{row.workers_ready} of {row.workers}",
            (row.digest or "unknown")[:12],
            row.run or "unknown",
        )
    return table


def _manifest(settings: Settings, version: dict[str, Any]) -> ArchiveManifest | None:
    try:
        return read_manifest(settings.store / f"{version['modelName']}-{version['modelVersion']}.mar")
    except UserError:
        return None
