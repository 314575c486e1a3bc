"""Look into an archive before TorchServe unpacks it: no path may lead out of its folder."""

import stat
import zipfile
from pathlib import Path, PurePosixPath

from feedback.delivery.release import Rejected

MOST_FILES = 10_000
MOST_BYTES = 8 * 2**30
"""Unpacked."""
_RECIPE, _MANIFEST = "recipe.json", "MAR-INF/MANIFEST.json"


def require_harmless(archive: Path) -> None:
    """Check the table of contents; nothing is unpacked.

    Raises:
        Rejected: it is not an archive, or holds a path out of its folder, a link, or too much.
    """
    try:
        with zipfile.ZipFile(archive) as contents:
            entries = contents.infolist()
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise Rejected(f"it is not an archive: {error}") from error
    for entry in entries:
        if _leads_out(entry):
            raise Rejected(f"it contains {entry.filename[:100]!r}, which leads out of its folder")
    if len(entries) > MOST_FILES or sum(entry.file_size for entry in entries) > MOST_BYTES:
        raise Rejected("it unpacks to more than is allowed")
    if missing := {_RECIPE, _MANIFEST} - {entry.filename for entry in entries}:
        raise Rejected(f"it does not contain {sorted(missing)[0]}")


def _leads_out(entry: zipfile.ZipInfo) -> bool:
    path = PurePosixPath(entry.filename)
    strange = path.is_absolute() or ".." in path.parts or any(mark in entry.filename for mark in "\\:\0")
    return strange or stat.S_ISLNK(entry.external_attr >> 16)
