"""Drawn photos: reproducible, varied, and what each of them shows."""

import random
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from common.errors import UserError
from config.recipe import NO_CLASS, read_recipe
from dataset.draw import DRAWINGS, draw
from dataset.drawing.cameras import Camera
from dataset.drawing.devices import desk, place_laptop, place_phone
from dataset.drawing.lessons import lesson
from dataset.drawing.papers import papers
from dataset.drawing.rooms import framed
from dataset.drawing.things import things
from dataset.drawing.tools import Corners, stand
from dataset.drawing.windows import full_frame, page, phone, waiting, window
from dataset.drawing.worlds import world
from dataset.photos import Photo, read_photos
from dataset.sample import draw_set, sample
from dataset.tables import read_rows

LABELS = ("disc", "stripe", "cross")
MAGENTA = (255, 0, 255)


def magenta(rng: random.Random, width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), MAGENTA)


def share(image: Image.Image) -> float:
    """The share of pixels that show what the camera shows, also where a screen is a little brighter or darker."""
    red, green, blue = np.asarray(image, dtype=np.int16).transpose(2, 0, 1)
    return float(((red > 120) & (blue > 120) & (green < red - 80) & (abs(red - blue) < 12)).mean())


@pytest.mark.parametrize("kind", sorted(DRAWINGS))
def test_a_seed_decides_the_drawing(kind: str) -> None:
    first, again, other = draw(kind, 3), draw(kind, 3), draw(kind, 4)
    assert first.mode == "RGB" and 480 <= first.width <= 1280
    assert first.tobytes() == again.tobytes()
    assert first.size != other.size or first.tobytes() != other.tobytes()


def laptop(rng: random.Random, width: int, height: int, camera: Camera) -> Image.Image:
    image = desk(rng, width, height)
    place_laptop(image, rng, full_frame(rng, 320, 200, camera), 0.8)
    return image


def in_hand(rng: random.Random, width: int, height: int, camera: Camera) -> Image.Image:
    image = desk(rng, width, height)
    place_phone(image, rng, full_frame(rng, 200, 360, camera), 0.9)
    return image


@pytest.mark.parametrize(
    ("show", "least", "most"),
    [(full_frame, 0.35, 0.99), (laptop, 0.15, 0.85), (in_hand, 0.04, 0.7), (world, 0.002, 0.5), (window, 0.05, 1.0)],
)
def test_a_call_shows_cameras_and_more(
    show: Callable[[random.Random, int, int, Camera], Image.Image], least: float, most: float
) -> None:
    shares = [share(show(random.Random(seed), 400, 300, magenta)) for seed in range(12)]
    assert least < np.median(shares) < most
    assert len(set(shares)) > 6, "nearly all are alike"


def test_a_lesson_is_mostly_a_slide() -> None:
    shares = [share(lesson(random.Random(seed), 400, 300, magenta)) for seed in range(16)]
    assert max(shares) < 0.2
    assert sum(cameras > 0.005 for cameras in shares) in range(3, 13), "some have cameras, some have none"


def test_a_window_in_which_nobody_shows_a_camera_is_nearly_empty_and_mostly_dark() -> None:
    def commonest(image: Image.Image) -> tuple[float, int]:
        """The share of the commonest colour, and its largest channel."""
        colours, counts = np.unique(np.asarray(image).reshape(-1, 3), axis=0, return_counts=True)
        return float(counts.max() / counts.sum()), int(colours[counts.argmax()].max())

    shares, levels = zip(*(commonest(waiting(random.Random(seed), 400, 300)) for seed in range(20)), strict=True)
    assert min(shares) > 0.4
    assert 12 <= sum(level < 80 for level in levels) < 20


def test_things_have_no_paper_of_one_colour() -> None:
    def paper(image: Image.Image) -> float:
        small = image.convert("RGB").resize((200, 150), Image.Resampling.NEAREST)
        return max(count for count, _ in small.getcolors(200 * 150) or []) / (200 * 150)

    shares = {show: [paper(show(random.Random(seed), 400, 300)) for seed in range(12)] for show in (papers, things)}
    assert np.median(shares[papers]) > 0.3 > max(shares[things])


def test_a_phone_is_upright_and_keeps_its_size() -> None:
    assert {phone(random.Random(seed), 200, 360, magenta).size for seed in range(6)} == {(200, 360)}


def test_a_laptop_without_a_call_shows_no_camera() -> None:
    for seed in range(6):
        image = Image.new("RGB", (400, 300), (120, 120, 120))
        rng = random.Random(seed)
        place_laptop(image, rng, page(rng, 320, 200), 0.6)
        assert np.asarray(image).std() > 5, "no laptop"
        assert share(image) < 0.02


def test_a_framed_photo_stays_whole_between_bars() -> None:
    for seed in range(6):
        image = framed(Image.new("RGB", (600, 400), MAGENTA), random.Random(seed))
        columns = (np.asarray(image) == MAGENTA).all(axis=2)
        height, width = (int(columns.any(axis=axis).sum()) for axis in (1, 0))
        assert width / height == pytest.approx(1.5, abs=0.02)
        assert share(image) < 0.99


def test_a_picture_in_perspective_reaches_its_corners() -> None:
    picture = Image.new("RGB", (100, 60), "red")
    picture.paste((0, 0, 255), (50, 30, 100, 60))
    image = Image.new("RGB", (200, 200))
    corners: Corners = ((20, 30), (180, 50), (170, 150), (30, 160))
    stand(image, picture, corners)
    assert image.getpixel((26, 36)) == (255, 0, 0)
    assert image.getpixel((172, 56)) == (255, 0, 0)
    assert image.getpixel((165, 146)) == (0, 0, 255)
    assert image.getpixel((10, 100)) == image.getpixel((190, 100)) == (0, 0, 0)


def test_photos_of_no_class_are_drawn_only_for_a_recipe_that_names_them(tmp_path: Path) -> None:
    recipe = read_recipe("shapes")
    draw_set(tmp_path / "plain", recipe, 2, seed=0)
    assert not (tmp_path / "plain" / NO_CLASS).exists()
    recipe = recipe.model_copy(update={"drawn": {**recipe.drawn, NO_CLASS: "papers"}})
    draw_set(tmp_path / "more", recipe, 2, seed=0)
    photos = read_photos(tmp_path / "more", recipe.labels, outside=True)
    assert [photo.label for photo in photos] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(read_photos(tmp_path / "more", recipe.labels)) == 6


def test_a_label_can_be_drawn_as_another_kind(tmp_path: Path) -> None:
    asked = [str(tmp_path / "some"), "--recipe", "shapes", "--count", "1", "--draw", "disc=waiting"]
    assert CliRunner().invoke(sample, asked, catch_exceptions=False).exit_code == 0
    kinds = {label: draw(kind, 0) for label, kind in (("disc", "waiting"), ("cross", "crosses"))}
    for label, expected in kinds.items():
        with Image.open(tmp_path / "some" / label / "0000.jpg") as drawn:
            assert drawn.size == expected.size
            assert np.abs(np.asarray(drawn, np.int16) - np.asarray(expected, np.int16)).mean() < 8
    for wrong, told in (("disc", "LABEL=KIND"), ("disc=moon", "LABEL=KIND"), ("moon=disc", "LABEL=KIND")):
        result = CliRunner().invoke(sample, [*asked[:-1], wrong])
        assert result.exit_code == 2 and told in result.output
    result = CliRunner().invoke(sample, [*asked[:-1], "moon=discs"])
    assert result.exit_code != 0 and "no such label" in result.output


def test_rows_of_other_photos_stay_and_fewer_drawings_keep_their_rows(tmp_path: Path) -> None:
    table = tmp_path / "SOURCES.tsv"
    table.write_text("path\tsource\troom\nmine/x.jpg\tmy site\tB\n")
    draw_set(tmp_path, read_recipe("shapes"), 2, seed=0)
    before = read_rows(table)
    assert before[0] == {"path": "mine/x.jpg", "source": "my site", "room": "B", "open_licence": ""}
    draw_set(tmp_path, read_recipe("shapes"), 1, seed=0)
    assert read_rows(table) == before and len(before) == 7


@pytest.mark.parametrize("text", ["path\tsource\ndisc/0001.jpg\tmy site\n", None])
def test_a_photo_that_was_not_drawn_gets_no_source(tmp_path: Path, text: str | None) -> None:
    photo, table = tmp_path / "disc" / "0001.jpg", tmp_path / "SOURCES.tsv"
    photo.parent.mkdir()
    photo.write_bytes(b"mine")
    if text:
        table.write_text(text)
    with pytest.raises(UserError, match=r"disc/0001.jpg was not drawn by this command: give another FOLDER"):
        draw_set(tmp_path, read_recipe("shapes"), 2, seed=0)
    assert list(photo.parent.iterdir()) == [photo]
    assert (table.read_text() if table.exists() else None) == text


def test_an_interrupted_drawing_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = Image.new("RGB", (64, 64))
    monkeypatch.setattr("dataset.sample.draw", Mock(side_effect=[drawn, KeyboardInterrupt]))
    with pytest.raises(KeyboardInterrupt):
        draw_set(tmp_path, read_recipe("shapes"), 1, seed=0)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.rglob("*.jpg")] == ["0000.jpg"]
    draw_set(tmp_path, read_recipe("shapes"), 1, seed=0)
    assert [photo.source for photo in read_photos(tmp_path, LABELS)] == [f"drawn/{label}/0" for label in LABELS]


@pytest.mark.slow
def test_every_second_drawing_uses_photos_of_rooms_to_train_on(tmp_path: Path) -> None:
    recipe = read_recipe("shapes")
    recipe = recipe.model_copy(
        update={"labels": ("offline", "online"), "drawn": {"offline": "rooms", "online": "screens"}}
    )
    rooms = []
    for part, colour in (("train", MAGENTA), ("val", (0, 255, 0))):
        path = tmp_path / f"{part}.png"
        Image.new("RGB", (320, 240), colour).save(path)
        rooms.append(Photo(path, 0, f"source {part}", part))
    draw_set(tmp_path / "drawn", recipe, 6, 0, rooms)
    sources = [row["source"] for row in read_rows(tmp_path / "drawn" / "SOURCES.tsv", ("path", "source"))]
    assert sources == [
        "source train" if n % 2 else f"drawn/{label}/{n}" for label in ("offline", "online") for n in range(6)
    ]
    shown = [Image.open(tmp_path / "drawn" / "offline" / name) for name in ("0001.jpg", "0003.png", "0005.jpg")]
    assert all(share(photo.convert("RGB")) > 0.05 for photo in shown)
