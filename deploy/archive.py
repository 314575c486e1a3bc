"""Pack a bundle as model_store/NAME-VERSION.mar with its manifest NAME-VERSION.json.

    scripts/archive.sh models/classroom 1.1

Refuses a run that failed its gate, a golden photo whose answer differs from the one at export, and a version that
exists. A version is never overwritten; a crash leaves the store as it was.
"""

import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any

import click
from filelock import FileLock

from common.cli import command
from common.commands import next_step
from common.console import say
from common.errors import AlreadyExists, CheckFailed, InvalidInput, UserError
from common.files import writing
from deploy.settings import ROOT, read_settings
from deploy.store.mar import VERSION, ArchiveManifest, digests, identity, next_version, read_manifest, write_manifest
from handler import engine, goldens
from handler.spec import Spec, read_spec

_SHIPPED = ("model.onnx", "recipe.json", goldens.FILE)


@dataclass(frozen=True)
class BundleRun:
    """The part of a bundle's run.json that its archive's manifest repeats (`ArchiveManifest`)."""

    id: str
    metrics: Mapping[str, Any]
    gate: Mapping[str, Any]
    precision: str
    parent: str | None = None
    commit: str | None = None


@command(epilog="Example: python -m deploy archive models/classroom 1.1")
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("version", default="")
def archive(bundle: Path, version: str) -> None:
    """Pack BUNDLE (from `training export`) as VERSION, for example 1.1; by default as the next of its model."""
    store = read_settings().store
    packed = pack(bundle, version or next_version(store, name_of(bundle)), store)
    say(f"{_shown(packed)}: {packed.stat().st_size / 1e6:.1f} MB, digest {read_manifest(packed).digest[:12]}")
    next_step("deploy", "rollout", _shown(packed))


def pack(bundle: Path, version: str, store: Path) -> Path:
    """Pack a bundle.

    Returns:
        the path of the archive; its manifest is next to it.

    Raises:
        InvalidInput: the bundle or the version is not valid.
        CheckFailed: the run failed its gate, or a golden photo is answered differently.
        AlreadyExists: the version exists.
        CannotWrite: the disk is full.
    """
    spec, run = _read_bundle(bundle)
    target = store / f"{spec.name}-{version}.mar"
    _refuse(bundle, version, run, target)
    with writing(store):
        store.mkdir(parents=True, exist_ok=True)
        lock = FileLock(store / ".lock", fallback_to_soft=False)  # a soft lock would outlive a killed process
        with lock, tempfile.TemporaryDirectory(dir=store, prefix=".packing-") as work:
            _refuse(bundle, version, run, target)
            _clear_left_over(store, Path(work))
            difference = _check_goldens(bundle, spec)
            packed = _archive(_stage(bundle, Path(work)), spec, version, Path(work))
            write_manifest(target, make_manifest(packed, spec, run, version, difference))
            _sync(packed)
            packed.replace(target)
    return target


def make_manifest(mar: Path, spec: Spec, run: BundleRun, version: str, difference: float) -> ArchiveManifest:
    """The manifest of an archive: digests, origin, accuracy, runtime.

    Args:
        difference: largest |p - p at export| of a golden photo.
    """
    contents = digests(mar)
    return ArchiveManifest(
        name=spec.name,
        version=version,
        digest=identity(contents),
        contents=contents,
        run=run.id,
        parent=run.parent,
        commit=run.commit,
        metrics=run.metrics,
        gate=run.gate,
        recipe=spec.model_dump(mode="json"),
        runtime={**spec.runtime.model_dump(), "version": metadata.version(spec.runtime.engine)},
        weights=run.precision,
        goldens_difference=round(difference, 6),
        packed=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        cpu_flags=tuple(cpu_flags()),
    )


def name_of(bundle: Path) -> str:
    """The name of the model in a bundle. Raises: InvalidInput: it is not a bundle."""
    return _read_bundle(bundle)[0].name


def run_of(bundle: Path) -> str:
    """The id of the run that a bundle comes from.

    Raises:
        InvalidInput: it is not a bundle.
    """
    return _read_bundle(bundle)[1].id


def cpu_flags() -> list[str]:
    """The vector instructions of this machine's CPU; the answers to the golden photos depend on them a little."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return []
    match = re.search(r"^flags\s*:\s*(.*)$", text, re.MULTILINE)
    return sorted(flag for flag in (match[1].split() if match else []) if re.match(r"avx|amx|fma|sse4|f16c", flag))


def _read_bundle(bundle: Path) -> tuple[Spec, BundleRun]:
    try:
        row = json.loads((bundle / "run.json").read_text(encoding="utf-8"))
        run = BundleRun(**{field.name: row[field.name] for field in fields(BundleRun) if field.name in row})
        return read_spec(bundle / "recipe.json"), run
    except (OSError, ValueError, TypeError) as error:
        raise InvalidInput(f"{bundle} is not a bundle", "create one with python -m training export RUN") from error


def _refuse(bundle: Path, version: str, run: BundleRun, target: Path) -> None:
    if not VERSION.fullmatch(version):
        raise InvalidInput(
            f"{version!r} is not a version", "give two or three numbers without leading zeros, for example 1.1"
        )
    if not run.gate.get("passed"):
        raise CheckFailed(f"{bundle} failed its gate: {json.dumps(run.gate)}", "train or prune it again")
    if target.exists():
        raise AlreadyExists(f"{_shown(target)} exists and is never overwritten", "pack under a higher version")


def _check_goldens(bundle: Path, spec: Spec) -> float:
    try:
        goldens.require(goldens.read(bundle), spec)
        graph = engine.load(bundle / "model.onnx", spec)
        return goldens.check(bundle, spec, engine.from_bytes(graph, spec))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise CheckFailed(f"{bundle}: {error}") from error


def _stage(bundle: Path, work: Path) -> Path:
    """Copy everything into one folder, as it will be in the archive: --extra-files puts its top level into the root."""
    stage = work / "stage"
    shutil.copytree(
        ROOT / "handler", stage / "handler", ignore=shutil.ignore_patterns("__pycache__", "torchserve_entry.py")
    )
    shutil.move(stage / "handler" / "worker" / "sitecustomize.py", stage)
    shutil.copytree(bundle / "goldens", stage / "goldens")
    for name in _SHIPPED:
        shutil.copy(bundle / name, stage / name)
    return stage


def _archive(stage: Path, spec: Spec, version: str, work: Path) -> Path:
    command = [
        str(Path(sys.executable).parent / "torch-model-archiver"),
        *("--model-name", spec.name, "--version", version, "--export-path", str(work)),
        *("--handler", str(ROOT / "handler" / "torchserve_entry.py"), "--extra-files", str(stage)),
    ]
    environment = {**os.environ, "TMPDIR": str(work)}  # it collects the files in TMPDIR/NAME, without a lock
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    packed = work / f"{spec.name}.mar"
    if done.returncode or not packed.is_file():
        raise UserError(f"torch-model-archiver failed: {(done.stderr or done.stdout).strip()[-400:]}")
    return packed


def _sync(path: Path) -> None:
    """Write the bytes to the disk before the rename: an empty archive after a power cut could never be replaced."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _clear_left_over(store: Path, mine: Path) -> None:
    """Remove the folders of killed packers; the lock is held, so no other is running."""
    for folder in store.glob(".packing-*"):
        if folder != mine:
            shutil.rmtree(folder, ignore_errors=True)


def _shown(path: Path) -> Path:
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
