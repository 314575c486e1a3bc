"""A folder and ports for a front."""

from pathlib import Path

import pytest

from deploy.settings import Settings, read_settings, separate_environment
from deploy.store import desired
from deploy.store.desired import ServedVersion


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return made(tmp_path)


@pytest.fixture(scope="module")
def settings_of_module(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return made(tmp_path_factory.mktemp("front"))


def made(folder: Path) -> Settings:
    found = read_settings(separate_environment(folder / "var", folder / "store"))
    found.var.mkdir(mode=0o700)
    desired.write(found.var, [ServedVersion("shapes", "1.0", "shapes-1.0.mar", "d", default=True)])
    return found
