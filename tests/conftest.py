"""Fixtures in layers: drawn photos -> run -> bundle -> archive -> a real TorchServe with both recipes."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

from deploy.archive import pack
from deploy.settings import ROOT, Settings, own_environment, read_settings

SHAPES = ROOT / "config" / "recipes" / "shapes.yaml"
SHIPPED = ROOT / "models" / "classroom"
XDIST = "PYTEST_XDIST_WORKER" in os.environ
Once = Callable[[str, Callable[[Path], object]], Path]

if XDIST:  # two trainings at once, each with a thread for every core, wait for one another more than they compute
    os.environ["OMP_NUM_THREADS"] = "1"


def command(
    *arguments: object, env: dict[str, str] | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run `python -m ...` or a script as a person would."""
    words = [str(word) for word in arguments]
    if words[0] in ("dataset", "training", "deploy"):
        words = [sys.executable, "-m", *words]
    done = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, timeout=600, env={**os.environ, **(env or {})}, check=False
    )
    assert not check or done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done


def newest(folder: Path, step: str) -> Path:
    return sorted(folder.glob(f"*-{step}"))[-1]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Make a folder once for all processes of pytest-xdist; who comes second waits for it."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if XDIST else base

    def made(name: str, make: Callable[[Path], object]) -> Path:
        folder = base / name
        with FileLock(base / f"{name}.lock"):
            if not folder.exists():
                make(folder)
        return folder

    return made


@pytest.fixture(scope="session")
def drawn(once: Once) -> Path:
    def make(folder: Path) -> None:
        command("dataset", "sample", folder, "--recipe", SHAPES, "--count", 30)

    return once("drawn", make)


@pytest.fixture(scope="session")
def runs(once: Once, drawn: Path) -> Path:
    """Train, then prune, then export, with the commands that a person types."""

    def make(root: Path) -> None:
        command("training", "train", SHAPES, "--data", drawn, "--runs", root)
        command("training", "prune", newest(root / "shapes", "train"), "--data", drawn, "--runs", root)
        command("training", "export", newest(root / "shapes", "prune"), "--data", drawn)

    return once("runs", make) / "shapes"


@pytest.fixture
def short(tmp_path: Path) -> Path:
    """The drawn recipe with as little training as possible, and no gate."""
    content = yaml.safe_load(SHAPES.read_text())
    content |= {"folds": 2, "gate": {"mean_accuracy": 0, "max_loss": 1}}
    content["train"]["epochs"] = content["prune"]["epochs"] = 1
    content["export"] = {"int8": "never"}
    path = tmp_path / "short.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="session")
def bundle(runs: Path) -> Path:
    return newest(runs, "prune") / "bundle"


@pytest.fixture
def copy_of_bundle(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def store(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    pack(bundle, "1.0", folder)
    pack(SHIPPED, "1.0", folder)
    return folder


@pytest.fixture(scope="session")
def unpacked(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of the drawn recipe as TorchServe unpacks it."""
    folder = tmp_path_factory.mktemp("unpacked")
    shutil.unpack_archive(store / "shapes-1.0.mar", folder, "zip")
    return folder


@pytest.fixture(scope="session")
def settings(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return read_settings(own_environment(tmp_path_factory.mktemp("var"), store))


@pytest.fixture(scope="session")
def server(settings: Settings) -> Iterator[Any]:
    """One real TorchServe with classroom and shapes, and each again as a batched model."""
    from deploy.torchserve.process import Server

    with Server(settings) as running:
        for name in ("classroom", "shapes"):
            running.client.register(f"{name}-1.0.mar", name)
            batched = {"batch_size": 8, "max_batch_delay": 50, "initial_workers": 1, "synchronous": "true"}
            running.client.manage(
                "POST", "/models", params={"url": f"{name}-1.0.mar", "model_name": f"{name}_batched", **batched}
            )
        yield running


def batches_logged(server: Any) -> int:
    """How many requests were in batches of more than one, as the handlers of this server have logged so far."""
    text: str = (server.logs / "requests.log").read_text()
    return sum(json.loads(line)["batch"] > 1 for line in text.splitlines())
