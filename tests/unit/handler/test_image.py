"""Preprocessing: which files are accepted, which are refused, and that the pixels are right."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image
from torchvision.transforms import v2

from handler.errors import CODES, RequestError
from handler.image import fit, open_photo, preprocess, to_array, to_input
from handler.spec import Input, Limits
from tests.helpers import pictures

SIZE = Input(height=70, width=50)
LIMITS = Limits()


@pytest.mark.parametrize("name", pictures.TAKEN)
def test_still_images_are_accepted(name: str) -> None:
    pixels = preprocess(pictures.TAKEN[name](), SIZE, LIMITS)
    assert pixels.shape == (3, 70, 50)
    assert pixels.dtype == np.uint8
    assert pixels.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize("name", pictures.REFUSED)
def test_a_refused_file_gets_its_error_code(name: str) -> None:
    make, status, code = pictures.REFUSED[name]
    with pytest.raises(RequestError) as caught:
        preprocess(make(), SIZE, LIMITS)
    assert (caught.value.status, caught.value.code) == (status, code)
    assert CODES[code] == status


@pytest.mark.parametrize("name", ["png", "png_palette", "webp", "bmp", "tiff", "jpeg_multi_picture"])
def test_formats_give_the_same_pixels(name: str) -> None:
    expected = preprocess(pictures.encode(pictures.photo(), "PNG"), SIZE, LIMITS).astype(int)
    actual = preprocess(pictures.TAKEN[name](), SIZE, LIMITS).astype(int)
    assert np.abs(actual - expected).mean() < 6


def test_exif_turns_the_photo_upright() -> None:
    plain = pictures.photo()
    stored = Image.open(io.BytesIO(pictures.turned(6)))
    stored.load()
    upright = open_photo(pictures.turned(6), LIMITS)
    assert upright.size == (plain.height, plain.width)
    assert np.array_equal(np.asarray(upright), np.asarray(stored.transpose(Image.Transpose.ROTATE_270)))


def test_transparency_becomes_white() -> None:
    clear = pictures.encode(Image.new("RGBA", (20, 20), (10, 20, 30, 0)), "PNG")
    assert (preprocess(clear, SIZE, LIMITS) == 255).all()
    half = pictures.encode(Image.new("RGBA", (20, 20), (0, 0, 0, 128)), "PNG")
    assert abs(int(preprocess(half, SIZE, LIMITS)[0, 0, 0]) - 127) <= 1


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    dim = Image.fromarray(np.full((20, 20), 0x4080, dtype=np.uint16))
    assert (preprocess(pictures.encode(dim, "PNG"), SIZE, LIMITS) == 0x40).all()


def test_transparent_grey_of_a_16_bit_png_becomes_white() -> None:
    grey = Image.fromarray(np.full((20, 20), 0x1234, dtype=np.uint16))
    assert (preprocess(pictures.encode(grey, "PNG", transparency=0x1234), SIZE, LIMITS) == 255).all()


def test_cmyk_white_is_white() -> None:
    white = pictures.encode(Image.new("CMYK", (20, 20), (0, 0, 0, 0)), "JPEG")
    assert preprocess(white, SIZE, LIMITS).min() >= 250


def test_stretch_is_torchvisions_resize_of_height_and_width() -> None:
    photo = pictures.photo()
    expected = v2.Compose([v2.Resize((70, 50), v2.InterpolationMode.BILINEAR, antialias=True), v2.PILToTensor()])(photo)
    assert np.array_equal(to_array(fit(photo, SIZE)), expected.numpy())


@pytest.mark.parametrize("rule", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 900), (640, 480), (1000, 751)])
def test_to_input_is_pillows_resize_within_a_level(rule: str, shape: tuple[int, int]) -> None:
    size = Input(height=70, width=50, resize=rule)
    noise = np.random.default_rng(0).integers(0, 256, (shape[1], shape[0], 3), dtype=np.uint8)
    actual, expected = to_input(Image.fromarray(noise), size), to_array(fit(Image.fromarray(noise), size))
    assert actual.shape == (3, 70, 50) and actual.dtype == np.uint8 and actual.flags.c_contiguous
    assert np.abs(actual.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("rule", ["stretch", "crop", "pad"])
def test_every_resize_rule_gives_the_recipes_size(rule: str) -> None:
    size = Input(height=70, width=50, resize=rule)
    assert fit(pictures.photo(), size).size == (50, 70)


def test_pad_keeps_the_shape_and_fills_with_black() -> None:
    padded = np.asarray(fit(Image.new("RGB", (100, 10), "white"), Input(height=50, width=50, resize="pad")))
    assert (padded[0] == 0).all()
    assert (padded[25] == 255).all()


def test_the_byte_limit_is_checked_before_decoding() -> None:
    with pytest.raises(RequestError, match="more than the limit of 10: send a smaller file") as caught:
        open_photo(b"\xff\xd8\xff" + bytes(20), Limits(bytes=10))
    assert caught.value.code == "image_too_large"


def test_the_pixel_limit_is_checked_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", never)
    with pytest.raises(RequestError) as caught:
        open_photo(pictures.encode(Image.new("RGB", (1, 1)), "PNG"), Limits(pixels=1).model_copy(update={"pixels": 0}))
    assert caught.value.code == "too_many_pixels"


LARGE = (400, 300)  # width and height: 300 is 4.3 x the height of SIZE, 400 is 8 x its width; sideways 5.7 x and 6 x


def large(orientation: int = 1, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return pictures.encode(pictures.photo().resize(LARGE, Image.Resampling.BICUBIC), "JPEG", exif=exif, **options)


@pytest.mark.parametrize("rule", ["stretch", "crop", "pad"])
@pytest.mark.parametrize(
    ("height", "width", "orientation", "expected"),
    [
        (70, 50, 1, (200, 150)),  # a quarter would leave 75, and 105 are required
        (70, 50, 6, (150, 200)),
        (50, 33, 1, (100, 75)),  # exactly 1.5 x
        (51, 33, 1, (200, 150)),
        (33, 66, 1, (100, 75)),
        (33, 66, 6, (150, 200)),  # sideways a quarter would leave 75, and 99 are required
        (101, 50, 1, LARGE),
        (8, 8, 1, (50, 38)),
    ],
)
def test_a_large_jpeg_is_decoded_smaller_but_never_below_the_margin(
    rule: str, height: int, width: int, orientation: int, expected: tuple[int, int]
) -> None:
    size = Input.model_validate({"height": height, "width": width, "resize": rule})
    assert open_photo(large(orientation), LIMITS, size).size == expected
    assert open_photo(large(orientation), LIMITS).size == (LARGE if orientation == 1 else LARGE[::-1])


@pytest.mark.parametrize("rule", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
@pytest.mark.parametrize("orientation", [1, 3, 5, 6])
def test_scaled_decoding_hardly_changes_the_pixels(rule: str, options: dict[str, Any], orientation: int) -> None:
    size = Input.model_validate({"height": 70, "width": 50, "resize": rule})
    data = large(orientation, quality=90, **options)
    whole = to_array(fit(open_photo(data, LIMITS), size)).astype(int)
    assert open_photo(data, LIMITS, size).width < open_photo(data, LIMITS).width
    off = np.abs(preprocess(data, size, LIMITS) - whole)
    assert off.mean() < 1
    assert np.percentile(off, 99) <= 6


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
def test_a_truncated_large_jpeg_is_refused_under_scaled_decoding(share: float, options: dict[str, Any]) -> None:
    data = large(**options)
    with pytest.raises(RequestError) as caught:
        preprocess(data[: int(len(data) * share)], SIZE, LIMITS)
    assert caught.value.code == "corrupt_image"


def test_the_pixel_limit_applies_before_scaling() -> None:
    with pytest.raises(RequestError) as caught:
        preprocess(large(), SIZE, Limits(pixels=LARGE[0] * LARGE[1] - 1))
    assert caught.value.code == "too_many_pixels"


def test_grey_and_cmyk_jpegs_are_scaled_too() -> None:
    for mode in ("L", "CMYK"):
        data = pictures.encode(pictures.photo().resize(LARGE).convert(mode), "JPEG")
        photo = open_photo(data, LIMITS, SIZE)
        assert (photo.mode, photo.size) == ("RGB", (200, 150))


def test_the_array_is_writable() -> None:
    """torch warns about arrays that are not."""
    assert preprocess(large(), SIZE, LIMITS).flags.writeable


@pytest.mark.parametrize("shape", [(640, 480), (333, 777), (256, 256), (120, 90), (301, 300), (97, 1203), (1601, 400)])
def test_shorter_is_torchvisions_resize_and_centre_crop(shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (shape[1], shape[0], 3), dtype=np.uint8)
    photo = Image.fromarray(noise)
    expected = v2.Compose([v2.Resize(300), v2.CenterCrop(256)])(photo)
    actual = fit(photo, Input(height=256, width=256, resize="crop", shorter=300))
    assert actual.size == (256, 256)
    levels = np.abs(np.asarray(actual).astype(int) - np.asarray(expected).astype(int)).max()
    assert levels <= (2 if max(shape) > 4 * min(shape) else 0)


def test_shorter_works_with_a_crop_that_is_not_square() -> None:
    photo = pictures.photo()
    expected = v2.Compose([v2.Resize(90), v2.CenterCrop((40, 81))])(photo)
    actual = fit(photo, Input(height=40, width=81, resize="crop", shorter=90))
    assert np.array_equal(np.asarray(actual), np.asarray(expected))


def test_only_the_crop_of_a_very_long_photo_is_resized() -> None:
    photo = Image.new("L", (2_000_000, 2), 77).convert("RGB")  # scaled as a whole it would have 90 gigapixels
    assert set(np.asarray(fit(photo, Input(height=256, width=256, resize="crop", shorter=300))).ravel()) == {77}


def test_a_large_jpeg_is_decoded_no_smaller_than_shorter_needs() -> None:
    data = pictures.encode(Image.effect_noise((2400, 1800), 90).convert("RGB"), "JPEG")
    size = Input(height=64, width=64, resize="crop", shorter=500)
    assert min(open_photo(data, LIMITS, size).size) >= 750


@pytest.mark.parametrize(
    ("keys", "message"), [({"resize": "pad"}, "requires resize crop"), ({"resize": "crop", "width": 90}, "at least 90")]
)
def test_shorter_must_fit_the_other_keys(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Input.model_validate({"height": 64, "width": 64, "shorter": 80, **keys})
