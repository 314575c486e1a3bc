"""What is refused by its header because decoding it would certainly exceed the limits, and what is decoded cheaper."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.harness import costly
from handler.decoding.colours import to_rgb
from handler.decoding.formats import Prepared
from handler.decoding.recognise import prepare
from handler.errors import RequestError
from handler.image import fit, open_photo, preprocess, to_array, to_input
from handler.spec import Input, Limits
from tests.helpers import pictures

SIZE = Input(height=70, width=50)
LIMITS = Limits()
CERTAIN = {
    "BMP of line ends, 5,000,000 x 10": "one side is more than 200 times the other",
    "TIFF, one strip 400,000 times": "400000 strips or tiles of 1000 x 500 pixels",
    "JPEG, 450,000 EXIF segments": "more than 5000 segments",
    "JPEG, arithmetic, 100 scans, 7000 x 7000": "100 scans of 7000 x 7000",
    "JPEG, 2.5 million comments": "more than 5000 segments",
    "PNG, 850,000 chunks": "more than 20000 segments or chunks",
    "PNG 2 x 2,000,000": "one side is more than 200 times",
    "WebP RGBA 16383 x 3050": "more than 400 MB of memory",
    "PNG RGBA 7000 x 7000": "more than 400 MB of memory",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CERTAIN)
def test_a_header_that_promises_too_much_is_too_costly(name: str) -> None:
    with pytest.raises(RequestError, match=CERTAIN[name]) as caught:
        preprocess(costly.FILES[name](), SIZE, LIMITS)
    assert (caught.value.status, caught.value.code) == (413, "too_costly")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: costly.tiff_of_tiny_tiles(300), "90000 strips or tiles of 1 x 1"),
        (lambda: costly.tiff_of_one_huge_tile(5000), "1 strips or tiles of 5000 x 5000"),
    ],
)
def test_the_tiles_of_a_tiff_must_suit_the_photo(make: object, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        preprocess(make(), SIZE, LIMITS)  # type: ignore[operator]


@pytest.mark.parametrize("size", [(1, 200), (60, 12_000), (12_000, 60)])
def test_a_page_long_screenshot_is_accepted(size: tuple[int, int]) -> None:
    assert preprocess(costly.png(*size), SIZE, LIMITS).shape == (3, 70, 50)


@pytest.mark.parametrize("rule", ["stretch", "crop", "pad"])
def test_a_long_photo_is_resized_as_any_other_within_a_level(rule: str) -> None:
    size = Input.model_validate({"height": 70, "width": 50, "resize": rule})
    noise = np.random.default_rng(0).integers(0, 256, (3000, 30, 3), dtype=np.uint8)
    photo = Image.fromarray(noise)
    actual = to_input(photo, size)
    assert np.array_equal(actual, to_array(fit(photo, size)))
    if rule == "stretch":
        plain = to_array(photo.resize((50, 70), Image.Resampling.BILINEAR))
        assert np.abs(actual.astype(int) - plain).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_white_behind_a_photo_does_not_depend_on_the_strips(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setattr("handler.decoding.colours._STRIP", 40 * 63)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (150, 40, 4), dtype=np.uint8), "RGBA")
    photo = noise.convert("P").convert("PA") if mode == "PA" else noise.convert(mode)
    layer = photo.convert("RGBA")
    whole = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    assert np.array_equal(np.asarray(to_rgb(photo, Prepared("PNG", b""))), np.asarray(whole))


def test_every_value_with_every_transparency_is_as_alpha_composite_has_it() -> None:
    value, alpha = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    photo = Image.fromarray(np.dstack([value, value, value, alpha]))
    whole = Image.alpha_composite(Image.new("RGBA", photo.size, "white"), photo).convert("RGB")
    assert np.array_equal(np.asarray(to_rgb(photo, Prepared("PNG", b""))), np.asarray(whole))


def jpeg_2000(**options: object) -> bytes:
    return pictures.encode(pictures.photo().resize((800, 600), Image.Resampling.BICUBIC), "JPEG2000", **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("whole", "levels", "width"),
    [(480_000, 5, 800), (479_999, 5, 400), (100_000, 5, 200), (1, 5, 200), (1, 1, 400), (1, 0, 800)],
)
def test_a_large_jpeg_2000_is_decoded_smaller_but_never_below_the_margin(
    monkeypatch: pytest.MonkeyPatch, whole: int, levels: int, width: int
) -> None:
    monkeypatch.setattr("handler.image._JPEG_2000_PIXELS", whole)
    data = jpeg_2000(num_resolutions=levels + 1, tile_size=(256, 256))
    assert prepare(data).levels == levels
    assert open_photo(data, LIMITS).size == (800, 600)
    assert open_photo(data, LIMITS, SIZE).width == width
    off = np.abs(preprocess(data, SIZE, LIMITS).astype(int) - to_array(fit(open_photo(data, LIMITS), SIZE)))
    assert off.mean() < 3


def test_a_jpeg_2000_whose_levels_cannot_be_read_is_decoded_whole() -> None:
    data = pictures.encode(pictures.photo(), "JPEG2000")
    style = data.index(b"\xff\x52")
    own_style = b"\xff\x53\0\x09\0\0\0\4\4\0\0"
    for damaged in (data[: style + 4], data[:style] + own_style + data[style:], b"\xff\x4f\xff\x51" + bytes(100)):
        assert prepare(damaged).levels == 0
