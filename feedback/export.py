"""Write the agreed photos as label folders, which `training train --data` and `--extra` read.

    python -m feedback export runs/agreed

writes OUT/LABEL/ID.jpg and OUT/SOURCES.tsv with who uploaded each photo (a number) and its chain of near duplicates, so
that a split keeps them together. It reads the database and the photo store of this machine; `nightly` does the same
over HTTP.
"""

from pathlib import Path

import click

from common.cli import command
from common.console import say
from common.errors import NotFound
from common.files import new_folder, write_whole
from common.words import number_of
from dataset.photos import TABLE
from dataset.tables import Row, write_rows
from feedback.settings import read_settings
from feedback.web.app import open_site

COLUMNS = ("path", "source", "group", "sha256", "agreed_at")
PAGE = 1000


@command(epilog="Example: python -m feedback export runs/agreed")
@click.argument("out", type=click.Path(path_type=Path))
def export(out: Path) -> None:
    """Write the agreed photos to the new folder OUT."""
    site, rows, after = open_site(read_settings()), list[Row](), 0
    with new_folder(out) as folder:
        while page := site.album.agreed(after, PAGE):
            for photo, uploader in page:
                path = f"{photo.agreed}/{photo.id}{Path(photo.key).suffix}"
                write_whole(folder / path, site.album.store.read(photo.key))
                agreed_at = photo.agreed_at.isoformat() if photo.agreed_at else ""
                row = {"path": path, "source": f"uploader-{uploader}", "group": f"chain-{photo.chain}"}
                rows.append({**row, "sha256": photo.sha256, "agreed_at": agreed_at})
            after = page[-1][0].id
        if not rows:
            raise NotFound("no photo has an agreed label yet", "a second person has to review first (the page Review)")
        write_rows(folder / TABLE, COLUMNS, rows)
    say(f"{out}: {number_of(len(rows), 'photo')}")
