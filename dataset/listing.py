"""List the files of a folder that may be photos. Every command uses this rule.

Ignored are hidden files and folders (`.DS_Store`, `._photo.jpg`, unfinished downloads), what other programs leave
between photos (`Thumbs.db`, `desktop.ini`, .xml), tables, lists and notes (`_SUFFIXES`), and everything that is neither
a file nor a folder.
"""

import os
import shlex
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NoReturn

from common.errors import InvalidInput

_EXAMPLES = 3
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
        InvalidInput: with `links`, the targets of links do not exist.
    """
    return list_files(folder, links).files


def list_files(folder: Path, links: bool = False) -> Listing:
    """As `files_of`, with what was left out."""
    listing, dead = Listing(), []
    for path in _walk(folder, links):
        if path.name.startswith(".") and not _kind(path.name):
            continue
        if path.is_symlink() and not links:
            listing.links.append(path)
        elif path.is_symlink() and not path.exists():
            dead.append(path)
        elif path.is_file() and _kind(path.name):
            listing.ignored.append(path)
        elif path.is_file():
            listing.files.append(path)
    if dead:
        raise _dead_links(folder, sorted(dead))
    listing.files.sort()
    return listing


def _dead_links(folder: Path, dead: Sequence[Path]) -> InvalidInput:
    if len(dead) == 1:
        return InvalidInput(f"{dead[0]} is a link to {dead[0].readlink()}, which does not exist", "remove the link")
    named = ", ".join(f"{path.relative_to(folder)} -> {path.readlink()}" for path in dead[:_EXAMPLES])
    more = " ..." if len(dead) > _EXAMPLES else ""
    fix = f"fetch the files, or remove the links; find {shlex.quote(str(folder))} -xtype l lists them"
    return InvalidInput(f"{folder} has {len(dead)} links to files that do not exist ({named}{more})", fix)


def composed(name: str) -> str:
    """A name in Unicode's composed form (NFC): macOS stores `é` as two characters, other systems as one."""
    return unicodedata.normalize("NFC", name)


def names_in(folder: Path) -> dict[str, Path]:
    """What is in a folder, by composed name."""
    return {composed(path.name): path for path in sorted(folder.iterdir(), reverse=True)}


def existing(path: Path, names: Callable[[Path], Mapping[str, Path]] = names_in) -> Path | None:
    """The file or folder at a path, even if its name on disk is composed differently; None if none can be opened.

    Args:
        names: `names_in`, cached for many paths of one folder.
    """
    try:
        if path.exists():
            return path
        if not (parent := existing(path.parent, names) if path.parent != path else None) or not parent.is_dir():
            return None
        found = names(parent).get(composed(path.name))
        return found if found and found.exists() else None  # a link to nothing is listed too
    except OSError:  # the name is too long, or the folder cannot be read: `problem_of_path` says so
        return None


def identity_in(base: Path) -> Callable[[str], str]:
    """A function that gives one spelling to every path of a file: the real path of its folder, and its name.

    Paths are relative to `base` or absolute. A link to a file is another file. Real paths of folders are cached.
    """
    real = cache(os.path.realpath)

    def identity(path: str) -> str:
        folder, name = os.path.split(base / path)
        return f"{real(folder)}/{name}"

    return identity


def listed_name(path: str) -> str:
    """The spelling of a relative path by which tables are compared: composed, with / and without `./`."""
    return composed(os.path.normpath(path.replace("\\", "/")))


def problem_of_path(path: Path, given: str) -> tuple[str, str]:
    """Why a path of a table is not a file, and what to write instead, if that is known; ("", "") if it is one.

    Args:
        path: the path inside the table's folder.
        given: the path as the table writes it.
    """
    try:
        if path.is_file():
            return "", ""
        if path.exists():
            return "this is a folder" if path.is_dir() else "this is not a regular file", "give the path of a photo"
        if path.is_symlink():
            return f"this is a link to {path.readlink()}, which does not exist", "fetch the file, or remove the row"
    except (OSError, ValueError) as error:
        return f"the file cannot be opened ({getattr(error, 'strerror', '') or error})", ""
    return "there is no such file", _advice(given)


def _advice(given: str) -> str:
    if given.startswith("~"):
        return "write the folder's name instead of ~"
    if given.lower().startswith("file:"):
        return "write the path without file://"
    if given != given.strip():
        return f"remove the blank at the {'start' if given[0].isspace() else 'end'} of the path"
    return "write / instead of \\" if "\\" in given else ""


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
