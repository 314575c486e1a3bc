"""Take photos that the service has captured (handler/capture) out of the spool and into the album."""

import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import SQLAlchemyError

from common.errors import UserError
from feedback.review.album import Album
from feedback.review.arrivals import Answered, Why
from handler.capture.spool import PARTIAL, SUFFIX
from handler.errors import RequestError
from handler.spec import Limits

POLL_S = 5.0
OLD_S = 3600.0
"""A file that is still incomplete after this time was left by a worker that died."""
_log = logging.getLogger(__name__)


class Captured(BaseModel):
    """The first line of a captured photo."""

    model_config = ConfigDict(extra="allow", frozen=True)

    reason: Annotated[str, Field(pattern="^(random|unsure|outside)$")]
    probability: Annotated[float, Field(gt=0, le=1)]
    model: str
    result: str
    confidence: float


def ingest(album: Album, spool: Path, limits: Limits) -> int:
    """Store all captured photos; each file is removed once its photo is stored.

    Returns:
        how many photos were stored. A file that is not a captured photo is removed as well.

    Raises:
        OSError: the album cannot be written; the files wait.
    """
    stored = 0
    for path in sorted(spool.glob(f"*{SUFFIX}")):
        try:
            _store(album, path, limits)
            stored += 1
        except (ValueError, RequestError) as error:
            _log.warning("%s is not a captured photo and was removed: %s", path.name, error)
        path.unlink(missing_ok=True)
    for path in spool.glob(f"*{PARTIAL}"):
        if time.time() - path.stat().st_mtime > OLD_S:
            path.unlink(missing_ok=True)
    return stored


def keep_ingesting(album: Album, spool: Path, limits: Callable[[], Limits], stop: threading.Event) -> None:
    """Until `stop` is set."""
    while not stop.wait(POLL_S):
        try:
            if any(spool.glob(f"*{SUFFIX}")):
                ingest(album, spool, limits())
        except (UserError, OSError, SQLAlchemyError) as error:
            _log.warning("captured photos wait in %s: %s", spool, error)


def _store(album: Album, path: Path, limits: Limits) -> None:
    """Store a captured photo, unless that was done and this was killed before the file was removed."""
    line, _, data = path.read_bytes().partition(b"\n")
    answer = json.loads(line)
    captured = Captured.model_validate(answer)
    answered = Answered(data, path.name, captured.model, answer, 0.0)
    if not album.has(data, path.name):
        album.add(answered, None, "", limits, Why(captured.reason, captured.probability))
