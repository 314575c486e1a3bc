"""A small disk that can be filled without affecting others."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from common.errors import UserError


class Skipped(UserError):
    """A case cannot be measured on this machine."""


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 40 MB.

    Raises:
        Skipped: only root may mount one.
    """
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=40m", "none", str(folder)]
    if os.getuid() or not shutil.which("mount"):
        raise Skipped("only root may mount a small file system")
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise Skipped(f"a small file system cannot be mounted: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Fill the disk of a folder completely: with large pieces first, then with small ones."""
    for size in (65536, 512):
        with contextlib.suppress(OSError), (folder / f"full-{size}").open("wb", buffering=0) as file:
            while file.write(b"\0" * size):
                pass
