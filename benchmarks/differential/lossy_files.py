"""JPEG, WebP and AVIF, by encoders other than Pillow's where they can write the kind."""

import io
import itertools
from collections.abc import Iterator
from typing import Any

import imagecodecs
import numpy as np
import pyvips
from PIL import Image

from benchmarks.differential.case import EXACT, LOSSY, Case, levels, on_white, picture, rgb, turned
from benchmarks.differential.png_files import tiff_block

_TURNS = range(1, 9)


def cases(seed: int) -> Iterator[Case]:
    yield from _jpeg(seed)
    yield from _jpeg_variants(seed)
    yield from _webp(seed)
    yield from _avif(seed)


def stored(seed: int, channels: int, bits: int = 8) -> np.ndarray[Any, Any]:
    values = levels(picture(seed, channels), bits).astype(np.uint8 if bits <= 8 else np.uint16)
    return np.ascontiguousarray(values[..., 0] if channels == 1 else values)


def saved(pixels: np.ndarray[Any, Any], form: str, mode: str | None = None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    if mode == "CMYK":
        image = Image.frombytes("CMYK", image.size, pixels.tobytes())
    image.save(buffer, form, **options)
    return buffer.getvalue()


def by_vips(pixels: np.ndarray[Any, Any], suffix: str, **options: Any) -> bytes:
    flat = np.ascontiguousarray(pixels)
    bands = flat.shape[2] if flat.ndim == 3 else 1
    image = pyvips.Image.new_from_memory(flat.tobytes(), flat.shape[1], flat.shape[0], bands, "uchar")
    data: bytes = image.copy(interpretation="srgb" if bands > 2 else "b-w").write_to_buffer(suffix, **options)
    return data


def _jpeg(seed: int) -> Iterator[Case]:
    for channels, quality, subsampling in itertools.product((1, 3), (50, 95), ("444", "422", "420", "411", "440")):
        pixels = stored(seed, channels)
        data = bytes(imagecodecs.jpeg8_encode(pixels, quality, subsampling=subsampling))
        yield Case(f"jpeg {channels} channels, {subsampling}, quality {quality}", data, tolerance=LOSSY)
    for options in ({"interlace": True}, {"optimize_coding": True}, {"restart_interval": 2}, {"subsample_mode": "off"}):
        for channels in (1, 3):
            data = by_vips(stored(seed, channels), ".jpg", Q=90, **options)
            yield Case(f"jpeg {channels} channels, {options}", data, tolerance=LOSSY)
    yield Case(
        "jpeg stored as RGB",
        bytes(imagecodecs.jpeg8_encode(stored(seed, 3), 95, colorspace="rgb", outcolorspace="rgb")),
        rgb(picture(seed, 3)),
        LOSSY,
    )
    for out in ("cmyk", "ycck"):
        inks = 255 - stored(seed, 4)
        data = bytes(imagecodecs.jpeg8_encode(inks, 98, colorspace="cmyk", outcolorspace=out))
        values = picture(seed, 4)
        yield Case(f"jpeg {out}", data, rgb((1 - values[..., :3]) * (1 - values[..., 3:])), LOSSY)
    for turn, order, progressive in itertools.product(_TURNS, "<>", (False, True)):
        exif = b"Exif\0\0" + tiff_block(turn, order=order)
        data = saved(stored(seed, 3), "JPEG", exif=exif, quality=95, progressive=progressive)
        yield Case(
            f"jpeg orientation {turn}{order}, progressive {progressive}",
            data,
            turned(rgb(picture(seed, 3)), turn),
            LOSSY,
        )


def _jpeg_variants(seed: int) -> Iterator[Case]:
    pixels = stored(seed, 3)
    twelve = levels(picture(seed, 3), 12).astype(np.uint16)
    for name, data in {
        "12 bits": imagecodecs.jpeg8_encode(twelve, 95, bitspersample=12),
        "lossless": imagecodecs.jpeg8_encode(pixels, lossless=True),
        "lossless 16 bits": imagecodecs.jpeg8_encode(levels(picture(seed, 3), 16).astype(np.uint16), lossless=True),
        "JPEG-LS": imagecodecs.jpegls_encode(pixels),
    }.items():
        yield Case(f"jpeg {name}", bytes(data), code="unsupported_format")
    noise = np.random.default_rng(seed).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    for progressive in (False, True):
        whole = saved(noise, "JPEG", quality=90, progressive=progressive)
        yield Case(f"jpeg without end, progressive {progressive}", whole[:-2], tolerance=EXACT)
        yield Case(f"jpeg followed by zeros, progressive {progressive}", whole + bytes(999), tolerance=EXACT)
        yield Case(f"jpeg followed by another, progressive {progressive}", whole + whole * 3, tolerance=EXACT)
        for cut in (0.4, 0.9, 0.99):
            part = whole[: int(len(whole) * cut)]
            yield Case(f"jpeg cut at {cut}, progressive {progressive}", part, code="corrupt_image")
            yield Case(
                f"jpeg cut at {cut} and filled, progressive {progressive}", part + bytes(3000), code="corrupt_image"
            )


def _webp(seed: int) -> Iterator[Case]:
    for channels, lossless in itertools.product((3, 4), (True, False)):
        pixels = stored(seed, channels)
        for kind in ("varied", "zero", "one") if channels == 4 else ("none",):
            if channels == 4:
                pixels[..., 3] = {"varied": pixels[..., 3], "zero": 0, "one": 255}[kind]
            seen = pixels / 255
            written = on_white(seen[..., :3], seen[..., 3]) if channels == 4 else rgb(seen)
            data = by_vips(pixels, ".webp", lossless=lossless, Q=90, exact=True)
            yield Case(
                f"webp {channels} channels, lossless {lossless}, alpha {kind}",
                data,
                written,
                EXACT if lossless else LOSSY,
            )
    for turn in _TURNS:
        data = saved(stored(seed, 3), "WEBP", lossless=True, exif=tiff_block(turn))
        yield Case(f"webp orientation {turn}", data, turned(rgb(stored(seed, 3) / 255), turn))


def _avif(seed: int) -> Iterator[Case]:
    for channels, bits, pixel_format in itertools.product((1, 3, 4), (8, 10, 12), ("444", "422", "420")):
        pixels = stored(seed, channels, bits)
        form = "400" if channels == 1 else pixel_format
        seen = picture(seed, channels)
        written = on_white(seen[..., :3], seen[..., 3]) if channels == 4 else rgb(seen)
        data = bytes(imagecodecs.avif_encode(pixels, 95, bitspersample=bits, pixelformat=form, speed=8))
        yield Case(f"avif {channels} channels, {bits} bits, {form}", data, written, LOSSY)
    for turn in _TURNS:
        exif = Image.Exif()
        exif[274] = turn
        data = saved(stored(seed, 3), "AVIF", quality=95, exif=exif, subsampling="4:4:4")
        yield Case(f"avif orientation {turn}", data, turned(rgb(picture(seed, 3)), turn), LOSSY)
    for range_, subsampling in itertools.product(("full", "limited"), ("4:4:4", "4:2:2", "4:2:0", "4:0:0")):
        seen = picture(seed, 3)
        luma = seen @ np.array([0.299, 0.587, 0.114])
        written = rgb(luma[..., None]) if subsampling == "4:0:0" else rgb(seen)
        data = saved(stored(seed, 3), "AVIF", quality=95, range=range_, subsampling=subsampling)
        yield Case(f"avif {range_} range, {subsampling}", data, written, LOSSY)
    data = saved(stored(seed, 4), "AVIF", quality=95, alpha_premultiplied=True, subsampling="4:4:4")
    values = picture(seed, 4)
    yield Case("avif with premultiplied alpha", data, on_white(values[..., :3], values[..., 3]), LOSSY)
