"""Files are written whole: under a temporary name first, then renamed, so that a crash leaves the former content."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from common.errors import CannotWrite


def write_whole(path: Path, data: bytes) -> None:
    """Write a file completely or not at all; creates its folder.

    Raises:
        OSError: it cannot be written; the former content of `path` is unchanged.
    """
    _replace(path, lambda file: file.write(data))


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file completely or not at all; creates the target's folder.

    Raises:
        OSError: it cannot be read or written; the former content of `target` is unchanged.
    """
    with source.open("rb") as reading:
        _replace(target, lambda file: shutil.copyfileobj(reading, file))


def write_json(path: Path, content: Any) -> None:
    """Write readable JSON, completely or not at all; lone surrogates in file names are escaped.

    Raises:
        OSError: it cannot be written; the former content of `path` is unchanged.
    """
    write_whole(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace"))


@contextmanager
def writing(path: Path | str, fix: str = "free some disk space and try again") -> Iterator[None]:
    """Turn an OSError inside the block into a CannotWrite that names `path` and the fix."""
    try:
        yield
    except OSError as error:
        raise CannotWrite(path, error, fix) from error


def _replace(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
