"""Which files are decoded in the worker: common photos, and nothing else."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.harness import costly
from handler.decoding.common_case import is_common
from tests.helpers import pictures

UNCOMMON_FORMATS = {"bmp", "tiff", "tiff_lzw", "avif", "jpeg_2000"}


@pytest.mark.parametrize("name", pictures.TAKEN)
def test_jpeg_png_and_webp_are_common(name: str) -> None:
    assert is_common(pictures.TAKEN[name]()) == (name not in UNCOMMON_FORMATS)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    ("width", "height", "common"),
    [(4000, 3000, True), (400, 8000, True), (5000, 3300, False), (100, 4000, False), (4000, 100, False)],
)
def test_a_common_photo_has_at_most_16_megapixels_and_a_plausible_shape(
    form: str, width: int, height: int, common: bool
) -> None:
    small = Image.effect_noise((width // 8, height // 8), 60).resize((width, height), Image.Resampling.BILINEAR)
    fast = {"JPEG": {}, "PNG": {"compress_level": 1}, "WEBP": {"method": 0}}
    assert is_common(pictures.encode(small, form, **fast[form])) == common


@pytest.mark.parametrize("name", [name for name in costly.FILES if "TIFF" not in name and "GB" not in name])
def test_a_costly_file_is_not_common(name: str) -> None:
    assert not is_common(costly.FILES[name]())


@pytest.mark.parametrize("options", [{"exif": b"Exif\0\0" + bytes(60_000)}, {"icc_profile": bytes(200_000)}])
def test_metadata_of_usual_size_is_common(options: dict[str, bytes]) -> None:
    assert is_common(pictures.encode(pictures.photo(), "JPEG", **options))


@pytest.mark.slow
def test_a_large_png_in_the_chunks_of_libpng_is_common() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), dtype=np.uint8)
    data = pictures.encode(Image.fromarray(noise), "PNG")
    assert data.count(b"IDAT") > 100
    assert is_common(data)


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "jpeg_progressive"])
def test_a_damaged_header_is_never_an_exception(name: str) -> None:
    data, random = pictures.TAKEN[name](), np.random.default_rng(0)
    for length in (0, 1, 12, 20, 25, 30, 40, 100, 500):
        is_common(data[:length])
    for _ in range(500):
        damaged = bytearray(data[:700])
        damaged[random.integers(len(damaged))] = random.integers(256)
        is_common(bytes(damaged))
