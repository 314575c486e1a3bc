"""Which files of a folder may be photos: one rule for every step, so that none trips over what another passed over."""

import os
from pathlib import Path
from typing import NoReturn

TABLES = (".tsv", ".json", ".md")


def files_of(folder: Path, links: bool = False) -> list[Path]:
    """Every file of a folder and its subfolders, in order of names.

    Passed over are hidden files and folders (a `.DS_Store`, a file half written), tables and notes (`TABLES`),
    and whatever is no regular file.

    Args:
        links: list links to files too. Without them nothing outside of the folder is read or moved.

    Raises:
        OSError: a folder cannot be listed.
    """
    found = []
    for place, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(place, name) for name in names if not name.startswith(".")):
            wanted = path.suffix.lower() not in TABLES and (links or not path.is_symlink())
            if wanted and path.is_file():
                found.append(path)
    return sorted(found)


def _raise(error: OSError) -> NoReturn:
    raise error
