"""TIFF files of every kind: colours, depths, byte orders, strips, tiles, planes, compressions, predictors, alpha."""

import itertools
import struct
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import imagecodecs
import numpy as np
from PIL import Image

from benchmarks.differential.case import LOSSY, ROUNDED, Case, Pixels, levels, picture, rgb, turned
from benchmarks.differential.png_files import Samples
from benchmarks.differential.tiff_writer import COMPRESS, Layout, assemble, write

_WHITE, _BLACK, _RGB, _PALETTE, _CMYK, _YCBCR, _LAB = 0, 1, 2, 3, 5, 6, 8


def cases(seed: int) -> Iterator[Case]:
    yield from _grey(seed)
    yield from _colour(seed)
    yield from _with_extra(seed)
    yield from _palettes(seed)
    yield from _inks(seed)
    yield from _unusual(seed)
    yield from _oriented(seed)
    yield from _jpeg_inside(seed)


def layouts(colours: int, bits: int, several: bool) -> Iterator[Layout]:
    """Every storage, with at most two properties changed at once."""
    for order, compression in itertools.product("<>", COMPRESS):
        base = Layout(colours, bits, order, compression)
        yield base
        yield replace(base, rows=7)
        yield replace(base, tile=16)
        if several:
            yield replace(base, planar=True)
            yield replace(base, planar=True, tile=16)
            yield replace(base, planar=True, rows=7)
        if compression in (5, 8, 50000) and bits in (8, 16):
            yield replace(base, predictor=2)
            yield replace(base, predictor=2, tile=16)
    yield Layout(colours, bits, "<", 8, big=True)
    yield Layout(colours, bits, ">", 1, big=True, rows=5)
    for compression in (1, 5, 8):
        yield Layout(colours, bits, "<", compression, fill_order=2)


def _case(samples: Samples, layout: Layout, written: Pixels | None, may_refuse: bool = False) -> Case:
    may_refuse = may_refuse or (layout.big and layout.order == ">")
    return Case(f"tiff {layout}", partial(write, samples, layout), written, may_refuse=may_refuse)


def _grey(seed: int) -> Iterator[Case]:
    for colours, bits in itertools.product((_WHITE, _BLACK), (1, 2, 4, 6, 8, 10, 12, 14, 16, 24, 32)):
        stored = levels(picture(seed, 1), bits)
        seen = stored / ((1 << bits) - 1)
        written = rgb(1 - seen if colours == _WHITE else seen)
        for layout in layouts(colours, bits, several=False):
            rare = bits not in (1, 2, 4, 8, 16) or layout.fill_order == 2 or (colours == _WHITE and bits == 16)
            yield _case(stored, layout, written, may_refuse=rare)


def _colour(seed: int) -> Iterator[Case]:
    for bits in (2, 4, 8, 10, 12, 16, 24, 32):
        stored = levels(picture(seed, 3), bits)
        for layout in layouts(_RGB, bits, several=True):
            rare = bits not in (8, 16) or layout.fill_order == 2 or layout.planar
            yield _case(stored, layout, rgb(stored / ((1 << bits) - 1)), may_refuse=rare)


def _with_extra(seed: int) -> Iterator[Case]:
    """Grey and RGB with a fourth sample: unspecified, associated (premultiplied) or unassociated alpha."""
    for colours, channels in ((_BLACK, 2), (_RGB, 4), (_WHITE, 2)):
        for bits, extra, kind in itertools.product((8, 16), (None, 0, 1, 2), ("varied", "zero", "one")):
            values = picture(seed, channels)
            values[..., -1] *= kind != "zero"
            values[..., -1] = np.maximum(values[..., -1], kind == "one")
            if extra == 1:
                values[..., :-1] *= values[..., -1:]
            stored = levels(values, bits)
            seen = stored / ((1 << bits) - 1)
            tint, alpha = seen[..., :-1], seen[..., -1:]
            if colours == _WHITE:
                tint = 1 - tint
            shown = {None: tint if kind == "one" else None, 0: tint, 1: tint + 1 - alpha, 2: tint * alpha + 1 - alpha}[
                extra
            ]
            written = None if shown is None else rgb(shown)
            for layout in layouts(colours, bits, several=True):
                rare = colours == _WHITE or extra is None or layout.fill_order == 2 or layout.planar or bits == 16
                made = _case(stored, replace(layout, extra=extra), written, may_refuse=rare or channels == 2)
                yield replace(made, name=f"{made.name}, alpha {kind}")


def _palettes(seed: int) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for bits in (1, 2, 4, 8, 16):
        stored = levels(picture(seed, 1), bits)
        colours = rng.integers(0, 256, (1 << bits, 3))
        table = (320, "H", tuple(int(value) * 257 for value in colours.T.ravel()))
        for layout in layouts(_PALETTE, bits, several=False):
            if layout.predictor == 1 and not (bits == 16 and layout.compression > 1):
                written = rgb(colours[stored[..., 0]] / 255)
                made = _case(stored, replace(layout, tags=(table,)), written, layout.fill_order == 2 or bits == 16)
                yield replace(made, name=f"tiff palette, {replace(layout)}")


def _inks(seed: int) -> Iterator[Case]:
    for bits in (8, 16):
        stored = levels(picture(seed, 4), bits)
        inks = stored / ((1 << bits) - 1)
        written = rgb((1 - inks[..., :3]) * (1 - inks[..., 3:]))
        for layout in layouts(_CMYK, bits, several=True):
            yield _case(stored, layout, written, may_refuse=layout.planar or layout.fill_order == 2)
    five = levels(picture(seed, 5), 8)
    yield _case(five, Layout(_CMYK, 8, extra=0), None, may_refuse=True)
    yield _case(five, Layout(_CMYK, 8, extra=2), None, may_refuse=True)


def _unusual(seed: int) -> Iterator[Case]:
    """Kinds of which no decoder agrees with another: refused, or as it was written."""
    for bits, kind, colours in itertools.product((8, 16, 32), (2, 3, 4, 5, 6), (_BLACK, _RGB)):
        stored = levels(picture(seed, 1 if colours == _BLACK else 3), bits)
        for layout in (Layout(colours, bits, order, sample_format=kind) for order in "<>"):
            yield Case(f"tiff {layout}", write(stored, layout), code="unsupported_format")
    for colours in (4, _LAB, 9, 10, 32803, 32844, 32845, 34892, 99):
        layout = Layout(colours, 8)
        yield Case(f"tiff {layout}", write(levels(picture(seed, 3), 8), layout), code="unsupported_format")
    for compression in (6, 9, 10, 32809, 34661, 34676, 34677, 34712, 34887, 50002, 65000):
        made = write(levels(picture(seed, 1), 8), Layout(_BLACK, 8))
        changed = made.replace(struct.pack("<HHIH", 259, 3, 1, 1), struct.pack("<HHIH", 259, 3, 1, compression))
        yield Case(f"tiff compression {compression}", changed, code="unsupported_format")
    for subsampling in ((2, 2), (2, 1), (4, 1)):
        layout = Layout(_YCBCR, 8, tags=((530, "H", subsampling),))
        yield Case(f"tiff {layout}", write(levels(picture(seed, 3), 8), layout), code="unsupported_format")
    whole = levels(picture(seed, 3), 8)
    luma = np.asarray(Image.fromarray(whole.astype(np.uint8)).convert("YCbCr")).astype(np.int64)
    for layout in layouts(_YCBCR, 8, several=True):
        case = _case(luma, replace(layout, tags=((530, "H", (1, 1)),)), rgb(whole / 255), may_refuse=True)
        yield replace(case, tolerance=ROUNDED)


def _oriented(seed: int) -> Iterator[Case]:
    for colours, channels, orientation in itertools.product((_BLACK, _RGB), (1, 3), range(1, 10)):
        if (colours == _RGB) == (channels == 3):
            for compression, bits in itertools.product((1, 8), (8, 16)):
                stored = levels(picture(seed, channels), bits)
                seen = turned(rgb(stored / ((1 << bits) - 1)), orientation if orientation < 9 else 1)
                layout = Layout(colours, bits, compression=compression, orientation=orientation)
                yield _case(stored, layout, seen)


def _jpeg_inside(seed: int) -> Iterator[Case]:
    """JPEG as compression, in one strip: grey, RGB, and YCbCr with every subsampling."""
    smooth = picture(seed, 3, 32, 48)
    eight = np.ascontiguousarray(levels(smooth, 8).astype(np.uint8))
    encoded: dict[tuple[int, tuple[int, ...]], bytes | bytearray] = {
        (_BLACK, ()): imagecodecs.jpeg8_encode(np.ascontiguousarray(eight[..., 0]), 95),
        (_RGB, ()): imagecodecs.jpeg8_encode(eight, 95, colorspace="rgb", outcolorspace="rgb"),
    }
    for factors, name in {(1, 1): "444", (2, 1): "422", (2, 2): "420"}.items():
        encoded[(_YCBCR, factors)] = imagecodecs.jpeg8_encode(eight, 95, subsampling=name)
    for (colours, subsampling), data in encoded.items():
        shape = (32, 48, 1 if colours == _BLACK else 3)
        tags = ((530, "H", subsampling),) if subsampling else ()
        for order in "<>":
            layout = Layout(colours, 8, order, compression=7, tags=tags)
            written = rgb(smooth[..., :1] if colours == _BLACK else smooth)
            yield Case(f"tiff {layout}", assemble([bytes(data)], shape, layout), written, LOSSY)
