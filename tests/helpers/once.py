"""Folders that all processes of a test run create only once."""

from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

Once = Callable[[str, Callable[[Path], object]], Path]


def once_in(base: Path) -> Once:
    """Return a function that makes a folder below `base` on its first call; other processes wait for it."""

    def make_once(name: str, make: Callable[[Path], object]) -> Path:
        folder, done = base / name, base / f"{name}.done"
        with FileLock(base / f"{name}.lock"):
            if not done.exists():
                make(folder)
                done.touch()
        return folder

    return make_once
