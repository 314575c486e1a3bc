"""List the files of a folder that may be photos. Every command uses this rule.

Ignored are hidden files and folders (`.DS_Store`, `._photo.jpg`, unfinished downloads), what other programs leave
between photos (`Thumbs.db`, `desktop.ini`, .xml), tables, lists and notes (`_SUFFIXES`), and everything that is neither
a file nor a folder.
"""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from common.errors import InvalidInput
from dataset.tables import read_rows

_NAMES = {".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}
_SUFFIXES = {
    *(".csv", ".ods", ".parquet", ".tsv", ".xls", ".xlsm", ".xlsx"),
    *(".json", ".jsonl", ".toml", ".xml", ".yaml", ".yml"),
    *(".doc", ".docx", ".log", ".md", ".rst", ".rtf", ".txt"),
}


@dataclass(frozen=True)
class Listing:
    """The files of a folder that may be photos, sorted by path, and what was left out.

    `ignored` holds no hidden files but those that macOS leaves between photos.
    """

    files: list[Path] = field(default_factory=list)
    ignored: list[Path] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)

    def left_out(self) -> str:
        """What was left out, for a person: `3 Thumbs.db, 2 .xml, 1 link`; empty if nothing was."""
        kinds = Counter(_kind(path.name) for path in self.ignored)
        parts = [f"{count} {kind}" for kind, count in kinds.most_common()]
        if self.links:
            parts.append(f"{len(self.links)} link{'s' if len(self.links) > 1 else ''}")
        return ", ".join(parts)


def files_of(folder: Path, links: bool = False) -> list[Path]:
    """List the files of a folder and its subfolders that may be photos, sorted by path.

    Args:
        links: follow symbolic links to files and to folders; a folder that is reached twice is read once. Without
            them, no file outside the folder is read or moved.

    Raises:
        OSError: a folder cannot be listed.
        InvalidInput: with `links`, the target of a link does not exist.
    """
    return list_files(folder, links).files


def list_files(folder: Path, links: bool = False) -> Listing:
    """As `files_of`, with what was left out."""
    listing = Listing()
    for path in _walk(folder, links):
        if path.name.startswith(".") and not _kind(path.name):
            continue
        if path.is_symlink() and not links:
            listing.links.append(path)
        elif path.is_symlink() and not path.exists():
            raise InvalidInput(f"{path} is a link to {path.readlink()}, which does not exist", "remove the link")
        elif path.is_file() and _kind(path.name):
            listing.ignored.append(path)
        elif path.is_file():
            listing.files.append(path)
    listing.files.sort()
    return listing


def refused_by(audit: Path | None) -> frozenset[Path]:
    """The files (resolved) that the table of an audit does not call ok; none without a table.

    Raises:
        InvalidInput: it is not a table of `dataset audit`.
    """
    if audit is None:
        return frozenset()
    rows = read_rows(audit, ("path", "verdict"))
    return frozenset((audit.parent / row["path"]).resolve() for row in rows if row["verdict"] != "ok")


def composed(name: str) -> str:
    """A name in Unicode's composed form (NFC): macOS stores `é` as two characters, other systems as one."""
    return unicodedata.normalize("NFC", name)


def existing(path: Path) -> Path | None:
    """The file or folder at a path, even if its name on disk is composed differently; None if there is none."""
    if path.exists():
        return path
    if not (parent := existing(path.parent) if path.parent != path else None) or not parent.is_dir():
        return None
    name = composed(path.name)
    return next((other for other in sorted(parent.iterdir()) if composed(other.name) == name), None)


def _walk(root: Path, links: bool) -> Iterator[Path]:
    """The paths below a folder that are not folders; without `links`, links to folders are among them."""
    visited: set[str] = set()
    waiting = [root]
    for start in waiting:  # grows by the linked folders: the real ones come first, so that they keep their names
        if start is not root and _visited_or_around(os.path.realpath(start), visited, os.path.realpath(root)):
            continue
        for place, folders, names in os.walk(start, onerror=_raise):
            visited.add(os.path.realpath(place))
            inner = [Path(place, name) for name in sorted(folders) if not name.startswith(".")]
            linked = [path for path in inner if path.is_symlink()]
            folders[:] = [
                path.name for path in inner if not path.is_symlink() and os.path.realpath(path) not in visited
            ]
            yield from (Path(place, name) for name in names)
            if links:
                waiting += linked
            else:
                yield from linked


def _visited_or_around(target: str, visited: set[str], root: str) -> bool:
    """Whether a linked folder has been read already, or contains the folder that is listed."""
    return target in visited or os.path.commonpath((target, root)) == target


def _kind(name: str) -> str:
    """The kind of a file whose name shows that it is not a photo; an empty string for any other."""
    if name.startswith("._"):
        return "._*"
    if name.lower() in _NAMES:
        return name
    suffix = Path(name).suffix.lower()
    return suffix if suffix in _SUFFIXES else ""


def _raise(error: OSError) -> NoReturn:
    raise error
