"""An archive that vanished from the store or was damaged there is brought back from its copy in `var/archives`."""

import zipfile
import zlib

from common.errors import UserError
from deploy.host.log import log
from deploy.settings import Settings
from deploy.store import desired
from deploy.store.contents import digests, identity
from deploy.store.desired import ServedVersion


def require_archive(settings: Settings, entry: ServedVersion) -> None:
    """Have a version's archive in the store as it was when it was first served; a damaged one is set aside.

    Raises:
        UserError: it is missing or damaged, and so is its copy.
    """
    mar = settings.store / entry.archive
    if is_whole(settings, entry):
        return
    what = "damaged" if mar.exists() else "missing"
    if mar.exists():
        mar.replace(mar.with_name(f"{mar.name}.damaged"))
    log(f"the archive is {what}: its copy takes its place", archive=entry.archive)
    try:
        put_back = desired.put_back(settings.var, entry.archive, settings.store) and is_whole(settings, entry)
    except OSError as error:
        raise UserError(f"{settings.store} cannot be written: {error.strerror}: make room there") from error
    if not put_back:
        raise UserError(f"{mar} is {what}, and there is no good copy: put it and its .json there again")


def is_whole(settings: Settings, entry: ServedVersion) -> bool:
    """Whether the archive in the store is the one that the manifest means."""
    try:
        return identity(digests(settings.store / entry.archive)) == entry.digest
    except (OSError, zipfile.BadZipFile, zlib.error, ValueError, NotImplementedError, EOFError):
        return False
