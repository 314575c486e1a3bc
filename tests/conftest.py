"""Fixtures in layers: drawn photos -> run -> bundle -> archive -> a real TorchServe with both recipes."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from xdist.remote import Producer

from benchmarks.harness.versions import copy_as
from config.recipe import read_recipe
from deploy.archive import pack
from deploy.settings import Settings, read_settings, separate_environment
from tests.helpers.commands import SHAPES, SHIPPED, command, newest
from tests.helpers.light import STAND_IN, write_light_bundle
from tests.helpers.pictures import draw_small_set
from tests.helpers.running.forked import forking_python
from tests.helpers.running.groups import SERVER, Groups, group_of, rank, uses_server
from tests.helpers.waiting import Once, once_in

XDIST = "PYTEST_XDIST_WORKER" in os.environ

# Each command that a test starts would compile the project's modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


TRAINED = {"drawn", "runs", "sibling"}  # fixtures that train, or prepare it


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Groups:
    """Run what shares a server or a file in one process (tests/helpers/running/groups.py)."""
    return Groups(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: list[Any]) -> None:
    """Fork the processes of `pytest -n` from one that has imported torch (tests/helpers/running/forked.py)."""
    os.environ["OMP_NUM_THREADS"] = "1"  # two trainings with a thread for every core wait more than they compute
    for spec in specs:
        spec.python = forking_python(tuple(config.args))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest groups first, and mark what `make test-fast` runs."""
    for item in items:
        if uses_server(item) and group_of(item.nodeid) != SERVER:
            raise pytest.UsageError(f"{item.nodeid} uses the session's server: move its file to tests/{SERVER}")
        slow = item.get_closest_marker("slow") or TRAINED.intersection(item.fixturenames)  # type: ignore[attr-defined]
        if "unit" in item.path.parts and not slow:
            item.add_marker(pytest.mark.fast)
    items.sort(key=lambda item: rank(item.nodeid))


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Make a folder once for all processes of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    return once_in(base.parent if XDIST else base)


@pytest.fixture(scope="session")
def sibling(once: Once) -> Callable[[str], Path]:
    """The folder of a small run of a sibling recipe by its name (tests/helpers/siblings.py), trained once."""

    def of(name: str) -> Path:
        from tests.helpers import siblings

        return once(f"sibling-{name}", lambda folder: siblings.make(name, folder))

    return of


@pytest.fixture(scope="session")
def drawn(once: Once) -> Path:
    def make(folder: Path) -> None:
        draw_small_set(folder, read_recipe(SHAPES), 30)

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


@pytest.fixture(scope="session")
def light(once: Once) -> Path:
    """A bundle that nobody has to train, for tests of the server around it (tests/helpers/light.py)."""
    return once("light", write_light_bundle)


@pytest.fixture
def copy_of_bundle(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def shipped(once: Once) -> Path:
    """The archive of the shipped model; not to be changed."""
    return once("shipped", lambda folder: pack(SHIPPED, "1.0", folder)) / "classroom-1.0.mar"


@pytest.fixture(scope="session")
def packed_shapes(once: Once, bundle: Path) -> Path:
    """The archive of the drawn recipe; not to be changed."""
    return once("shapes", lambda folder: pack(bundle, "1.0", folder)) / "shapes-1.0.mar"


@pytest.fixture(scope="session")
def unpacked(packed_shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of the drawn recipe as TorchServe unpacks it."""
    folder = tmp_path_factory.mktemp("unpacked")
    shutil.unpack_archive(packed_shapes, folder, "zip")
    return folder


@pytest.fixture(scope="session")
def settings(packed_shapes: Path, shipped: Path, light: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Of the session's server; only the workers of the shipped model import torch (tests/helpers/light.py)."""
    store = tmp_path_factory.mktemp("store")
    for path in shipped.parent.iterdir():
        shutil.copy(path, store)
    copy_as(packed_shapes, "1.0", store, light / STAND_IN)
    return read_settings(separate_environment(tmp_path_factory.mktemp("var"), store))


@pytest.fixture(scope="session")
def server(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One real TorchServe with the models classroom and shapes, and a batched model of both."""
    from deploy.torchserve.process import Server

    if XDIST:  # fails in a second process: then the groups of tests/helpers/running/groups.py do not work
        (tmp_path_factory.getbasetemp().parent / "server").mkdir()
    with Server(settings) as running:
        for name in ("classroom", "shapes"):
            running.client.register(f"{name}-1.0.mar", name)
            batched = {"batch_size": 8, "max_batch_delay": 50, "initial_workers": 1, "synchronous": "true"}
            running.client.manage(
                "POST", "/models", params={"url": f"{name}-1.0.mar", "model_name": f"{name}_batched", **batched}
            )
        yield running
