"""A run: runs/RECIPE/ID/ with the resolved recipe, weights, and a run.json that explains it.

A run appears under its name when it is complete; while it is made it is called
ID.partial, so an interrupted one is never taken for a result.
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
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import safetensors.torch

from config.files import write_json
from config.recipe import Recipe
from dataset.photos import Photo, counts
from training.backbones import Classifier, build

RUNS = Path("runs")


@contextlib.contextmanager
def new_run(step: str, recipe: Recipe, root: Path, **facts: Any) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Make a run: yields its folder and the dict that becomes its run.json.

    The folder is renamed to its final name when the block ends, and deleted when
    the block fails.
    """
    parent = root / recipe.name
    started = time.time()
    name = time.strftime("%Y%m%d-%H%M%S", time.localtime(started)) + f"-{step}"
    folder = parent / f"{_free(parent, name)}.partial"
    facts = {
        "id": folder.stem,
        "step": step,
        "recipe": recipe.name,
        "arguments": [_portable(word) for word in sys.argv[1:]],
        **_versions(),
        **facts,
    }
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise click.ClickException(f"{folder} cannot be made: {error.strerror}: give --runs FOLDER") from error
    try:
        yield folder, facts
        facts["seconds"] = round(time.time() - started, 1)
        write_json(folder / "recipe.json", recipe.model_dump(mode="json"))
        write_json(folder / "run.json", facts)
        folder.rename(folder.with_suffix(""))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def save_model(folder: Path, model: Classifier) -> None:
    """Write a model's weights beside its run.json."""
    safetensors.torch.save_model(model, str(folder / "model.safetensors"))


def load_model(folder: Path) -> tuple[Recipe, Classifier, dict[str, Any]]:
    """Read a run back: its recipe, its model in eval, its run.json.

    Raises:
        click.ClickException: it is no complete run.
    """
    try:
        recipe, facts = read_run(folder)
        model = build(recipe.backbone.model_copy(update={"weights": "none"}), len(recipe.labels))
        safetensors.torch.load_model(model, str(folder / "model.safetensors"))
    except (OSError, RuntimeError) as error:
        raise click.ClickException(f"{folder} is no run with a model: {error}") from error
    return recipe, model.eval(), facts


def read_run(folder: Path) -> tuple[Recipe, dict[str, Any]]:
    """Read a run's recipe and run.json.

    Raises:
        click.ClickException: it is no complete run.
    """
    try:
        recipe = Recipe.model_validate_json((folder / "recipe.json").read_text(encoding="utf-8"))
        return recipe, json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{folder} is no complete run: give a folder of runs/RECIPE/") from error


def fingerprint(photos: Sequence[Photo], labels: Sequence[str]) -> dict[str, Any]:
    """What a run was made from, without naming a photo: counts, sources, and a digest of all bytes and labels."""
    digest = hashlib.sha256()
    for entry in sorted(f"{photo.label} {hashlib.sha256(photo.path.read_bytes()).hexdigest()}" for photo in photos):
        digest.update(entry.encode())
    return {
        "photos": counts(photos, labels),
        "sources": len({photo.source for photo in photos}),
        "sha256": digest.hexdigest(),
    }


def _free(parent: Path, name: str) -> str:
    taken = {path.name.removesuffix(".partial") for path in parent.glob(f"{name}*")}
    return next(n for n in (name, *(f"{name}-{i}" for i in range(2, 1000))) if n not in taken)


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
            ["git", "rev-parse", "--verify", "-q", "HEAD"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
