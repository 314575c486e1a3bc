"""Inspect files: decode each completely and report its verdict, size and hashes; many files in parallel.

A file is decoded by `handler.image.open_photo` with the recipe's limits, and an uncommon one first by a process with
limits on time and memory (`handler.decoders`), so `ok` means exactly that serving accepts it.
Worker processes do the decoding: a decoder that crashes or exhausts the memory costs one verdict, not the run.

Limitation: libjpeg decodes most flipped bits of a JPEG to wrong colours without an error, as BMP, uncompressed TIFF and
JPEG 2000 do. Serving accepts such files too.
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
from functools import cache, partial
from io import BytesIO
from pathlib import Path

from PIL import ExifTags, Image

from common.errors import UserError
from dataset.auditing.hashing import hash_photo
from handler.budget import Budget
from handler.decoders import Decoders
from handler.decoding.common_case import is_common
from handler.decoding.recognise import format_of
from handler.errors import RequestError
from handler.image import open_photo
from handler.spec import Input, Limits

MIN_SIDE = 64
"""Minimum of the shorter side in pixels: the smallest input of the photo recipes; below it, a photo is enlarged."""

_WORTH = 8  # files: a process takes about as long to start
_QUEUED = 4  # files per worker: enough to keep it busy, few enough to keep the memory constant
_VERDICTS = {
    "unsupported_format": "unsupported",
    "animated_image": "not_a_photo",
    "image_too_large": "too_large",
    "too_many_pixels": "too_large",
    "too_costly": "too_large",
    "empty_image": "truncated",
}
_OTHER_FORMATS = (
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
    """Result of an inspection: columns of the audit's table. `width` and `height` are upright (EXIF), 0 if unknown.

    `format` and `mode` are as stored. `phash` is empty if the file was not decoded or the image is blank.
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


def inspect_photo(path: Path, limits: Limits, min_side: int = MIN_SIDE, served: Input | None = None) -> Facts:
    """Read, hash and decode one file. A problem with the file is a verdict, never an exception.

    Args:
        served: input of the recipe, to check the time and memory that serving allows; None: they are not checked.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
            file.seek(0)
            data = file.read(
                limits.bytes + 1
            )  # one byte over the limit: `open_photo` refuses it, and the memory stays constant
    except OSError as error:
        return Facts("corrupt", f"the file cannot be read: {error.strerror}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a broken EXIF block, an image between Pillow's limit and the recipe's
        facts = replace(_header(path, data), bytes=size, sha256=digest)
        try:
            if served is not None and not is_common(data):
                _decoders(served, limits).preprocess(data, Budget(limits.request_seconds))
            photo = open_photo(data, limits)
        except RequestError as error:
            return _refused(facts, data, error)
    facts = replace(facts, width=photo.width, height=photo.height, phash=hash_photo(photo))
    if min(photo.size) < min_side:
        return replace(
            facts, verdict="too_small", reason=f"its shorter side has {min(photo.size)} pixels, fewer than {min_side}"
        )
    return facts


def upright_size(photo: Image.Image) -> tuple[int, int]:
    """Width and height as a viewer displays the image; reads only the header."""
    try:
        # Not photo.getexif(): it decodes the complete file if a PNG has no EXIF.
        sideways = Image.Image.getexif(photo).get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
    except Exception:  # a broken EXIF block: viewers ignore it
        sideways = False
    return (photo.height, photo.width) if sideways else photo.size


def inspect_all(
    paths: Sequence[Path], inspect: Callable[[Path], Facts], workers: int | None = None
) -> Iterator[tuple[int, Facts]]:
    """Inspect files on all cores.

    Args:
        inspect: a module-level function or a partial of one; it is pickled for the worker processes.
        workers: number of processes; default: one per core, but at most one for each 8 files.

    Yields:
        (index of the path, its facts), in order of completion. A file that killed its process is `corrupt`.

    Raises:
        UserError: no process can start, so nothing is known about the files.
    """
    todo = deque(range(len(paths)))
    workers = workers or min(os.cpu_count() or 1, max(1, -(-len(paths) // _WORTH)))
    while todo:
        lost = yield from _until_broken(paths, todo, inspect, workers)
        for index in lost:  # one at a time, to find the file that kills its process
            if (yield from _until_broken(paths, deque([index]), inspect, 1)):
                yield (
                    index,
                    Facts(
                        "corrupt", "decoding it killed the process: the decoder crashed, or the memory was exhausted"
                    ),
                )


def inspector(limits: Limits, min_side: int = MIN_SIDE, served: Input | None = None) -> Callable[[Path], Facts]:
    """`inspect_photo` with its limits, as an argument for `inspect_all`."""
    return partial(inspect_photo, limits=limits, min_side=min_side, served=served)


@cache
def _decoders(size: Input, limits: Limits) -> Decoders:
    return Decoders(size, limits, patient=True)


def _until_broken(
    paths: Sequence[Path], todo: deque[int], inspect: Callable[[Path], Facts], workers: int
) -> Generator[tuple[int, Facts], None, list[int]]:
    """Work through `todo` until it is empty or a process dies; returns the files that were in progress then."""
    running: dict[Future[Facts], int] = {}
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_prepare)
    try:
        _require_start(pool)
        while todo or running:
            while todo and len(running) < _QUEUED * workers:
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


def _require_start(pool: ProcessPoolExecutor) -> None:
    """Only a process that has started can be killed by a file."""
    try:
        pool.submit(hash_photo, Image.linear_gradient("L")).result()
    except (BrokenProcessPool, ImportError, MemoryError, OSError) as error:
        raise UserError(
            f"the processes that decode the photos cannot start ({type(error).__name__})", "free some memory, run again"
        ) from error


def _prepare() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff writes warnings directly to stderr
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """Exit when the parent does: if it is killed (-9), it cannot stop its pool."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _header(path: Path, data: bytes) -> Facts:
    try:
        with Image.open(path) as photo:
            width, height = upright_size(photo)
            return Facts("ok", "", photo.format or "", photo.mode, width, height)
    except Exception:  # Pillow raises nearly every built-in exception on files that are not images
        return Facts("ok", "", _other_format(data))


def _other_format(data: bytes) -> str:
    """The format of a file that Pillow cannot open, from its first bytes; empty if unknown."""
    if data[4:8] == b"ftyp":
        return "HEIC" if data[8:12] in (b"heic", b"heix", b"mif1", b"msf1") else "MP4"
    start = data[:64].lstrip().lower()
    return next((name for magic, name in _OTHER_FORMATS if start.startswith(magic.lower())), "")


def _refused(facts: Facts, data: bytes, error: RequestError) -> Facts:
    known = format_of(data) is not None
    facts = replace(facts, format=facts.format or format_of(data) or "")
    if error.code == "unsupported_format" and not known:
        return replace(facts, verdict="not_a_photo", reason=f"{facts.format or 'unknown'}: {error}")
    if error.code == "image_too_large" and not known:
        return replace(facts, verdict="not_a_photo", reason=f"{facts.format or 'unknown'}, {facts.bytes} bytes")
    if error.code != "corrupt_image":
        return replace(facts, verdict=_VERDICTS[error.code], reason=error.message)
    if cut_short(data):
        return replace(facts, verdict="truncated", reason="the end of the file is missing: fetch it again")
    return replace(facts, verdict="corrupt", reason=_damage(error))


def _damage(error: RequestError) -> str:
    cause = "" if error.__cause__ is None else " ".join(str(error.__cause__).split())
    if not cause or "object at 0x" in cause:
        return error.message
    return f"the data is damaged: {cause}"


def cut_short(data: bytes) -> bool:
    """Whether a damaged image file lacks its end, rather than being wrong inside.

    Decided by the format's own rule: the end marker (JPEG, PNG, JPEG 2000), the length in the header (WebP, BMP), or
    boxes (AVIF, JP2) or strips (TIFF) that extend beyond the last byte.
    """
    if data.startswith(b"\xff\xd8"):
        return _jpeg_cut_short(data)
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data
    if data.startswith(b"RIFF"):
        return 8 + int.from_bytes(data[4:8], "little") > len(data)
    if data.startswith(b"BM"):
        return int.from_bytes(data[2:6], "little") > len(data)
    if data.startswith((b"II*\0", b"MM\0*")):
        return _tiff_cut_short(data)
    if data.startswith(b"\xff\x4f\xff\x51"):
        return not data.endswith(b"\xff\xd9")
    return _boxes_cut_short(data)


def _jpeg_cut_short(data: bytes) -> bool:
    offset = 2
    while data[offset : offset + 1] == b"\xff" and data[offset + 1 : offset + 2] != b"\xda":
        offset += 2 + int.from_bytes(
            data[offset + 2 : offset + 4], "big"
        )  # skip segments: a thumbnail has its own end marker
    return data.find(b"\xff\xd9", offset) < 0


def _tiff_cut_short(data: bytes) -> bool:
    if int.from_bytes(data[4:8], "little" if data[:1] == b"I" else "big") >= len(data):
        return True
    try:
        tags = Image.open(BytesIO(data), formats=("TIFF",)).tag_v2  # type: ignore[attr-defined]
        starts, counts = tags.get(273) or tags.get(324), tags.get(279) or tags.get(325)
        return any(start + count > len(data) for start, count in zip(starts, counts, strict=True))
    except Exception:  # the directory is damaged
        return False


def _boxes_cut_short(data: bytes) -> bool:
    offset = 0
    while offset < len(data):
        size = int.from_bytes(data[offset : offset + 4], "big")
        if size == 1:
            size = int.from_bytes(data[offset + 8 : offset + 16], "big")
        if size < 8:  # 0: up to the end of the file; other sizes are damage
            return data[offset + 4 : offset + 8] == b"jp2c" and not data.endswith(b"\xff\xd9")
        offset += size
    return offset > len(data)
