"""Copies of the served archives in `var/archives`: one that vanishes from the store, or is damaged, is restored."""

from collections.abc import Iterable
from pathlib import Path

from common.errors import NotFound
from common.files import copy_whole, writing
from deploy.host.log import log
from deploy.settings import Settings
from deploy.store.desired import ServedVersion
from deploy.store.mar import is_intact

FOLDER = "archives"


def keep_copy(var: Path, mar: Path) -> None:
    """Copy an archive and its manifest.

    Raises:
        OSError: the disk is full.
    """
    _copy(mar, var / FOLDER)


def put_back(var: Path, archive: str, store: Path) -> bool:
    """Restore an archive and its manifest from their copies; False where there is no copy.

    Raises:
        OSError: the store cannot be written.
    """
    copy = var / FOLDER / archive
    if not copy.is_file():
        return False
    _copy(copy, store)
    return True


def drop_copies(var: Path, entries: Iterable[ServedVersion]) -> None:
    """Remove the copies of archives that need not be served any more."""
    needed = {Path(entry.archive).stem for entry in entries}
    for path in (var / FOLDER).glob("*"):
        if path.name.startswith(".") or path.stem not in needed:
            path.unlink(missing_ok=True)


def require_archive(settings: Settings, entry: ServedVersion) -> None:
    """Restore the archive of a version if it is missing or damaged; a damaged one is renamed to *.damaged.

    Raises:
        CannotWrite: the store cannot be written.
        NotFound: there is no intact copy.
    """
    mar = settings.store / entry.archive
    if is_intact(mar, entry.digest):
        return
    state = "damaged" if mar.exists() else "missing"
    if mar.exists():
        mar.replace(mar.with_name(f"{mar.name}.damaged"))
    log(f"the archive is {state}: restoring its copy", archive=entry.archive)
    with writing(settings.store):
        restored = put_back(settings.var, entry.archive, settings.store)
    if not (restored and is_intact(mar, entry.digest)):
        raise NotFound(f"{mar} is {state}, and there is no good copy", "put it and its .json there again")


def _copy(mar: Path, folder: Path) -> None:
    for path in (mar.with_suffix(".json"), mar):
        copy_whole(path, folder / path.name)
