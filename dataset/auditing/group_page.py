"""A page with the proposed groups as pictures: one HTML file without links to anything else."""

import base64
import html
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from common.files import write_whole, writing
from common.web.assets import STATIC
from common.words import number_of
from handler.errors import RequestError
from handler.image import open_photo
from handler.spec import Limits

MOST_PHOTOS = 12
"""Photos of a group that are shown."""
_SIDE = 200
_STYLE = """
main { padding-block: 1.5rem; display: grid; gap: 1.25rem; }
section { background: var(--sheet); border: 1px solid var(--line); border-radius: 1rem; padding: 1rem 1.25rem; }
h2 { font-size: 1rem; margin-bottom: .6rem; }
ul { list-style: none; padding: 0; display: grid; gap: .75rem; }
ul { grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); }
li img { width: 100%; height: 8rem; object-fit: contain; background: var(--stage); border-radius: .5rem; }
li span { display: block; color: var(--soft); font-size: .8rem; overflow-wrap: anywhere; }
"""


def write_page(out: Path, groups: Sequence[tuple[str, Sequence[tuple[str, Path]]]], lines: Sequence[str]) -> None:
    """Write the page, completely or not at all.

    Args:
        groups: (name of the group, its photos as (name, file)).
        lines: what to tell a person above them.

    Raises:
        CannotWrite: it cannot be written.
    """
    told = "".join(f"<p>{html.escape(line)}</p>" for line in lines)
    body = "".join(_section(name, photos) for name, photos in groups)
    style = (STATIC / "theme.css").read_text(encoding="utf-8") + _STYLE
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Proposed groups</title>'
        f"<style>{style}</style></head><body><main><h1>Proposed groups</h1>{told}{body}</main></body></html>\n"
    )
    with writing(out, "give another --out"):
        write_whole(out, page.encode("utf-8", "replace"))


def _section(name: str, photos: Sequence[tuple[str, Path]]) -> str:
    items = "".join(_item(*photo) for photo in photos[:MOST_PHOTOS])
    more = len(photos) - MOST_PHOTOS
    end = f"<p>and {more} more</p>" if more > 0 else ""
    return f"<section><h2>{html.escape(name)}: {number_of(len(photos), 'photo')}</h2><ul>{items}</ul>{end}</section>"


def _item(name: str, path: Path) -> str:
    label = html.escape(name)
    try:
        photo = open_photo(path.read_bytes(), Limits())
    except (OSError, RequestError):
        return f"<li><span>{label} (unreadable)</span></li>"
    photo.thumbnail((_SIDE, _SIDE))
    buffer = BytesIO()
    photo.convert("RGB").save(buffer, "JPEG", quality=75)
    data = base64.b64encode(buffer.getvalue()).decode()
    size = f'width="{photo.width}" height="{photo.height}"'
    return f'<li><img src="data:image/jpeg;base64,{data}" alt="" {size} loading="lazy"><span>{label}</span></li>'
