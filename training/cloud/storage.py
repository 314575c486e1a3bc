"""Folders in object storage, or here: fetched, and published so that nobody finds half of one.

A URL is a local folder, `s3://BUCKET/KEY`, or whatever else fsspec knows. `obs://` is asked as `s3://`: that service
speaks S3. Where the server is not Amazon's, `AWS_ENDPOINT_URL` in the environment says where it is; keys and region are
read from the environment or from `~/.aws`, as every S3 client reads them.
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

from common.errors import UserError

SUCCESS = "_SUCCESS"
AT_ONCE = 64
"""Files copied in one call; a line of progress after each."""

Tell = Callable[[str], None]


@contextlib.contextmanager
def copying(verb: str, url: str) -> Iterator[None]:
    """Turn whatever a file system raises into one line that names the URL.

    Raises:
        UserError: in place of any Exception: each file system has its libraries' own.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"{url} cannot be {verb}: {reason}: check the URL, AWS_ENDPOINT_URL and the access keys, and run it again"
        ) from error


def file_system(url: str) -> tuple[Any, str]:
    """The file system of a URL and the path in it, asked anew: what others wrote meanwhile is seen."""
    name, _, rest = url.partition("://")
    s3 = rest and name in ("s3", "obs")
    options = {"endpoint_url": os.environ.get("AWS_ENDPOINT_URL")} if s3 else {}
    fs, path = fsspec.url_to_fs(f"s3://{rest}" if s3 else url, **options)
    fs.invalidate_cache()
    return fs, str(path).rstrip("/")


def fetch(url: str, folder: Path, wanted: Callable[[str], bool], tell: Tell) -> int:
    """Copy the files below a URL into a folder; those that are there in the same size are left.

    Each file appears when it is whole. Files that are no longer below the URL are removed from the folder.

    Args:
        wanted: takes a file's path below the URL.

    Returns:
        how many files there are.

    Raises:
        UserError: naming the URL.
    """
    with copying("read", url):
        fs, base = file_system(url)
        rows = {name: row for name, row in _below(fs, base).items() if wanted(name)}
        if not rows:
            raise UserError(f"{url} has nothing to train on: put train/LABEL and val/LABEL there")
        _remove_others(folder, set(rows))
        missing = [name for name, row in rows.items() if not _same(folder / name, row)]
        for start in range(0, len(missing), AT_ONCE):
            some = missing[start : start + AT_ONCE]
            parts = [_beside(folder / name) for name in some]
            fs.get([rows[name]["name"] for name in some], [str(part) for part in parts])
            for name, part in zip(some, parts, strict=True):
                part.replace(folder / name)
            tell(f"fetched {start + len(some)} of {len(missing)} files")
    return len(rows)


def publish(folder: Path, url: str, tell: Tell) -> None:
    """Copy a folder to a URL, in place of what is there.

    A local folder is written beside and renamed. In object storage, where nothing can be renamed, the files are
    copied to URL.partial/ and from there, and the last is `_SUCCESS` with every file's size and SHA-256: what has none
    is not complete.

    Raises:
        UserError: naming the URL. What was there before is there still, unless the last step failed; then
            there is no `_SUCCESS`.
    """
    with copying("written", url):
        fs, target = file_system(url)
        (_publish_here if "file" in _protocols(fs) else _publish_there)(fs, folder, target)
    tell(f"wrote {url}")


def join(url: str, name: str) -> str:
    """A URL below another."""
    return f"{url.rstrip('/')}/{name}"


def _publish_here(fs: Any, folder: Path, target: str) -> None:
    place = Path(target)
    beside, before = place.with_name(f".{place.name}.partial"), place.with_name(f".{place.name}.before")
    place.parent.mkdir(parents=True, exist_ok=True)
    if before.exists() and not place.exists():  # killed between the two renames
        before.rename(place)
    for old in (beside, before):
        shutil.rmtree(old, ignore_errors=True)
    try:
        shutil.copytree(folder, beside)
        if place.exists():
            place.rename(before)
        beside.rename(place)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    shutil.rmtree(before, ignore_errors=True)


def _publish_there(fs: Any, folder: Path, target: str) -> None:
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
        told = {name: _told(path) for name, path in zip(names, files, strict=True)}
        fs.pipe_file(f"{target}/{SUCCESS}", json.dumps(told, indent=1).encode())
    finally:
        with contextlib.suppress(Exception):  # what went wrong before is what must be told
            fs.rm(stage, recursive=True)


def _told(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _below(fs: Any, base: str) -> dict[str, dict[str, Any]]:
    """Path below a folder -> what the file system says of the file; hidden files are passed over."""
    found = {}
    fs.invalidate_cache()
    for path, row in sorted(fs.find(base, detail=True).items()):
        name = path.removeprefix(base).lstrip("/")
        if row["type"] == "file" and name and not any(part.startswith(".") for part in name.split("/")):
            found[name] = row
    return found


def _same(path: Path, row: dict[str, Any]) -> bool:
    """Fetched names are never half written, so that the size tells; where a server gives a time, a later one too."""
    if not path.is_file() or path.stat().st_size != row["size"]:
        return False
    changed = row.get("LastModified") or row.get("mtime") or 0
    return bool((changed if isinstance(changed, int | float) else changed.timestamp()) <= path.stat().st_mtime)


def _beside(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.partial")


def _remove_others(folder: Path, names: set[str]) -> None:
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        if path.relative_to(folder).as_posix() not in names:
            path.unlink()


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)
