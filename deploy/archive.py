"""Pack a bundle as model_store/NAME-VERSION.mar with its manifest NAME-VERSION.json.

    scripts/archive.sh models/classroom 1.1

What is refused: a run that failed its gate, a golden photo that is answered
otherwise than when it was exported, a version that exists. A version is never
overwritten; a crash leaves the store as it was.
"""

import datetime
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from common.cli import command
from common.errors import UserError
from deploy.settings import ROOT, read_settings
from deploy.store.mar import VERSION, ArchiveManifest, digests, identity, read_manifest, write_manifest
from handler import engine, goldens
from handler.spec import Spec, read_spec

_SHIPPED = ("model.onnx", "recipe.json", goldens.FILE)


@command(epilog="Example: python -m deploy archive models/classroom 1.1")
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("version")
def archive(bundle: Path, version: str) -> None:
    """Pack BUNDLE (made by `training export`) as VERSION."""
    packed = pack(bundle, version, read_settings().store)
    click.echo(f"{_shown(packed)}: {packed.stat().st_size / 1e6:.1f} MB, digest {read_manifest(packed).digest[:12]}")


def pack(bundle: Path, version: str, store: Path) -> Path:
    """Pack a bundle.

    Returns:
        the path of the archive; its manifest lies beside it.

    Raises:
        UserError: refused, with the reason and the fix.
    """
    spec, run = _read_bundle(bundle)
    target = store / f"{spec.name}-{version}.mar"
    _refuse(bundle, version, run, target)
    try:
        store.mkdir(parents=True, exist_ok=True)
        with _locked(store), tempfile.TemporaryDirectory(dir=store, prefix=".packing-") as work:
            _refuse(bundle, version, run, target)
            _clear_left_over(store, Path(work))
            difference = _check_goldens(bundle, spec)
            made = _archive(_stage(bundle, Path(work)), spec, version, Path(work))
            write_manifest(target, make_manifest(made, spec, run, version, difference))
            _sync(made)
            made.replace(target)
    except OSError as error:
        raise UserError(f"{store} cannot be written: {error.strerror}") from error
    return target


def make_manifest(mar: Path, spec: Spec, run: dict[str, Any], version: str, difference: float) -> ArchiveManifest:
    """What is known of an archive: its contents' digests, where it comes from, how good it is, what runs it."""
    contents = digests(mar)
    return ArchiveManifest(
        name=spec.name,
        version=version,
        digest=identity(contents),
        contents=contents,
        run=run["id"],
        parent=run.get("parent"),
        commit=run.get("commit"),
        metrics=run["metrics"],
        gate=run["gate"],
        recipe=spec.model_dump(mode="json"),
        runtime={**spec.runtime.model_dump(), "version": metadata.version(spec.runtime.engine)},
        weights=run["precision"],
        goldens_difference=round(difference, 6),
        packed=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        cpu_flags=tuple(cpu_flags()),
    )


def run_of(bundle: Path) -> str:
    """The id of the run that a bundle was made from.

    Raises:
        UserError: it is no bundle.
    """
    return str(_read_bundle(bundle)[1]["id"])


def cpu_flags() -> list[str]:
    """The vector instructions of this machine's CPU: what the golden answers were computed with."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return []
    found = re.search(r"^flags\s*:\s*(.*)$", text, re.MULTILINE)
    return sorted(flag for flag in (found[1].split() if found else []) if re.match(r"avx|amx|fma|sse4|f16c", flag))


def _read_bundle(bundle: Path) -> tuple[Spec, dict[str, Any]]:
    try:
        run = json.loads((bundle / "run.json").read_text(encoding="utf-8"))
        absent = {"id", "metrics", "gate", "precision"} - set(run)
        if absent:
            raise ValueError(f"run.json lacks {', '.join(sorted(absent))}")
        return read_spec(bundle / "recipe.json"), run
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{bundle} is no bundle: make one with python -m training export RUN") from error


def _refuse(bundle: Path, version: str, run: dict[str, Any], target: Path) -> None:
    if not VERSION.fullmatch(version):
        raise UserError(f"version {version!r}: write two or three numbers with dots, for example 1.1")
    if not run.get("gate", {}).get("passed"):
        raise UserError(f"{bundle} failed its gate: {json.dumps(run.get('gate'))}: train or prune it again")
    if target.exists():
        raise UserError(f"{_shown(target)} exists and is never overwritten: pack under a higher version")


def _check_goldens(bundle: Path, spec: Spec) -> float:
    try:
        goldens.require(goldens.read(bundle), spec)
        graph = engine.load(bundle / "model.onnx", spec)
        return goldens.check(bundle, spec, engine.from_bytes(graph, spec))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise UserError(f"{bundle}: {error}") from error


def _stage(bundle: Path, work: Path) -> Path:
    """The tree as it will lie in the archive; --extra-files empties a folder's top level into the root."""
    stage = work / "stage"
    shutil.copytree(
        ROOT / "handler", stage / "handler", ignore=shutil.ignore_patterns("__pycache__", "torchserve_entry.py")
    )
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
    apart = {**os.environ, "TMPDIR": str(work)}  # it gathers the files in TMPDIR/NAME, whoever else is doing so
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=apart)
    made = work / f"{spec.name}.mar"
    if done.returncode or not made.is_file():
        raise UserError(f"torch-model-archiver failed: {(done.stderr or done.stdout).strip()[-400:]}")
    return made


def _sync(path: Path) -> None:
    """Have the bytes on the disk before their name: an empty archive after a power cut could never be replaced."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _clear_left_over(store: Path, mine: Path) -> None:
    """Remove what packers that were killed have left; we hold the lock, so none is at work."""
    for folder in store.glob(".packing-*"):
        if folder != mine:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(store: Path) -> Iterator[None]:
    with (store / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _shown(path: Path) -> Path:
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
