"""Remove photos for good: rows, opinions and files.

    python -m feedback forget --image-id 12
    python -m feedback forget --expired

An image id is the number of a result page or the name that the photo had when it was uploaded. Copies in the snapshots
of the nights on this machine (--work) are removed too; a training machine removes its copies at its next night. The
rows go last, so that the same command can be repeated if it was killed. --expired also removes the files that killed
uploads have left: no row refers to them.
"""

from functools import partial
from operator import eq
from pathlib import Path

import click
from sqlalchemy import select

from common.cli import command
from common.console import say
from common.errors import InvalidInput, NotFound
from common.words import number_of
from feedback.learning import snapshot as snapshots
from feedback.review.album import Album
from feedback.settings import read_settings
from feedback.storage.tables import Upload
from feedback.web.app import open_site


@command(epilog="Example: python -m feedback forget --image-id 12")
@click.option("--image-id", help="Number of a result page, or name of the uploaded file.")
@click.option("--expired", is_flag=True, help="Remove every photo whose time is over (FEEDBACK_KEEP_DAYS).")
@click.option("--work", default=Path("runs/nightly"), show_default=True, type=click.Path(path_type=Path))
def forget(image_id: str | None, expired: bool, work: Path) -> None:
    """Remove photos, their uploads and opinions."""
    if expired == (image_id is not None):
        raise InvalidInput("give either --image-id or --expired")
    album = open_site(read_settings()).album
    photos = album.expired() if expired else _named(album, image_id or "")
    for photo in photos:
        copies = snapshots.remove(work, partial(eq, photo), partial(eq, album.file_of(photo)))
        say(f"{album.forget(photo)}, {number_of(len(copies), 'copy', 'copies')} in {work}")
    if not photos:
        say("no photo has expired")
    if expired and (strays := album.remove_strays()):
        say(f"removed {number_of(strays, 'file')} of killed uploads")


def _named(album: Album, image_id: str) -> list[int]:
    """The photos of an image id. Raises: NotFound: there is none."""
    number = int(image_id) if image_id.isdecimal() and len(image_id) < 10 else -1
    query = select(Upload.photo_id).where((Upload.id == number) | (Upload.name == image_id)).distinct()
    with album.database.begin() as session:
        found = list(session.scalars(query))
    if not found:
        raise NotFound(f"there is no photo with image id {image_id}", "give the number of its result page")
    return found
