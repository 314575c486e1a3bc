"""Put an archive where the serving machine downloads it: into object storage, if that is where it is published."""

from pathlib import Path

import fsspec

from common.errors import Unreachable
from feedback.delivery.release import SUFFIX

PREFIX = "s3://"


def upload(archive: Path, place: str) -> None:
    """Upload a signed archive; nothing to do for a place that is not object storage. It can be repeated.

    Args:
        place: s3://bucket/prefix, or the URL of a program that serves the archive's folder.

    Raises:
        Unreachable: the storage does not answer or refuses it.
    """
    if not place.startswith(PREFIX):
        return
    try:
        files, root = fsspec.core.url_to_fs(place.rstrip("/"))
        for path in (archive, archive.with_suffix(".json"), archive.with_name(archive.name + SUFFIX)):
            files.put_file(str(path), f"{root}/{path.name}")
    except Exception as error:  # clients of object storage raise what they like
        fix = "check --publish and the storage, then run the same command again"
        raise Unreachable(f"{place} cannot be written: {' '.join(str(error).split())[:200]}", fix) from error
