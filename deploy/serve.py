"""Serve in the foreground, until Ctrl-C.

    make serve        or        python -m deploy serve --bundle models/classroom

serves the versions that `var/served.json` lists. If it lists none of the bundle's recipe, the newest archive in the
store is served; if there is none, the bundle is packed as 1.0. supervisord runs TorchServe and the keeper
(config/supervisord.conf). When predictions are correct, a curl command is printed that works as it is.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from common.cli import command
from common.console import note
from common.errors import NotFound
from common.files import write_json, writing
from deploy.archive import pack, run_of
from deploy.settings import FRONT_GRPC, FRONT_PORTS, ROOT, Settings, read_settings
from deploy.store import copies
from deploy.store import desired as manifest
from deploy.store.desired import ServedVersion
from deploy.store.mar import VERSION, read_manifest, served_version
from deploy.store.profile import note_if_ignored
from deploy.supervision import following, front
from deploy.supervision.lifecycle import launch, stop_children, wait_until_ready
from deploy.supervision.supervisor import FOREGROUND, spawn, starting
from deploy.supervision.torchserve_program import STOPPING
from deploy.supervision.web_program import describe
from deploy.torchserve.probes import example
from deploy.torchserve.process import refuse_taken_ports
from handler.spec import read_spec

EXAMPLE = "example-request.json"
FRONT_S = 5.0
"""The front notices within a second that the server is ready. It waits without end for a port that is taken."""


def what_to_serve(command: Callable[..., None]) -> Callable[..., None]:
    """The options --bundle and --version, of `serve` and `up`."""
    bundle = click.option(
        "--bundle",
        default=ROOT / "models" / "classroom",
        show_default="models/classroom",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Bundle to pack as 1.0 if the store has no archive of its recipe.",
    )
    served_last = "The version to serve.  [default: the one that was served last, else the newest]"
    return bundle(click.option("--version", help=served_last)(command))


@command(epilog="Example: python -m deploy serve --bundle models/classroom")
@what_to_serve
def serve(bundle: Path, version: str | None) -> None:
    """Serve a recipe's archive in the foreground, until Ctrl-C."""
    settings, started = read_settings(), time.monotonic()
    for number in STOPPING:
        signal.signal(number, _stop_once)
    try:
        with starting(settings, FOREGROUND):
            entry = prepare(settings, bundle, version)
            supervisor = launch(settings, FOREGROUND)
        announce(settings, entry, wait_until_ready(settings, supervisor), started, "Ctrl-C stops it.")
        _attend(settings, supervisor)
    except KeyboardInterrupt:
        stop_children(settings)
    except BaseException:
        stop_children(settings)
        raise
    note("stopped")


def _attend(settings: Settings, supervisor: subprocess.Popen[bytes]) -> None:
    """Return when supervisord was stopped. If it died, start another one: it attaches to the running TorchServe."""
    while code := supervisor.wait():
        note(f"supervisord ended unexpectedly ({code}): starting another")
        time.sleep(0.5)
        supervisor = spawn(settings, FOREGROUND)


def prepare(settings: Settings, bundle: Path, version: str | None) -> ServedVersion:
    """Refuse a start that cannot succeed, and write the manifest. Call it inside `starting`.

    Returns:
        the default version of the bundle's recipe.

    Raises:
        UserError: a port is taken, the version is missing, the disk is full.
    """
    refuse_taken_ports(settings, settings.ports.keys() - {*FRONT_PORTS, *FRONT_GRPC})
    with writing(settings.var):
        following.adopt(settings)
    entry = _must_be_served(settings, bundle, version)
    note_if_ignored(settings, entry)
    others = [Path(other.archive).stem for other in manifest.read(settings.var) if other != entry]
    also = f" (and {', '.join(others)})" if others else ""
    note(f"starting TorchServe with {entry.archive}{also} ...")
    return entry


def _must_be_served(settings: Settings, bundle: Path, version: str | None) -> ServedVersion:
    """The manifest's default version of the bundle's recipe; a given version replaces it first."""
    name = read_spec(bundle / "recipe.json").name
    entries = manifest.read(settings.var)
    default = manifest.default_of(entries, name)
    if default and version is None:
        _note_newer(settings, default)
        return default
    entry = served_version(choose(bundle, version, settings.store))
    replaced = {str(entry), str(default)}
    with writing(settings.var):
        copies.keep_copy(settings.var, settings.store / entry.archive)
        manifest.write(settings.var, [entry, *(other for other in entries if str(other) not in replaced)])
        copies.drop_copies(settings.var, manifest.read(settings.var))
    return entry


def _note_newer(settings: Settings, default: ServedVersion) -> None:
    newest = versions(settings.store, default.name)[-1:]
    if newest and _numbers(newest[0].stem.removeprefix(f"{default.name}-")) > _numbers(default.version):
        command = f"python -m deploy rollout {relative(newest[0])}"
        note(f"note: {newest[0].name} is newer than the served version ({default}): {command}")


def choose(bundle: Path, version: str | None, store: Path) -> Path:
    """The archive to serve: the given version, else the newest in the store, else the bundle packed as 1.0.

    Raises:
        NotFound: the given version is not in the store.
    """
    name = read_spec(bundle / "recipe.json").name
    if version is not None:
        mar = store / f"{name}-{version}.mar"
        if not mar.is_file():
            raise NotFound(f"{mar} is missing", f"pack it with scripts/archive.sh {bundle} {version}")
        return mar
    archives = versions(store, name)
    if not archives:
        return pack(bundle, "1.0", store)
    newest = archives[-1]
    bundle_run, newest_run = run_of(bundle), read_manifest(newest).run
    if bundle_run != newest_run:
        note(
            f"note: {newest.name} is of run {newest_run}, not of {bundle} (run {bundle_run}): "
            f"to serve that, pack it under a higher version with scripts/archive.sh {bundle} VERSION"
        )
    return newest


def versions(store: Path, name: str) -> list[Path]:
    """The archives of a recipe, oldest version first (1.10 is newer than 1.9)."""
    pairs = [(mar.stem.removeprefix(f"{name}-"), mar) for mar in store.glob(f"{name}-*.mar")]
    return [mar for _, mar in sorted((_numbers(text), mar) for text, mar in pairs if VERSION.fullmatch(text))]


def announce(settings: Settings, entry: ServedVersion, ready: dict[str, Any], started: float, how_to_stop: str) -> None:
    """Write the example request; print what is served, a curl command that sends the request, and how to stop."""
    for row in ready.get("missing", []):
        note(f"note: {row['name']} {row['version']} is not served: {row['why']}")
    answering = next((row["version"] for row in ready["models"] if row["name"] == entry.name), entry.version)
    shown = manifest.find(manifest.read(settings.var), entry.name, answering) or entry
    mar = settings.store / shown.archive
    with contextlib.suppress(OSError):  # a full disk must not stop the server
        write_json(settings.var / EXAMPLE, example(mar).body)
    answering = front.starts(settings) and front.answers(settings, FRONT_S)
    click.echo(_ready_text(settings, mar, time.monotonic() - started, answering, how_to_stop))


def relative(path: Path, resolve: bool = True) -> Path:
    """A path, relative to the project's folder if it is inside."""
    path = path.resolve() if resolve else path
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def _ready_text(settings: Settings, mar: Path, seconds: float, answering: bool, how_to_stop: str) -> str:
    name, label = read_manifest(mar).name, example(mar).golden.label
    token = f"$({_environment()}{relative(Path(sys.executable), resolve=False)} -m deploy token)"
    return "\n".join(
        [
            f"ready after {seconds:.1f} s: {mar.stem} on {settings.url('inference')}",
            f"Send it a photo, from the project's folder (this one is {label}):",
            "",
            f"  curl -s {settings.url('inference')}/predictions/{name} \\",
            f'    -H "Authorization: Bearer {token}" \\',
            f"    -H 'Content-Type: application/json' -d @{relative(settings.var / EXAMPLE)}",
            "",
            *filter(None, [describe(settings)]),
            *filter(None, [front.text(settings, answering)]),
            how_to_stop,
        ]
    )


def _environment() -> str:
    return f"SERVE_VAR={os.environ['SERVE_VAR']} " if os.environ.get("SERVE_VAR") else ""


def _stop_once(*_: object) -> NoReturn:
    """The first Ctrl-C stops the server. A second one must not interrupt this: make passes its own on as well."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
