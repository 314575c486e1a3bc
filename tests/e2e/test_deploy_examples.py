"""Every example of the --help of deploy runs, in an order in which a person could run them."""

import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.settings import separate_environment
from tests.helpers.commands import command, examples
from tests.helpers.light import pack_quickly, write_light_bundle

ORDER = [
    "up",
    "archive",
    "rollout",
    "status",
    "models",
    "predict",
    "load",
    "token",
    "rollback",
    "history",
    "retire",
    "down",
]


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The settings of a server that the examples start, change and stop, one after the other."""
    folder = tmp_path_factory.mktemp("examples")
    settings = separate_environment(folder / "var", folder / "store")
    yield settings
    command("deploy", "down", "--now", env=settings)


@pytest.mark.parametrize("name", ORDER)
def test_the_example_runs(name: str, env: dict[str, str]) -> None:
    """The shipped model is started, replaced, queried, rolled back and stopped."""
    run_example(name, examples("deploy")[name], env)


def test_every_command_has_an_example() -> None:
    """`serve` is in test_serve.py, `fetch` in tests/unit/deploy/test_fetch.py."""
    texts = examples("deploy")
    assert set(texts) == {*ORDER, "serve", "fetch", "tune"}
    assert shutil.which("curl") is None or "curl" in texts["token"]


def test_the_example_of_tune_runs(tmp_path: Path) -> None:
    """With a small model of that name: it starts a server for each combination of options."""
    pack_quickly(write_light_bundle(tmp_path / "light", "classroom"), "1.1", tmp_path / "store")
    run_example("tune", examples("deploy")["tune"], separate_environment(tmp_path / "var", tmp_path / "store"))
    assert (tmp_path / "var" / "tuned.json").is_file()


def run_example(name: str, text: str, env: dict[str, str]) -> None:
    """Run a command as it is printed: `up` in a process of its own, the others in forked ones."""
    inner = re.search(r"\$\((python .*?)\)", text)
    words = shlex.split(inner[1] if inner else text)
    assert words[:4] == ["python", "-m", "deploy", name]
    done = command(*([sys.executable, *words[1:]] if name == "up" else words[2:]), env=env)
    assert done.stdout.strip(), words
