"""A run: runs/RECIPE/ID/ with the resolved recipe, weights, and a run.json that explains it.

A run appears under its name when it is complete; while it is made it is called ID.partial, so an
interrupted one is never taken for a result. What was reached (`checkpoint.pt`, `progress.json`) is taken up
again by the same command on the same photos, recipe, code and versions.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import safetensors.torch
from safetensors import SafetensorError

from common.errors import UserError
from common.files import write_json
from config.recipe import Recipe, from_saved
from dataset.photos import Photo, counts
from training.models.classifier import Classifier
from training.models.registry import build
from training.models.reshape import reshape, shapes_in

RUNS = Path("runs")
CHECKPOINT = "checkpoint.pt"
PROGRESS = "progress.json"
KEY = "key"
WEIGHTS = "model.safetensors"
STEP_WEIGHTS = "step.safetensors"
REACHED = (CHECKPOINT, PROGRESS, STEP_WEIGHTS, KEY)
"""What only a run that goes on needs, in its folder or one below."""


@contextlib.contextmanager
def new_run(
    step: str, recipe: Recipe, root: Path, fresh: bool = False, **facts: Any
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Make a run, or go on with an interrupted one: yields its folder and the dict that becomes its run.json.

    The folder is renamed to its final name when the block ends. When the block fails, it is kept if it
    holds a checkpoint or progress, and deleted otherwise.

    Args:
        fresh: start anew, whatever was reached.
        facts: what the run is made from; with the recipe it decides which interrupted run is the same.
    """
    started = time.time()
    key = digest([step, recipe.model_dump(mode="json"), _versions(), facts])
    with contextlib.ExitStack() as stack:
        folder = (None if fresh else _unfinished(root / recipe.name, key, stack)) or _begin(
            root / recipe.name, step, key, stack
        )
        facts = {
            "id": folder.stem,
            "step": step,
            "recipe": recipe.name,
            "arguments": _arguments(),
            "seed": recipe.train.seed,
            **_versions(),
            **facts,
        }
        try:
            yield folder, facts
            facts["seconds"] = round(time.time() - started, 1)
            write_json(folder / "recipe.json", recipe.model_dump(mode="json"))
            write_json(folder / "run.json", facts)
            done = folder.rename(folder.with_suffix(""))
            for name in REACHED:  # after it has its name: killed in between, nothing is lost
                for path in done.rglob(name):
                    path.unlink(missing_ok=True)
        except BaseException as error:
            if any((folder / name).exists() for name in (CHECKPOINT, PROGRESS)):
                click.echo(f"{folder} is kept: the same command goes on from there", err=True)
            else:
                shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, OSError):
                raise UserError(f"{folder} cannot be written: {error}: make room, or give --runs") from error
            raise


def digest(content: Any) -> str:
    """A short name for plain data."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _begin(parent: Path, step: str, key: str, stack: contextlib.ExitStack) -> Path:
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{step}"
    for attempt in range(1, 1000):
        folder = parent / f"{name if attempt == 1 else f'{name}-{attempt}'}.partial"
        try:
            parent.mkdir(parents=True, exist_ok=True)
            if folder.with_suffix("").exists():
                continue
            folder.mkdir()
            (folder / KEY).write_text(key)
        except FileExistsError:
            continue
        except OSError as error:
            raise UserError(f"{folder} cannot be made: {error.strerror}: give --runs FOLDER") from error
        if _lock(folder, stack):  # else another process took it up between the two lines
            return folder
    raise UserError(f"{parent} has a thousand runs of this second: give --runs FOLDER")


def _unfinished(parent: Path, key: str, stack: contextlib.ExitStack) -> Path | None:
    """The interrupted run of the same command, unless another process is at it."""
    for folder in sorted(parent.glob("*.partial")):
        try:
            same = (folder / KEY).read_text() == key
        except OSError:
            continue
        if same and _lock(folder, stack):
            click.echo(f"going on with {folder}, which was interrupted (--fresh starts anew)", err=True)
            return folder
    return None


def _lock(folder: Path, stack: contextlib.ExitStack) -> bool:
    file = stack.enter_context((folder / KEY).open())
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _arguments() -> list[str]:
    return [_portable(word) for word in sys.argv[1:]]


def save_model(folder: Path, model: Classifier, name: str = WEIGHTS) -> None:
    """Write a model's weights into a folder, beside its run.json if it is a run's.

    Raises:
        OSError: they cannot be written.
    """
    try:
        safetensors.torch.save_model(model, str(folder / name))
    except SafetensorError as error:
        raise OSError(0, str(error)) from error


def load_model(folder: Path) -> tuple[Recipe, Classifier, dict[str, Any]]:
    """Read a run back: its recipe, its model in eval with the shapes that were saved, its run.json.

    Raises:
        UserError: it is no complete run.
    """
    recipe, facts = read_run(folder)
    return recipe, load_weights(folder / WEIGHTS, recipe), facts


def load_weights(path: Path, recipe: Recipe) -> Classifier:
    """Build the recipe's model and load a file of weights into it; in eval.

    Raises:
        UserError: there is no such file, it is damaged, or it is of another network.
    """
    model = build(recipe.backbone.model_copy(update={"weights": "none"}), len(recipe.labels), recipe.input)
    try:
        reshape(model, shapes_in(path))
        safetensors.torch.load_model(model, str(path))
        answers = model.network.get_parameter(f"{model.head}.weight").shape[0]
    except SafetensorError as error:
        raise UserError(f"{path} is damaged ({error}): train it again") from error
    except (OSError, RuntimeError) as error:
        raise UserError(f"{path.parent} is no run with a model: {error}") from error
    if answers != len(recipe.labels):
        raise UserError(f"{path} tells {answers} labels apart, its recipe {len(recipe.labels)}: train again")
    return model.eval()


def saved_shapes(folder: Path) -> dict[str, list[int]]:
    """The shapes of a run's tensors, or of a bundle's as its run.json tells them.

    Raises:
        UserError: its weights are damaged.
    """
    path = folder / WEIGHTS
    try:
        if path.exists():
            return shapes_in(path)
        told = read_run(folder)[1].get("shapes", {})
        return {name: [int(size) for size in shape.split("x")] for name, shape in told.items()}
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} is damaged ({error}): train it again") from error


def read_run(folder: Path) -> tuple[Recipe, dict[str, Any]]:
    """Read a run's recipe and run.json.

    Raises:
        UserError: it is no complete run.
    """
    try:
        recipe = from_saved((folder / "recipe.json").read_text(encoding="utf-8"))
        return recipe, json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} is no complete run: give a folder of runs/RECIPE/") from error


def sha256(path: Path) -> str:
    """A file's digest.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}: take it out") from error


def fingerprint(photos: Sequence[Photo], labels: Sequence[str]) -> dict[str, Any]:
    """What a run was made from, without naming a photo: counts, sources, and a digest of all bytes and labels."""
    digest = hashlib.sha256()
    for entry in sorted(f"{photo.label} {sha256(photo.path)}" for photo in photos):
        digest.update(entry.encode())
    return {
        "photos": counts(photos, labels),
        "sources": len({photo.source for photo in photos}),
        "sha256": digest.hexdigest(),
    }


def _versions() -> dict[str, Any]:
    packages = ("torch", "torchvision", "timm", "pillow", "openvino", "nncf", "onnxruntime")
    return {
        "commit": _commit(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in packages},
    }


def _portable(word: str) -> str:
    """An argument without a path of this one machine."""
    return os.path.relpath(word) if word.startswith("/") else word


def _commit() -> str | None:
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
