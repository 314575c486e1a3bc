"""Run commands as a person does; where results are written."""

import os
import subprocess
import sys
import time
from pathlib import Path

from common.errors import UserError
from deploy.settings import ROOT

RESULTS = ROOT / "benchmarks" / "results"
COMMAND_S = 600


def run_command(
    *words: object, environment: dict[str, str] | None = None, root: Path = ROOT, both: bool = False
) -> str:
    """Run `python -m WORDS` as a person would, and return what it printed.

    Args:
        root: of the code.
        both: notes as well, before the results.

    Raises:
        UserError: with the last words of the command that failed.
    """
    line = [sys.executable, "-m", *map(str, words)]
    env = {**os.environ, **(environment or {})}
    done = subprocess.run(line, cwd=root, env=env, capture_output=True, text=True, timeout=COMMAND_S)
    if done.returncode:
        raise UserError(f"{' '.join(line[1:])} failed: {(done.stderr or done.stdout).strip()[-800:]}")
    return done.stderr + done.stdout if both else done.stdout


def sleep_until(moment: float) -> None:
    """Sleep until a moment of time.monotonic()."""
    time.sleep(max(moment - time.monotonic(), 0))
