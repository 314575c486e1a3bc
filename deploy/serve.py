"""Serve a recipe's newest archive in the foreground, until Ctrl-C.

    make serve        or        python -m deploy serve --bundle models/classroom

packs the bundle if the store has no archive of it yet, starts TorchServe on loopback,
registers the version by its bare file name, waits until a real prediction on that very version is
right, and prints a curl that works when pasted.
"""

import base64
import fcntl
import json
import os
import signal
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from config.files import write_json
from deploy.archive import VERSION, pack, read_manifest, run_of
from deploy.settings import ROOT, Settings, read_settings
from deploy.torchserve import Server
from handler import goldens
from handler.spec import read_spec

SERVED = "served.json"
EXAMPLE = "example-request.json"
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.command(epilog="Example: python -m deploy serve --bundle models/classroom")
@click.option(
    "--bundle",
    default=ROOT / "models" / "classroom",
    show_default="models/classroom",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Packed as 1.0 if the store has no archive of its recipe.",
)
@click.option("--version", help="Which of the store's versions.  [default: the newest]")
def serve(bundle: Path, version: str | None) -> None:
    """Serve a recipe's newest archive in the foreground, until Ctrl-C."""
    settings = read_settings()
    started = time.monotonic()
    for number in STOPPING:
        signal.signal(number, _stop_once)
    with locked(settings.var):
        mar = choose(bundle, version, settings.store)
        click.echo(f"starting TorchServe with {mar.name} ...", err=True)
        try:
            with Server(settings) as server:
                put_in_service(server, mar)
                click.echo(ready_text(settings, mar, time.monotonic() - started))
                while not server.ended():
                    time.sleep(0.5)
                raise click.ClickException(f"TorchServe ended by itself:\n{server.last_words()}")
        except KeyboardInterrupt:
            click.echo("stopped", err=True)


def choose(bundle: Path, version: str | None, store: Path) -> Path:
    """The archive to serve: the asked version, else the newest in the store, else the bundle packed as 1.0.

    Raises:
        click.ClickException: the asked version is not in the store.
    """
    name = read_spec(bundle / "recipe.json").name
    if version is not None:
        mar = store / f"{name}-{version}.mar"
        if not mar.is_file():
            raise click.ClickException(f"{mar} is missing: pack it with scripts/archive.sh {bundle} {version}")
        return mar
    found = versions(store, name)
    if not found:
        return pack(bundle, "1.0", store)
    mine, newest = run_of(bundle), read_manifest(found[-1])["run"]
    if mine != newest:
        click.echo(
            f"note: {found[-1].name} is of run {newest}, not of {bundle} (run {mine}): "
            f"to serve that, pack it under a higher version with scripts/archive.sh {bundle} VERSION",
            err=True,
        )
    return found[-1]


def versions(store: Path, name: str) -> list[Path]:
    """The archives of a recipe, oldest version first (1.10 is newer than 1.9)."""
    pairs = [(mar.stem.removeprefix(f"{name}-"), mar) for mar in store.glob(f"{name}-*.mar")]
    numbered = [(tuple(map(int, text.split("."))), mar) for text, mar in pairs if VERSION.fullmatch(text)]
    return [mar for _, mar in sorted(numbered)]


def put_in_service(server: Server, mar: Path) -> None:
    """Register an archive, prove that its version answers a golden photo rightly, and write down that it is served.

    Raises:
        click.ClickException: it was refused, its worker did not start, or the answer is wrong.
    """
    known = read_manifest(mar)
    name, version = known["name"], known["version"]
    try:
        server.client.register(mar.name, name)
    except click.ClickException as error:
        raise click.ClickException(f"{mar.name}: {error.message}\n{server.why_no_worker()}") from error
    golden, body = example(mar)
    answer = server.client.predict(f"{name}/{version}", body)
    if not answer.ok or answer.json().get("result") != golden.label:
        raise click.ClickException(f"{mar.name} answers {answer.text[:200]} to a photo of {golden.label}: not served")
    entry = {"name": name, "version": version, "archive": mar.name, "default": True, "digest": known["digest"]}
    write_json(server.settings.var / SERVED, [entry])
    write_json(server.settings.var / EXAMPLE, body)


def example(mar: Path) -> tuple[goldens.Golden, dict[str, Any]]:
    """An archive's first golden photo, and the request that asks for it."""
    contents = zipfile.Path(mar)
    golden = goldens.read(contents)[0]
    encoded = base64.b64encode((contents / golden.photo).read_bytes()).decode()
    return golden, {"image_id": "12345", "image_base64": encoded}


def ready_text(settings: Settings, mar: Path, seconds: float) -> str:
    """What `make serve` prints when the version answers."""
    name, label = read_manifest(mar)["name"], example(mar)[0].label
    token = f"$({_environment()}{_relative(Path(sys.executable), resolve=False)} -m deploy token)"
    return "\n".join(
        [
            f"ready after {seconds:.1f} s: {mar.stem} on {settings.url('inference')}",
            f"Ask it, from the project's folder (this photo is {label}):",
            "",
            f"  curl -s {settings.url('inference')}/predictions/{name} \\",
            f'    -H "Authorization: Bearer {token}" \\',
            f"    -H 'Content-Type: application/json' -d @{_relative(settings.var / EXAMPLE)}",
            "",
            "Ctrl-C stops it.",
        ]
    )


@contextmanager
def locked(var: Path) -> Iterator[None]:
    """One server for each runtime folder; the kernel frees the lock when its holder dies.

    Raises:
        click.ClickException: another holds it, naming its process.
    """
    try:
        var.mkdir(parents=True, exist_ok=True)
        var.chmod(0o700)
        file = (var / "lock").open("a+")
    except OSError as error:
        raise click.ClickException(
            f"{var} cannot be written: {error.strerror}: give another with SERVE_VAR=FOLDER"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read() or "unknown"
            raise click.ClickException(
                f"a server is running already (process {holder}): stop it with Ctrl-C or kill {holder}, "
                "or start a second one with SERVE_VAR=FOLDER and ports of its own"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def served(var: Path) -> list[dict[str, Any]]:
    """What we wrote down as served, the default first; empty when nothing is."""
    try:
        content: list[dict[str, Any]] = json.loads((var / SERVED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return content


def _stop_once(*_: object) -> None:
    """The first Ctrl-C stops the server; a second (make passes one on, too) must not interrupt the stopping."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _environment() -> str:
    return f"SERVE_VAR={os.environ['SERVE_VAR']} " if os.environ.get("SERVE_VAR") else ""


def _relative(path: Path, resolve: bool = True) -> Path:
    path = path.resolve() if resolve else path
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
