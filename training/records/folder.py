"""Making a run: runs/RECIPE/ID/ with the resolved recipe, the result's files and run.json.

While a run is being made its folder is called ID.partial; it is renamed when complete, so an interrupted run is never
mistaken for a result. An interrupted run that kept a checkpoint or progress (`checkpoint.pt`, `progress.json`) is
resumed by the same command on the same photos with the same recipe, code and package versions.
"""

import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from common.console import note
from common.errors import AlreadyExists, CannotWrite
from config.recipe import Recipe
from training.records.run import Inputs, Origin, Result, RunRecord, write_record

RUNS = Path("runs")
PARTIAL = ".partial"
CHECKPOINT = "checkpoint.pt"
PROGRESS = "progress.json"
KEY = "key"
"""Digest of all that decides whether an interrupted run is the same; also the file that is locked."""
STEP_WEIGHTS = "step.safetensors"
TEMPORARY = (CHECKPOINT, PROGRESS, STEP_WEIGHTS, KEY)
"""Files that only resuming needs, in the run's folder or below."""
PACKAGES = ("torch", "torchvision", "timm", "pillow", "openvino", "nncf", "onnxruntime")


def make_run(
    step: str, recipe: Recipe, root: Path, inputs: Inputs, work: Callable[[Path], Result], fresh: bool = False
) -> tuple[Path, RunRecord]:
    """Make a run, or resume an interrupted one.

    When `work` fails, the folder is kept if it has a checkpoint or progress, and deleted otherwise.

    Args:
        work: writes its files into the folder and returns the result.
        fresh: start a new run even if an interrupted one could be resumed.

    Returns:
        the run's folder and record.

    Raises:
        CannotWrite: the folder cannot be written.
    """
    started = time.time()
    versions = _versions()
    key = digest([step, recipe.model_dump(mode="json"), versions, inputs.as_json()])
    with _folder(root / recipe.name, step, key, fresh) as partial, _kept_or_deleted(partial):
        origin = Origin(
            id=partial.stem, step=step, recipe=recipe.name, arguments=_arguments(), seed=recipe.train.seed, **versions
        )
        result = work(partial)
        record = RunRecord(origin, inputs, result, round(time.time() - started, 1))
        write_record(partial, record, recipe)
        folder = partial.rename(partial.with_suffix(""))
        for name in TEMPORARY:  # only now: after a kill before the rename, the run can still be resumed
            for path in folder.rglob(name):
                path.unlink(missing_ok=True)
    return folder, record


def digest(content: Any) -> str:
    """A short name for plain data: 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def in_progress(folder: Path) -> bool:
    """Whether a process is making the run of this .partial folder."""
    lock = FileLock(folder / KEY)
    if not (folder / KEY).exists():
        return False
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


@contextlib.contextmanager
def _folder(parent: Path, step: str, key: str, fresh: bool) -> Iterator[Path]:
    """The folder of an interrupted run of the same key, or a new one; locked."""
    with contextlib.ExitStack() as stack:
        yield (None if fresh else _resumed(parent, key, stack)) or _new_folder(parent, step, key, stack)


def _resumed(parent: Path, key: str, stack: contextlib.ExitStack) -> Path | None:
    """The interrupted run of this key, unless another process is resuming it."""
    for folder in sorted(parent.glob(f"*{PARTIAL}")):
        if _has_key(folder, key) and _lock(folder, stack) and _has_key(folder, key):
            note(f"resuming {folder}, which was interrupted (--fresh starts a new run)")
            return folder
    return None


def _new_folder(parent: Path, step: str, key: str, stack: contextlib.ExitStack) -> Path:
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{step}"
    for attempt in range(1, 1000):
        folder = parent / f"{name if attempt == 1 else f'{name}-{attempt}'}{PARTIAL}"
        try:
            parent.mkdir(parents=True, exist_ok=True)
            if folder.with_suffix("").exists():
                continue
            folder.mkdir()
            (folder / KEY).write_text(key)
        except FileExistsError:
            continue
        except OSError as error:
            raise CannotWrite(folder, error, "give --runs FOLDER") from error
        if _lock(folder, stack):  # else another process resumed it between these two lines
            return folder
    raise AlreadyExists(f"{parent} has a thousand runs of this second", "give --runs FOLDER")


def _has_key(folder: Path, key: str) -> bool:
    try:
        return (folder / KEY).read_text() == key
    except OSError:
        return False


def _lock(folder: Path, stack: contextlib.ExitStack) -> bool:
    try:
        stack.enter_context(FileLock(folder / KEY, timeout=0))
    except Timeout:
        return False
    return True


@contextlib.contextmanager
def _kept_or_deleted(folder: Path) -> Iterator[None]:
    """After a failure, keep the folder if it can be resumed and delete it otherwise."""
    try:
        yield
    except BaseException as error:
        if any((folder / name).exists() for name in (CHECKPOINT, PROGRESS)):
            note(f"{folder} is kept: the same command resumes it")
        else:
            shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise CannotWrite(folder, error, "free some disk space, or give --runs FOLDER") from error
        raise


def _arguments() -> list[str]:
    """The command's arguments, without absolute paths of this machine."""
    return [os.path.relpath(word) if word.startswith("/") else word for word in sys.argv[1:]]


def _versions() -> dict[str, Any]:
    return {
        "commit": _commit(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
    }


def _commit() -> str | None:
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return described.stdout.strip() or None
