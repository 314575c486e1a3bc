"""The commands of the project, run as a person runs them, and the recipe and bundle that most tests use."""

import os
import subprocess
import sys
from pathlib import Path

from deploy.settings import ROOT
from tests.helpers.forked import run_forked

SHAPES = ROOT / "config" / "recipes" / "shapes.yaml"
SHIPPED = ROOT / "models" / "classroom"


def command(
    *arguments: object, env: dict[str, str] | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run `python -m ...` or a script as a person would."""
    words = [str(word) for word in arguments]
    environment = {**os.environ, **(env or {})}
    if words[0] == "training":
        done = run_forked(words, ROOT, environment)
    else:
        words = [sys.executable, "-m", *words] if words[0] in ("dataset", "deploy", "feedback", "reports") else words
        done = subprocess.run(
            words, cwd=ROOT, capture_output=True, text=True, timeout=600, env=environment, check=False
        )
    assert not check or done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done


def newest(folder: Path, step: str) -> Path:
    return sorted(folder.glob(f"*-{step}"))[-1]
