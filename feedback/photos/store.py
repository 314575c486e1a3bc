"""Where the uploaded photos lie: a folder, or object storage by URL (fsspec)."""

import re
import uuid
from typing import Any

import fsspec

from common.errors import InvalidInput, NotFound

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
            self._files, self._root = fsspec.core.url_to_fs(place)
        except (ValueError, ImportError) as error:
            raise InvalidInput(f"FEEDBACK_PHOTOS: {place}: {error}", "give a folder or a URL such as s3://") from error
        self._local = "file" in self._files.protocol

    def save(self, data: bytes, suffix: str) -> str:
        """Store a photo.

        Returns:
            its new key; it says nothing about the photo.

        Raises:
            OSError: it cannot be written.
        """
        name = uuid.uuid4().hex
        key = f"{name[:2]}/{name}{suffix}"
        path = self._path(key)
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
        """
        try:
            data: Any = self._files.cat_file(self._path(key))
        except FileNotFoundError as error:
            raise NotFound(f"there is no photo {key}") from error
        return bytes(data)

    def delete(self, key: str) -> bool:
        """Delete a photo; whether it was there."""
        try:
            self._files.rm_file(self._path(key))
        except FileNotFoundError:
            return False
        return True

    def _path(self, key: str) -> str:
        if not _KEY.fullmatch(key):  # the keys come from our database; this holds even if they do not
            raise NotFound(f"there is no photo {key!r}")
        return f"{self._root}/{key}"
