"""One file -> what can be said of it, and many files at once.

A file is decoded whole by `handler.image.open_photo`, with the recipe's limits: what is `ok` here is exactly what
serving takes. Each file is read in a process of its own pool, so that a decoder that crashes or runs out
of memory costs one verdict and not the run.

What cannot be seen: libjpeg decodes most flipped bits of a JPEG to wrong colours without an error, and so does
Pillow for BMP, uncompressed TIFF and JPEG 2000; serving takes those too.
"""

import hashlib
import multiprocessing
import os
import signal
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import imagehash
import numpy as np
from PIL import ExifTags, Image

from dataset.auditing.truncation import cut_short
from handler.errors import RequestError
from handler.image import FORMATS, open_photo
from handler.spec import Limits

HASH_SIDE = 12
"""phash of 12 x 12 = 144 bits, 36 hexadecimal digits; why 12: see `dataset.auditing.duplicates`."""

MIN_SIDE = 64
"""Pixels of the shorter side: the smallest input of our recipes; below it a photo is all interpolation."""

# Standard deviation in grey levels: the flattest real photo we have has 11; below 2 a hash is of noise alone.
_BLANK = 2.0
_AHEAD = 4  # files a worker: enough that none waits, few enough that memory stays flat
_VERDICTS = {
    "unsupported_format": "not_a_photo",
    "animated_image": "not_a_photo",
    "image_too_large": "too_large",
    "too_many_pixels": "too_large",
    "empty_image": "truncated",
}
_OTHERS = (
    (b"GIF8", "GIF"),
    (b"%PDF", "PDF"),
    (b"PK\3\4", "ZIP"),
    (b"\x1aE\xdf\xa3", "WebM"),
    (b"<!doctype html", "HTML"),
    (b"<html", "HTML"),
    (b"version https://git-lfs", "Git LFS pointer"),
)


@dataclass(frozen=True)
class Facts:
    """What was found: columns of the audit's table. `width` and `height` are upright (EXIF), 0 where unknown.

    `format` and `mode` are as stored. `phash` is empty where nothing was decoded and where the picture is blank.
    """

    verdict: str
    reason: str = ""
    format: str = ""
    mode: str = ""
    width: int = 0
    height: int = 0
    bytes: int = 0
    sha256: str = ""
    phash: str = ""


def inspect_photo(path: Path, limits: Limits, min_side: int = MIN_SIDE) -> Facts:
    """Read, hash and decode one file; a fault of the file is a verdict, never an error."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
            file.seek(0)
            data = file.read(limits.bytes + 1)  # one more: `open_photo` refuses it, and memory stays flat
    except OSError as error:
        return Facts("corrupt", f"it cannot be read: {error.strerror}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a broken EXIF block, a picture between Pillow's limit and ours
        facts = replace(_header(path, data), bytes=size, sha256=digest)
        try:
            photo = open_photo(data, limits)
        except RequestError as error:
            return _refused(facts, data, error)
    facts = replace(facts, width=photo.width, height=photo.height, phash=hash_photo(photo))
    if min(photo.size) < min_side:
        return replace(facts, verdict="too_small", reason=f"its shorter side has less than {min_side} pixels")
    return facts


def hash_photo(photo: Image.Image) -> str:
    """Perceptual hash (DCT of a thumbnail, Zauner 2010, by ImageHash) in hexadecimal; empty for a blank picture."""
    # ImageHash's own first step, done here so that blank pictures are told by the same thumbnail.
    thumbnail = photo.convert("L").resize((4 * HASH_SIDE, 4 * HASH_SIDE), Image.Resampling.LANCZOS)
    if float(np.asarray(thumbnail).std()) < _BLANK:
        return ""
    return str(imagehash.phash(thumbnail, hash_size=HASH_SIDE))


def upright_size(photo: Image.Image) -> tuple[int, int]:
    """Width and height as a viewer shows the picture, from the header alone."""
    try:
        # Not photo.getexif(): for a PNG without EXIF that decodes the whole file.
        turned = Image.Image.getexif(photo).get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
    except Exception:  # a broken EXIF block: shown as it lies
        turned = False
    return (photo.height, photo.width) if turned else photo.size


def inspect_all(
    paths: Sequence[Path], inspect: Callable[[Path], Facts], workers: int | None = None
) -> Iterator[tuple[int, Facts]]:
    """Inspect files on all cores.

    Args:
        inspect: a function of a module, or a partial of one: it travels to other processes.

    Yields:
        (index of the path, its facts), as they come. A file that killed its process is `corrupt`.
    """
    todo = deque(range(len(paths)))
    workers = min(workers or os.cpu_count() or 1, max(1, len(paths)))
    while todo:
        lost = yield from _until_broken(paths, todo, inspect, workers)
        for index in lost:
            alone = deque([index])
            if (yield from _until_broken(paths, alone, inspect, 1)):
                yield index, Facts("corrupt", "reading it killed the process: a decoder crashed, or memory ran out")


def inspector(limits: Limits, min_side: int = MIN_SIDE) -> Callable[[Path], Facts]:
    """`inspect_photo` with its limits, as `inspect_all` takes it."""
    return partial(inspect_photo, limits=limits, min_side=min_side)


def _until_broken(
    paths: Sequence[Path], todo: deque[int], inspect: Callable[[Path], Facts], workers: int
) -> Generator[tuple[int, Facts], None, list[int]]:
    """Take from `todo` until it is empty, or a process died; returns those that were in its hands then."""
    running: dict[Future[Facts], int] = {}
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_prepare)
    try:
        while todo or running:
            while todo and len(running) < _AHEAD * workers:
                running[pool.submit(inspect, paths[todo[0]])] = todo[0]
                todo.popleft()
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                facts = future.result()
                yield running.pop(future), facts
    except BrokenProcessPool:
        pass
    finally:
        pool.shutdown(cancel_futures=True)
    return sorted(running.values())


def _prepare() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff writes to stderr by itself
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    """A parent that is killed (-9) cannot stop its pool."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _header(path: Path, data: bytes) -> Facts:
    try:
        with Image.open(path) as photo:
            width, height = upright_size(photo)
            return Facts("ok", "", photo.format or "", photo.mode, width, height)
    except Exception:  # Pillow raises nearly every built-in exception on what is no picture
        return Facts("ok", "", _other(data))


def _other(data: bytes) -> str:
    """What a file that Pillow does not know is, by its first bytes."""
    if data[4:8] == b"ftyp":
        return "HEIC" if data[8:12] in (b"heic", b"heix", b"mif1", b"msf1") else "MP4"
    start = data[:64].lstrip().lower()
    return next((name for magic, name in _OTHERS if start.startswith(magic.lower())), "")


def _refused(facts: Facts, data: bytes, error: RequestError) -> Facts:
    known = facts.format in (*FORMATS, "MPO")
    if error.code == "unsupported_format" and not known:
        return replace(facts, verdict="not_a_photo", reason=f"{facts.format or 'an unknown kind of file'}: {error}")
    if error.code == "image_too_large" and not known:
        return replace(facts, verdict="not_a_photo", reason=f"{facts.format or 'unknown'}, {facts.bytes} bytes")
    if error.code != "corrupt_image":
        return replace(facts, verdict=_VERDICTS[error.code], reason=error.message)
    if cut_short(data):
        return replace(facts, verdict="truncated", reason="the file ends before its picture does: fetch it again")
    return replace(facts, verdict="corrupt", reason=_damage(error))


def _damage(error: RequestError) -> str:
    cause = "" if error.__cause__ is None else " ".join(str(error.__cause__).split())
    if not cause or "object at 0x" in cause:
        return error.message
    return f"damaged inside: {cause}"
