"""Compare our decoder with what was written and with independent decoders."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.differential import bmp_files, jpeg2000_files, lossy_files, png_files, tiff_files
from benchmarks.differential.case import Case, Pixels
from benchmarks.differential.opinions import libvips, others
from handler.errors import RequestError
from handler.image import open_photo
from handler.spec import Limits

WRITERS: dict[str, Callable[[int], Iterator[Case]]] = {
    "png": png_files.cases,
    "bmp": bmp_files.cases,
    "tiff": tiff_files.cases,
    "lossy": lossy_files.cases,
    "jpeg2000": jpeg2000_files.cases,
}
_AGREE = "agrees"


@dataclass(frozen=True)
class Judgement:
    """`result` is "agrees", an error code that is right, or what is wrong.

    `with_whom` names those who agree: written, libvips, imagecodecs.
    """

    case: Case
    result: str
    right: bool
    with_whom: tuple[str, ...] = ()


def corpus(seed: int) -> Iterator[Case]:
    for cases in WRITERS.values():
        yield from cases(seed)


def judge(case: Case) -> Judgement:
    """Decode a file, and ask what was written and two other decoders."""
    try:
        ours: Pixels = np.asarray(open_photo(case.data, Limits()))
    except RequestError as error:
        right = error.code == case.code or (case.may_refuse and error.code == "unsupported_format")
        return Judgement(case, error.code if right else f"refused: {error.message}", right)
    if case.code:
        return Judgement(case, f"decoded, although it is {case.code}", False)
    return _compared(case, ours)


def _compared(case: Case, ours: Pixels) -> Judgement:
    opinions = {"written": case.written, "libvips": libvips(case.data), "imagecodecs": others(case.data)}
    given = {name: pixels for name, pixels in opinions.items() if pixels is not None}
    agreeing = tuple(name for name, pixels in given.items() if close(ours, pixels, case.tolerance))
    if not given:
        return Judgement(case, "decoded, although no other decoder reads it", False)
    # What was written decides; libvips decides where the encoder loses something that only a decoder can know.
    decisive = "written" if case.written is not None else next(iter(given))
    if decisive in agreeing:
        return Judgement(case, _AGREE, True, agreeing)
    return Judgement(case, f"differs from {decisive}: {distance(ours, given[decisive])}", False, agreeing)


def close(ours: Pixels, other: Pixels, tolerance: tuple[float, float]) -> bool:
    if ours.shape != other.shape:
        return False
    off = np.abs(ours.astype(int) - other)
    return bool(off.mean() <= tolerance[0] and off.max() <= tolerance[1])


def distance(ours: Pixels, other: Pixels) -> str:
    if ours.shape != other.shape:
        return f"{ours.shape[1]} x {ours.shape[0]} instead of {other.shape[1]} x {other.shape[0]} pixels"
    off = np.abs(ours.astype(int) - other)
    return f"{off.mean():.1f} levels on average, {off.max()} at most"
