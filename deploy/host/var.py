"""The folder of runtime files, `var`: only a folder of this project is changed, and only its owner can read it."""

from pathlib import Path

from common.errors import InvalidInput
from common.files import writing

MARK = "deploying.lock"
"""Marks a folder as ours; deploy/host/locks.py locks it."""

METRICS = "metrics"
"""Folder of texts for Prometheus that other programs write, NAME.prom; the keeper adds them to its own /metrics."""

_MARKS = (MARK, "served.json", "key_file.json")  # the other two: folders of early versions
_NOTHING = {"lost+found", "feedback"}
"""In an empty file system; and the folder of the pages, whose commands may run before the first start of the server."""


def claim(folder: Path) -> None:
    """Create the folder, or check that it is ours, and make it private.

    Raises:
        InvalidInput: it contains files of another program.
        CannotWrite: it cannot be written.
    """
    with writing(folder, "give another with SERVE_VAR=FOLDER"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _ours(folder):
            raise InvalidInput(
                f"{folder} contains files of another program, and nothing in it was changed",
                "give an empty or a new folder with SERVE_VAR=FOLDER",
            )
        folder.chmod(0o700)
        (folder / MARK).touch(mode=0o600)


def _ours(folder: Path) -> bool:
    names = {path.name for path in folder.iterdir()} - _NOTHING
    return not names or any((folder / mark).is_file() for mark in _MARKS)
