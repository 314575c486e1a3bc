"""Fetch and publish folders in object storage or on this machine. Output folders appear atomically.

A URL is a local folder, `s3://BUCKET/KEY`, or any other that fsspec supports; `obs://` is read as `s3://`, because
that service supports S3's protocol. `AWS_ENDPOINT_URL` in the environment names a server other than Amazon's; keys
and region come from the environment or from `~/.aws`, as for every S3 client.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec

from common.errors import NotFound, Unreachable, UserError

SUCCESS = "_SUCCESS"
AT_ONCE = 64
"""Files per call; a line of progress follows each call."""

Tell = Callable[[str], None]


@contextlib.contextmanager
def copying(verb: str, url: str) -> Iterator[None]:
    """Turn every error of a file system into one line that names the URL.

    Raises:
        Unreachable: in place of any exception; each file system has its own.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        fix = "check the URL, AWS_ENDPOINT_URL and the access keys, and run it again"
        raise Unreachable(f"{url} cannot be {verb}: {reason}", fix) from error


def file_system(url: str) -> tuple[Any, str]:
    """The file system of a URL and the path in it, without cached listings."""
    name, _, rest = url.partition("://")
    s3 = rest and name in ("s3", "obs")
    options = {"endpoint_url": os.environ.get("AWS_ENDPOINT_URL")} if s3 else {}
    fs, path = fsspec.url_to_fs(f"s3://{rest}" if s3 else url, **options)
    fs.invalidate_cache()
    return fs, str(path).rstrip("/")


def fetch(url: str, folder: Path, select: Callable[[str], bool], tell: Tell) -> int:
    """Copy the files below a URL into a folder; files of the same size that are not older are kept.

    Each file appears when it is complete. Files that are no longer below the URL are removed from the folder.

    Args:
        select: whether to copy a file, given its path below the URL.

    Returns:
        the number of files.

    Raises:
        UserError: the URL cannot be read, or has no selected file.
    """
    with copying("read", url):
        fs, base = file_system(url)
        rows = {name: row for name, row in _below(fs, base).items() if select(name)}
        if not rows:
            raise NotFound(f"{url} has nothing to train on", "put train/LABEL and val/LABEL there")
        _remove_others(folder, set(rows))
        missing = [name for name, row in rows.items() if not _same(folder / name, row)]
        for start in range(0, len(missing), AT_ONCE):
            some = missing[start : start + AT_ONCE]
            parts = [_partial(folder / name) for name in some]
            fs.get([rows[name]["name"] for name in some], [str(part) for part in parts])
            for name, part in zip(some, parts, strict=True):
                part.replace(folder / name)
            tell(f"fetched {start + len(some)} of {len(missing)} files")
    return len(rows)


def publish(folder: Path, url: str, tell: Tell) -> None:
    """Replace the content of a URL by a folder.

    A local folder is written under a temporary name and renamed. Object storage cannot rename: there the files are
    copied to URL.partial/ and from there to URL, and `_SUCCESS` with every file's size and SHA-256 comes last: a folder
    without it is incomplete.

    Raises:
        Unreachable: the URL cannot be written. The former content remains, unless copying to URL failed; then there
            is no `_SUCCESS`.
    """
    with copying("written", url):
        fs, target = file_system(url)
        (_publish_locally if "file" in _protocols(fs) else _publish_remotely)(fs, folder, target)
    tell(f"wrote {url}")


def join(url: str, name: str) -> str:
    """A URL below another."""
    return f"{url.rstrip('/')}/{name}"


def _publish_locally(fs: Any, folder: Path, target: str) -> None:
    path = Path(target)
    partial, before = path.with_name(f".{path.name}.partial"), path.with_name(f".{path.name}.before")
    path.parent.mkdir(parents=True, exist_ok=True)
    if before.exists() and not path.exists():  # killed between the two renames
        before.rename(path)
    for old in (partial, before):
        shutil.rmtree(old, ignore_errors=True)
    try:
        shutil.copytree(folder, partial)
        if path.exists():
            path.rename(before)
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(before, ignore_errors=True)


def _publish_remotely(fs: Any, folder: Path, target: str) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [path.relative_to(folder).as_posix() for path in files]
    stage = f"{target}.partial"
    try:
        fs.put([str(path) for path in files], [f"{stage}/{name}" for name in names])
        if fs.exists(f"{target}/{SUCCESS}"):
            fs.rm_file(f"{target}/{SUCCESS}")
        for name in names:
            fs.cp_file(f"{stage}/{name}", f"{target}/{name}")
        stale = set(_below(fs, target)) - set(names)
        for name in stale:
            fs.rm_file(f"{target}/{name}")
        sizes = {name: _checksum(path) for name, path in zip(names, files, strict=True)}
        fs.pipe_file(f"{target}/{SUCCESS}", json.dumps(sizes, indent=1).encode())
    finally:
        with contextlib.suppress(Exception):  # an earlier error is the one to report
            fs.rm(stage, recursive=True)


def _checksum(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _below(fs: Any, base: str) -> dict[str, dict[str, Any]]:
    """The file system's records of the files below a folder, by path; hidden files are ignored."""
    files = {}
    fs.invalidate_cache()
    for path, row in sorted(fs.find(base, detail=True).items()):
        name = path.removeprefix(base).lstrip("/")
        if row["type"] == "file" and name and not any(part.startswith(".") for part in name.split("/")):
            files[name] = row
    return files


def _same(path: Path, row: dict[str, Any]) -> bool:
    """Whether the local copy has the size of the file and, if the server gives a time, is not older.

    The size suffices because fetched files appear only when they are complete.
    """
    if not path.is_file() or path.stat().st_size != row["size"]:
        return False
    modified = row.get("LastModified") or row.get("mtime") or 0
    return bool((modified if isinstance(modified, int | float) else modified.timestamp()) <= path.stat().st_mtime)


def _partial(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.partial")


def _remove_others(folder: Path, names: set[str]) -> None:
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        if path.relative_to(folder).as_posix() not in names:
            path.unlink()


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)
