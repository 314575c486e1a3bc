"""The folder of runtime files, `var`: only one that is ours is changed, and it is its owner's alone."""

from pathlib import Path

from common.errors import UserError

MARK = "deploying.lock"
"""Lies in every folder of ours from the moment that it is one; deploy/host/locks.py locks it."""

_MARKS = (MARK, "served.json", "key_file.json")  # one that was made before the lock existed has these
_NOTHING = {"lost+found"}  # an empty file system has it


def claim(folder: Path) -> None:
    """Make the folder, or see that it is ours, and keep others out of it.

    Raises:
        UserError: it holds another's files, or it cannot be written.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _ours(folder):
            raise UserError(
                f"{folder} holds files that are not of this server, and nothing in it was changed: "
                "name an empty or a new folder with SERVE_VAR=FOLDER"
            )
        folder.chmod(0o700)
        (folder / MARK).touch(mode=0o600)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}: give another with SERVE_VAR=FOLDER") from error


def _ours(folder: Path) -> bool:
    names = {path.name for path in folder.iterdir()} - _NOTHING
    return not names or any((folder / mark).is_file() for mark in _MARKS)
