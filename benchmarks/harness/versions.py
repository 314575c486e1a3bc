"""Make many versions to swap between, quickly."""

import json
import shutil
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

from benchmarks.harness.commands import run_command
from common.files import write_json
from dataset.draw import draw
from deploy.archive import pack
from deploy.settings import ROOT
from deploy.store.mar import TORCHSERVE_MANIFEST, digests, identity, read_manifest, write_manifest
from handler import goldens

Edits = Mapping[str, Callable[[bytes], bytes]]
"""Name in the archive -> its new content from the old one."""
RECIPE = ROOT / "config" / "recipes" / "shapes.yaml"


def make_bundle(work: Path) -> Path:
    """A bundle of the drawn recipe, made by the command line in less than a minute."""
    drawn, runs = work / "drawn", work / "runs"
    run_command("dataset", "sample", drawn, "--recipe", RECIPE, "--count", 30)
    run_command("training", "train", RECIPE, "--data", drawn, "--runs", runs)
    run_command("training", "prune", next(runs.glob("*/*-train")), "--data", drawn, "--runs", runs)
    run = next(runs.glob("*/*-prune"))
    run_command("training", "export", run, "--data", drawn)
    return run / "bundle"


def relaxed(bundle: Path, copy: Path) -> Path:
    """A copy of a bundle without a latency limit, because a busy machine could exceed it."""
    shutil.copytree(bundle, copy)
    recipe = json.loads((copy / "recipe.json").read_text())
    recipe["rollout"] = {**recipe.get("rollout", {}), "latency_ratio": 1000}
    write_json(copy / "recipe.json", recipe)
    return copy


def derived(bundle: Path, store: Path, count: int) -> list[Path]:
    """A bundle as versions 1.0 to 1.COUNT-1: packed once, then copied with another version number."""
    first = pack(bundle, "1.0", store)
    return [first, *(copy_as(first, f"1.{number}", store) for number in range(1, count))]


def copy_as(mar: Path, version: str, store: Path, more: Path | None = None) -> Path:
    """Copy the archive of a version 1.0 into `store` as another version, with the Python files of a folder added."""
    target = store / mar.name.replace("-1.0", f"-{version}")
    with zipfile.ZipFile(mar) as old, zipfile.ZipFile(target, "x", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            data = old.read(name)
            if name == TORCHSERVE_MANIFEST:
                content = json.loads(data)
                content["model"]["modelVersion"] = version
                data = json.dumps(content).encode()
            new.writestr(name, data)
        if more:
            for path in more.rglob("*.py"):
                new.write(path, path.relative_to(more))
    contents = digests(target)
    known = replace(read_manifest(mar), version=version, contents=contents, digest=identity(contents))
    write_manifest(target, known)
    return target


def rewrite(mar: Path, edits: Edits, manifest: bool = True) -> None:
    """Change contents of an archive, and its manifest with them, so that only the contents are wrong."""
    edited = mar.with_suffix(".edited")
    with zipfile.ZipFile(mar) as before, zipfile.ZipFile(edited, "w") as after:
        for name in before.namelist():
            data = before.read(name)
            changed = edits.get(name, bytes)(data)
            assert name not in edits or changed != data, f"the edit finds nothing to change in {name}"
            after.writestr(name, changed)
    shutil.move(edited, mar)
    if manifest:
        contents = digests(mar)
        change_manifest(mar, contents=contents, digest=identity(contents))


def change_manifest(mar: Path, **values: Any) -> None:
    path = mar.with_suffix(".json")
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def goldens_photo(mar: Path) -> bytes:
    """The first golden photo of an archive."""
    contents = zipfile.Path(mar)
    return (contents / goldens.read(contents)[0].photo).read_bytes()


def drawn_photo() -> bytes:
    """A drawn photo of 1000 x 750 as a JPEG file."""
    buffer = BytesIO()
    draw("room", 1).resize((1000, 750)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
