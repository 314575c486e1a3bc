"""The commands of the project, run as a person runs them, and the recipe and bundle that most tests use."""

import functools
import importlib
import os
import subprocess
from pathlib import Path

from click.testing import CliRunner

from deploy.settings import ROOT
from photoloop import main as photoloop
from tests.helpers.running.forked import run_forked
from training.records.index import of_step

SHAPES = ROOT / "config" / "recipes" / "shapes.yaml"
SHIPPED = ROOT / "models" / "classroom"


def command(
    *arguments: object, env: dict[str, str] | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run `python -m ...` (in a forked process: tests/helpers/running/forked.py) or a program as a person would."""
    words = [str(word) for word in arguments]
    environment = {**os.environ, **(env or {})}
    if words[0] in photoloop.summaries:
        done: subprocess.CompletedProcess[str] = run_forked(words, ROOT, environment)
    else:
        done = subprocess.run(
            words, cwd=ROOT, capture_output=True, text=True, timeout=600, env=environment, check=False
        )
    assert not check or done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done


def newest(folder: Path, step: str) -> Path:
    return of_step(folder.glob("*"), step)[-1]


@functools.cache
def examples(package: str) -> dict[str, str]:
    """The example of each command's --help, in the order in which the package lists its commands."""
    group, texts = importlib.import_module(f"{package}.__main__").main, {}
    for name in group.summaries:
        shown = CliRunner().invoke(group, [name, "--help"], prog_name=f"python -m {package}").output
        texts[name] = " ".join(shown.partition("Example: ")[2].split())
        assert texts[name], f"python -m {package} {name} --help has no example"
    return texts
