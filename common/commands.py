"""Commands that a person pastes: with the interpreter that runs this one, and every word quoted for a shell.

In Photoloop every step ends with the documented next one: `next: .venv/bin/python -m dataset stats PHOTOS`.
"""

import os
import shlex
import shutil
import sys
from pathlib import Path

from common.console import say

WALK = "PHOTOLOOP_WALK"
"""Set by `retrain` for the commands that it runs: it knows the next step itself."""


def pasteable(*words: object) -> str:
    """`.venv/bin/python -m WORDS`, for a shell in the current folder; control characters of names become `?`."""
    command = shlex.join([interpreter(), "-m", *map(str, words)])
    return "".join(letter if letter.isprintable() else "?" for letter in command)


def interpreter() -> str:
    """`python` if a shell would run this interpreter by that name; otherwise its path, short if it is below here."""
    path = Path(sys.executable or "python")
    found = shutil.which("python")
    if found and Path(found).absolute() == path:
        return "python"
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def next_step(*words: object) -> None:
    """Print the documented next step, unless `retrain` runs this one."""
    if WALK not in os.environ:
        say(f"next: {pasteable(*words)}")
