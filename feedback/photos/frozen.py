"""The hashes of the frozen test photos: an upload that shows the same is never learned from.

The hash of a photo finds re-encoded and rescaled copies, but few that are cropped and none that is mirrored. So each
frozen photo has the hashes of its own crops by up to 5 % and of its mirror image, too (docs/log.md has the recall).
"""

from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageOps

from common.errors import NotFound
from dataset.listing import files_of
from feedback.photos.hashing import phash

CROP = 0.05
_SIDE = 640
_CROPS = (
    (0, 0, 0, 0),
    *((share,) * 4 for share in (CROP / 2, CROP)),
    *((left, top, CROP - left, CROP - top) for left in (0, CROP) for top in (0, CROP)),
    *(tuple(CROP * (side == cut) for side in range(4)) for cut in range(4)),
)
"""Shares of the width or height that are cut off: left, top, right, bottom."""


def frozen_hashes(folder: Path | None) -> tuple[str, ...]:
    """Perceptual hashes of all photos in a folder and its subfolders, and of their crops and mirror images.

    Raises:
        NotFound: the folder does not exist or holds no photo.
    """
    if folder is None:
        return ()
    files = files_of(folder, links=True) if folder.is_dir() else []
    hashes = tuple(value for path in files for value in hashes_of(path))
    if not hashes:
        raise NotFound(f"{folder} has no photo", "give the folder of the frozen test photos with FEEDBACK_FROZEN")
    return hashes


def hashes_of(path: Path) -> tuple[str, ...]:
    """Perceptual hashes of a photo, of its crops and its mirror image; none of a file that is not a photo."""
    try:
        with Image.open(path) as photo:
            upright = ImageOps.exif_transpose(photo).convert("RGB")
    except Exception:  # a table or a damaged file: there is nothing to protect
        return ()
    return tuple(value for copy in copies_of(upright) if (value := phash(copy)))


def copies_of(photo: Image.Image) -> Iterator[Image.Image]:
    """The photo, its crops and its mirror image, at most 640 pixels wide and high."""
    small = photo.copy()
    small.thumbnail((_SIDE, _SIDE))
    width, height = small.size
    for left, top, right, bottom in _CROPS:
        far = round((1 - right) * width), round((1 - bottom) * height)
        yield small.crop((round(left * width), round(top * height), *far))
    yield ImageOps.mirror(small)
