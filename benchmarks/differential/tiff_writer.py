"""Write a TIFF byte by byte: depths, byte orders, strips, tiles, planes, compressions, predictors, any tag."""

import itertools
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import imagecodecs
import numpy as np

from benchmarks.differential.png_files import Samples, pack

COMPRESS: dict[int, Callable[[bytes], bytes]] = {
    1: bytes,
    5: lambda data: bytes(imagecodecs.lzw_encode(data)),
    8: zlib.compress,
    32773: lambda data: bytes(imagecodecs.packbits_encode(data)),
    32946: zlib.compress,
    34925: lambda data: bytes(imagecodecs.lzma_encode(data)),
    50000: lambda data: bytes(imagecodecs.zstd_encode(data)),
}


@dataclass(frozen=True)
class Layout:
    """How samples are stored. `tile` is a side in pixels, `rows` the rows of a strip; 0: one strip."""

    colours: int
    bits: int
    order: str = "<"
    compression: int = 1
    predictor: int = 1
    planar: bool = False
    tile: int = 0
    rows: int = 0
    extra: int | None = None
    sample_format: int = 1
    fill_order: int = 1
    big: bool = False
    orientation: int = 0
    tags: tuple[tuple[int, str, tuple[int, ...]], ...] = ()

    def __str__(self) -> str:
        default = Layout(0, 0)
        changed = {key: value for key, value in vars(self).items() if value != getattr(default, key)}
        return ", ".join(f"{key} {value}" for key, value in changed.items())


def write(samples: Samples, layout: Layout) -> bytes:
    """A TIFF of one page."""
    planes = [samples[..., [at]] for at in range(samples.shape[2])] if layout.planar else [samples]
    parts = [_compressed(part, layout) for plane in planes for part in _parts(plane, layout)]
    return assemble(parts, samples.shape, layout)


def _parts(plane: Samples, layout: Layout) -> Iterator[Samples]:
    height, width = plane.shape[:2]
    if not layout.tile:
        step = layout.rows or height
        yield from (plane[row : row + step] for row in range(0, height, step))
        return
    side = layout.tile
    padded = np.pad(plane, ((0, -height % side), (0, -width % side), (0, 0)), mode="edge")
    for row, column in itertools.product(range(0, height, side), range(0, width, side)):
        yield padded[row : row + side, column : column + side]


def _compressed(part: Samples, layout: Layout) -> bytes:
    if layout.predictor == 2:
        part = np.diff(part, axis=1, prepend=0) & ((1 << layout.bits) - 1)
    if layout.bits in (24,):
        data = _three_bytes(part, layout.order)
    else:
        data = pack(part & ((1 << layout.bits) - 1), layout.bits, layout.order)
    data = COMPRESS[layout.compression](data)
    if layout.fill_order == 2:
        data = np.packbits(np.unpackbits(np.frombuffer(data, np.uint8)), bitorder="little").tobytes()
    return data


def _three_bytes(part: Samples, order: str) -> bytes:
    whole = part.ravel().astype(f"{order}u4").view(np.uint8).reshape(-1, 4)
    return (whole[:, :3] if order == "<" else whole[:, 1:]).tobytes()


def assemble(parts: Sequence[bytes], shape: tuple[int, ...], layout: Layout) -> bytes:
    height, width, samples = shape
    offset = "Q" if layout.big else "I"
    starts = list(itertools.accumulate((len(part) for part in parts), initial=16))[:-1]
    tags: list[tuple[int, str, tuple[int, ...]]] = [
        *((256, "H", (width,)), (257, "H", (height,)), (258, "H", (layout.bits,) * samples)),
        *((259, "H", (layout.compression,)), (262, "H", (layout.colours,)), (277, "H", (samples,))),
        *((266, "H", (layout.fill_order,)), (284, "H", (2 if layout.planar else 1,)), *layout.tags),
        *([(317, "H", (layout.predictor,))] if layout.predictor > 1 else []),
        *([(338, "H", (layout.extra,))] if layout.extra is not None else []),
        *([(339, "H", (layout.sample_format,) * samples)] if layout.sample_format > 1 else []),
        *([(274, "H", (layout.orientation,))] if layout.orientation else []),
    ]
    counts = tuple(len(part) for part in parts)
    if layout.tile:
        tags += [
            (322, "H", (layout.tile,)),
            (323, "H", (layout.tile,)),
            (324, offset, tuple(starts)),
            (325, "I", counts),
        ]
    else:
        tags += [(273, offset, tuple(starts)), (278, "H", (layout.rows or height,)), (279, "I", counts)]
    body = b"".join(parts)
    return _header(16 + len(body), layout) + body + _directory(sorted(tags), 16 + len(body), layout)


def _header(directory: int, layout: Layout) -> bytes:
    mark = b"II" if layout.order == "<" else b"MM"
    if layout.big:
        return mark + struct.pack(layout.order + "HHHQ", 43, 8, 0, directory)
    return (mark + struct.pack(layout.order + "HI", 42, directory)).ljust(16, b"\0")


def _directory(tags: Sequence[tuple[int, str, tuple[int, ...]]], at: int, layout: Layout) -> bytes:
    number, offset, inline = ("Q", "Q", 8) if layout.big else ("H", "I", 4)
    head = struct.calcsize(layout.order + number)
    later_at = at + head + len(tags) * (4 + 2 * inline) + inline
    rows, later = b"", b""
    for tag, kind, values in tags:
        stored = struct.pack(f"{layout.order}{len(values)}{kind}", *values)
        if len(stored) > inline:
            later, stored = later + stored, struct.pack(layout.order + offset, later_at + len(later))
        code = {"H": 3, "I": 4, "Q": 16, "B": 1}[kind]
        rows += struct.pack(layout.order + "HH" + offset, tag, code, len(values)) + stored.ljust(inline, b"\0")
    return struct.pack(layout.order + number, len(tags)) + rows + bytes(inline) + later
