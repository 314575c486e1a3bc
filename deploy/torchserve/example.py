"""The request that a newcomer sends first: an archive's golden photo, and the curl that asks for it."""

import base64
import contextlib
import os
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import click

from common.files import write_json
from deploy.settings import ROOT, Settings
from deploy.store import desired as manifest
from deploy.store.desired import ServedVersion
from deploy.store.mar import read_manifest
from handler import goldens

EXAMPLE = "example-request.json"


def example(mar: Path) -> tuple[goldens.Golden, dict[str, Any]]:
    """An archive's first golden photo, and the request that asks for it."""
    contents = zipfile.Path(mar)
    golden = goldens.read(contents)[0]
    encoded = base64.b64encode((contents / golden.photo).read_bytes()).decode()
    return golden, {"image_id": "12345", "image_base64": encoded}


def announce(settings: Settings, entry: ServedVersion, ready: dict[str, Any], started: float, how: str) -> None:
    """Write the example request, print what is served, how to ask it and `how` it is stopped."""
    for row in ready.get("missing", []):
        click.echo(f"note: {row['name']} {row['version']} is not served: {row['why']}", err=True)
    answering = next((row["version"] for row in ready["models"] if row["name"] == entry.name), entry.version)
    shown = manifest.find(manifest.read(settings.var), entry.name, answering) or entry
    mar = settings.store / shown.archive
    with contextlib.suppress(OSError):  # a full disk: what is served matters more
        write_json(settings.var / EXAMPLE, example(mar)[1])
    click.echo(_ready_text(settings, mar, time.monotonic() - started, how))


def relative(path: Path, resolve: bool = True) -> Path:
    """A path as it is typed in the project's folder."""
    path = path.resolve() if resolve else path
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def _ready_text(settings: Settings, mar: Path, seconds: float, how: str) -> str:
    name, label = read_manifest(mar).name, example(mar)[0].label
    token = f"$({_environment()}{relative(Path(sys.executable), resolve=False)} -m deploy token)"
    return "\n".join(
        [
            f"ready after {seconds:.1f} s: {mar.stem} on {settings.url('inference')}",
            f"Ask it, from the project's folder (this photo is {label}):",
            "",
            f"  curl -s {settings.url('inference')}/predictions/{name} \\",
            f'    -H "Authorization: Bearer {token}" \\',
            f"    -H 'Content-Type: application/json' -d @{relative(settings.var / EXAMPLE)}",
            "",
            how,
        ]
    )


def _environment() -> str:
    return f"SERVE_VAR={os.environ['SERVE_VAR']} " if os.environ.get("SERVE_VAR") else ""
