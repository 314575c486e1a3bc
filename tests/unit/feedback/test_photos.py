"""Stored photos: metadata is gone, pixels and orientation are the same; hashes are those of the audit."""

from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import ExifTags, Image, PngImagePlugin

from benchmarks.copies.__main__ import COPIES, copied, held_back
from common.errors import NotFound, UserError
from dataset.auditing.hashing import hash_photo
from dataset.draw import draw
from feedback.photos.frozen import frozen_hashes
from feedback.photos.hashing import THRESHOLD, nearest, packed, phash
from feedback.photos.metadata import cleaned
from feedback.photos.store import PhotoStore
from handler.image import open_photo
from handler.spec import Limits

SECRETS = (b"SECRET", b"Secret Camera", b"GPS")
LIMITS = Limits()


def tagged(form: str, orientation: int, **options: object) -> bytes:
    """A photo with a place, a camera, a comment and XMP."""
    photo = draw("discs", 3).resize((120, 80))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = "Secret Camera"
    gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    gps[ExifTags.GPS.GPSLatitude] = (48.0, 51.0, 24.0)
    gps[ExifTags.GPS.GPSMapDatum] = "SECRET place"
    if form == "JPEG":
        options = {"comment": b"SECRET comment", "xmp": b"SECRET xmp", "quality": 90, **options}
    if form == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_text("Comment", "SECRET comment")
        options = {"pnginfo": text, **options}
    if form == "WEBP":
        options = {"xmp": b"SECRET xmp", "lossless": True, **options}
    buffer = BytesIO()
    photo.save(buffer, form, exif=exif, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("orientation", [1, 6, 3])
@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WEBP", {}),
        ("TIFF", {}),
        ("AVIF", {"quality": 100}),
    ],
    ids=lambda value: str(value),
)
def test_metadata_is_removed_and_the_photo_looks_the_same(
    form: str, options: dict[str, object], orientation: int
) -> None:
    data = tagged(form, orientation, **options)
    clean, suffix = cleaned(data, LIMITS)
    assert any(secret in data for secret in SECRETS)
    assert not any(secret in clean for secret in SECRETS)
    assert suffix == {"JPEG": ".jpg", "WEBP": ".webp"}.get(form, ".png")
    before, after = open_photo(data, LIMITS), open_photo(clean, LIMITS)
    assert before.size == after.size
    assert np.array_equal(np.asarray(before), np.asarray(after))
    if suffix != ".png" or form == "PNG":
        assert cleaned(clean, LIMITS)[0] == clean


def test_a_preview_after_the_photo_is_dropped() -> None:
    clean, _ = cleaned(tagged("JPEG", 6) + tagged("JPEG", 1), LIMITS)
    assert b"SECRET" not in clean
    assert clean.count(b"\xff\xd8\xff") == 1


def test_a_colour_profile_is_kept() -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for form in ("JPEG", "PNG", "WEBP"):
        clean, _ = cleaned(tagged(form, 1, icc_profile=profile), LIMITS)
        assert Image.open(BytesIO(clean)).info.get("icc_profile") == profile, form


def test_files_that_cannot_be_followed_are_stored_as_their_pixels() -> None:
    cut = tagged("JPEG", 1)[:-2]
    clean, suffix = cleaned(cut, LIMITS)
    assert suffix in (".jpg", ".png")
    assert b"SECRET" not in clean


@pytest.mark.parametrize("kind", ["room", "call", "discs", "stripes", "crosses"])
def test_hashes_are_those_of_the_audit(kind: str) -> None:
    for seed in range(2):
        photo = draw(kind, seed)
        assert phash(photo) == hash_photo(photo)
    assert phash(Image.new("RGB", (64, 64), "white")) == ""


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 drawn photos, and a file that is none."""
    folder = tmp_path_factory.mktemp("frozen")
    for seed in range(12):
        draw("room" if seed % 2 else "call", seed).save(folder / f"{seed:02}.jpg", quality=90)
    (folder / "SOURCES.tsv").write_text("path")
    return folder


@pytest.fixture(scope="module")
def hashes(frozen: Path) -> npt.NDArray[np.uint64]:
    return packed(frozen_hashes(frozen))


@pytest.mark.slow
@pytest.mark.parametrize("kind", COPIES)
def test_copies_of_frozen_photos_are_found(kind: str, frozen: Path, hashes: npt.NDArray[np.uint64]) -> None:
    assert all(held_back(copied(path, kind), hashes) for path in frozen.glob("*.jpg"))


def test_other_photos_are_no_copies_of_frozen_ones(hashes: npt.NDArray[np.uint64]) -> None:
    assert min(nearest(phash(draw(kind, 999)), hashes)[1] for kind in ("room", "call", "discs")) > THRESHOLD
    assert nearest("", hashes)[1] > THRESHOLD
    assert nearest(phash(draw("room", 1)), packed([]))[1] > THRESHOLD


def round_trip(store: PhotoStore) -> str:
    key = store.save(b"photo", ".jpg")
    assert store.read(key) == b"photo"
    assert key != store.save(b"photo", ".jpg")
    for wrong in ("../../etc/passwd", "aa/../../x.jpg", f"{key}/", "", f"/{key}"):
        with pytest.raises(NotFound):
            store.read(wrong)
    return key


def test_photos_in_a_folder(tmp_path: Path) -> None:
    store = PhotoStore(str(tmp_path / "photos"))
    key = round_trip(store)
    assert not list(tmp_path.rglob("*.partial"))
    assert store.delete(key)
    assert not store.delete(key)


def test_photos_at_a_url() -> None:
    store = PhotoStore("memory://photos")
    key = round_trip(store)
    assert store.delete(key)
    assert not store.delete(key)
    with pytest.raises(UserError, match="FEEDBACK_PHOTOS"):
        PhotoStore("nothing-like-it://photos")
