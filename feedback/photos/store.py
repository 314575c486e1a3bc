"""Where the uploaded photos lie: a folder, or object storage by URL (fsspec)."""

import re
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import fsspec

from common.errors import InvalidInput, NotFound, Unreachable, UserError

STRAY = timedelta(hours=1)
"""A file without a row was left by an upload that was killed, if it is older than this."""
_KEY = re.compile(r"[0-9a-f]{2}/[0-9a-f]{32}\.(jpg|png|webp)", re.ASCII)


class PhotoStore:
    """Photos by key. A photo appears under its key only when it is complete.

    Args:
        place: a folder, or a URL such as s3://bucket/prefix.

    Raises:
        InvalidInput: the URL's kind is unknown, or its package is missing.
    """

    def __init__(self, place: str) -> None:
        try:
            self._files, root = fsspec.core.url_to_fs(place)
        except (ValueError, ImportError) as error:
            raise InvalidInput(f"FEEDBACK_PHOTOS: {place}: {error}", "give a folder or a URL such as s3://") from error
        self._root = root.rstrip("/")
        self._local = "file" in self._files.protocol

    def save(self, data: bytes, suffix: str) -> str:
        """Store a photo.

        Returns:
            its new key; it says nothing about the photo.

        Raises:
            OSError: it cannot be written.
            Unreachable: the object storage does not answer.
        """
        name = uuid.uuid4().hex
        key = f"{name[:2]}/{name}{suffix}"
        path = self._path(key)
        with self._answering():
            if not self._local:
                self._files.pipe_file(path, data)
                return key
            self._files.makedirs(self._files._parent(path), exist_ok=True)
            self._files.pipe_file(f"{path}.partial", data)
            self._files.mv(f"{path}.partial", path)
        return key

    def read(self, key: str) -> bytes:
        """The bytes of a photo.

        Raises:
            NotFound: there is none with this key.
            Unreachable: the object storage does not answer.
        """
        try:
            with self._answering():
                data: Any = self._files.cat_file(self._path(key))
        except FileNotFoundError as error:
            raise NotFound(f"there is no photo {key}") from error
        return bytes(data)

    def delete(self, key: str) -> bool:
        """Delete a photo; whether it was there.

        Raises:
            Unreachable: the object storage does not answer.
        """
        path = self._path(key)
        with self._answering():
            self._files.invalidate_cache()
            if not self._files.exists(path):  # object storage deletes what is missing without an error
                return False
            try:
                self._files.rm_file(path)
            except FileNotFoundError:
                return False
        return True

    def remove_others(self, keys: Collection[str]) -> int:
        """Remove files that are older than STRAY and none of the photos with these keys; how many."""
        removed, oldest = 0, datetime.now(UTC) - STRAY
        with self._answering():
            self._files.invalidate_cache()
            for path, facts in self._files.find(self._root, detail=True).items():
                if path.removeprefix(f"{self._root}/") not in keys and _written(facts) < oldest:
                    self._files.rm_file(path)
                    removed += 1
        return removed

    def _path(self, key: str) -> str:
        if not _KEY.fullmatch(key):  # the keys come from our database; this holds even if they do not
            raise NotFound(f"there is no photo {key!r}")
        return f"{self._root}/{key}"

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Turn what a client of object storage raises, which is not an OSError, into an Unreachable."""
        try:
            yield
        except (OSError, UserError):
            raise
        except Exception as error:
            if self._local:
                raise
            fix = "check FEEDBACK_PHOTOS and the storage"
            raise Unreachable(
                f"the photo storage does not answer: {' '.join(str(error).split())[:200]}", fix
            ) from error


def _written(facts: dict[str, Any]) -> datetime:
    """When a file was written; the newest time possible where its storage does not say."""
    when = facts.get("mtime", facts.get("LastModified", facts.get("created")))
    if isinstance(when, int | float):
        return datetime.fromtimestamp(when, UTC)
    return when.astimezone(UTC) if isinstance(when, datetime) else datetime.max.replace(tzinfo=UTC)
