"""The hashes of the frozen test photos: an upload that shows the same is never learned from."""

from pathlib import Path

from PIL import Image, ImageOps

from common.errors import NotFound
from dataset.listing import files_of
from feedback.photos.hashing import phash


def frozen_hashes(folder: Path | None) -> tuple[str, ...]:
    """Perceptual hashes of all photos in a folder and its subfolders.

    Raises:
        NotFound: the folder does not exist or holds no photo.
    """
    if folder is None:
        return ()
    files = files_of(folder, links=True) if folder.is_dir() else []
    hashes = tuple(value for path in files if (value := _hash(path)))
    if not hashes:
        raise NotFound(f"{folder} has no photo", "give the folder of the frozen test photos with FEEDBACK_FROZEN")
    return hashes


def _hash(path: Path) -> str:
    try:
        with Image.open(path) as photo:
            return phash(ImageOps.exif_transpose(photo).convert("RGB"))
    except Exception:  # a table or a damaged file: it is no photo to protect
        return ""
