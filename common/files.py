"""Files and folders are written under a temporary name and renamed when complete: a crash leaves the former content."""

import fcntl
import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from common.errors import AlreadyExists, CannotWrite

_MAX_NAME = 255
_MAX_SUFFIX = 32


def write_whole(path: Path, data: bytes) -> None:
    """Write a file completely or not at all; creates its folder.

    Raises:
        OSError: it cannot be written; the former content of `path` is unchanged.
    """
    _replace(path, lambda file: file.write(data))


def copy_whole(source: Path, target: Path, keep_metadata: bool = False) -> None:
    """Copy a file completely or not at all; creates the target's folder.

    Args:
        keep_metadata: also copy the time of modification and the permissions.

    Raises:
        OSError: it cannot be read or written; the former content of `target` is unchanged.
    """
    with source.open("rb") as reading:
        _replace(target, lambda file: shutil.copyfileobj(reading, file), like=source if keep_metadata else None)


def write_json(path: Path, content: Any) -> None:
    """Write readable JSON, completely or not at all; lone surrogates in file names are escaped.

    Raises:
        OSError: it cannot be written; the former content of `path` is unchanged.
    """
    write_whole(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace"))


def legal_name(name: str) -> str:
    """A file name of at most 255 bytes, the limit of Linux.

    A longer one is cut at a character, and gets a checksum of the whole name, so that names stay distinct.
    """
    if len(os.fsencode(name)) <= _MAX_NAME:
        return name
    suffix = Path(name).suffix
    if len(os.fsencode(suffix)) > _MAX_SUFFIX:  # a dot in a long name, not a type of file
        suffix = ""
    stem = name.removesuffix(suffix)
    end = f"-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}{suffix}"
    while len(os.fsencode(stem + end)) > _MAX_NAME:
        stem = stem[:-1]
    return stem + end


def require_absent(path: Path) -> None:
    """Raises: AlreadyExists: there is something at `path`, which is a command's --out."""
    if os.path.lexists(path):
        raise AlreadyExists(f"{path} already exists", "remove it, or give another --out")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Create a folder that appears only when it is complete; after an error nothing is left.

    What a killed call for the same folder has left is removed first.

    Yields:
        a temporary folder next to `path` to fill; it becomes `path` when the block ends.

    Raises:
        AlreadyExists: `path` exists.
        CannotWrite: an OSError occurred in the block or while renaming.
    """
    require_absent(path)
    with writing(path, "free some disk space, or give another --out"):
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in _unfinished(path):
            with suppress(OSError), _locked(left):  # a running call holds its own
                _remove_folder(left)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=_temporary_prefix(path)) as work, ExitStack() as stack:
            with suppress(OSError):  # a file system without locks: nothing is removed there
                stack.enter_context(_locked(Path(work)))
            folder = Path(work) / "new"
            folder.mkdir()
            try:
                yield folder
            except CannotWrite as error:  # of a file in it: the temporary name says nothing to a person
                if not (error.path.is_relative_to(folder) and isinstance(error.error, OSError)):
                    raise
                raise error.error from error
            folder.rename(path)


def remove_unfinished(path: Path) -> None:
    """Remove what killed calls that write `path` have left; only one process may use `path` at a time."""
    for left in _unfinished(path):
        if left.is_file():
            left.unlink(missing_ok=True)
        else:
            _remove_folder(left)


def _unfinished(path: Path) -> Iterator[Path]:
    return path.parent.glob(f"{glob.escape(_temporary_prefix(path))}????????")


def _remove_folder(left: Path) -> None:
    """Remove a temporary folder of `new_folder`; nothing else."""
    if left.is_dir() and {entry.name for entry in left.iterdir()} <= {"new"}:
        shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder. Raises: OSError: another process holds it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


@contextmanager
def writing(path: Path | str, fix: str = "free some disk space and try again") -> Iterator[None]:
    """Turn an OSError inside the block into a CannotWrite that names `path` and the fix."""
    try:
        yield
    except OSError as error:
        raise CannotWrite(path, error, fix) from error


def _temporary_prefix(path: Path) -> str:
    """Hidden, and short enough that the random suffix never exceeds the longest legal name (255 bytes)."""
    return f".{path.name[:50]}."


def _replace(path: Path, fill: Callable[[BinaryIO], object], like: Path | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=_temporary_prefix(path))
    try:
        with os.fdopen(handle, "wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        if like:
            shutil.copystat(like, name)
        else:
            Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
