"""`dataset convert`: from Oxford-IIIT Pet to lists, and from lists to photos with their part."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from common.errors import UserError
from config.recipe import read_recipe
from dataset.__main__ import main
from dataset.photos import Photo, read_photos
from tests.helpers import pictures
from tests.helpers.commands import SHAPES
from training.data.selection import divide

LABELS = list(pictures.OXFORD)


@pytest.fixture
def oxford(tmp_path: Path) -> Path:
    """The layout that torchvision's class leaves, with one damaged photo."""
    pictures.oxford(tmp_path / "root" / "oxford-iiit-pet")
    broken = tmp_path / "root" / "oxford-iiit-pet" / "images" / "american_bulldog_3.jpg"
    broken.write_bytes(broken.read_bytes()[:500])
    return tmp_path / "root"


def convert(oxford: Path, out: Path) -> Result:
    return CliRunner().invoke(main, ["convert", "pets", str(oxford), "--out", str(out)], standalone_mode=True)


def test_lists_have_the_format_of_the_document(oxford: Path, tmp_path: Path) -> None:
    done = convert(oxford, tmp_path / "pets")
    assert done.exit_code == 0, done.output
    assert "american_bulldog_3.jpg cannot be read and is left out" in done.output
    assert f"-m training train pets --data {tmp_path / 'pets'}" in done.output.splitlines()[-1]
    assert (tmp_path / "pets" / "labels.txt").read_text().split() == LABELS
    lines = (tmp_path / "pets" / "trainval.txt").read_text().splitlines()
    assert lines[:2] == [
        "0 trainval/Abyssinian/Abyssinian_0.jpg",
        "1 trainval/american_bulldog/american_bulldog_1.jpg",
    ]
    assert len(lines) == 17
    assert (tmp_path / "pets" / "test.txt").read_text().splitlines()[
        1
    ] == "1 test/american_bulldog/american_bulldog_19.jpg"
    source = oxford / "oxford-iiit-pet" / "images" / "Abyssinian_0.jpg"
    assert (tmp_path / "pets" / "trainval" / "Abyssinian" / "Abyssinian_0.jpg").read_bytes() == source.read_bytes()


def test_a_class_without_a_readable_photo_is_named(oxford: Path, tmp_path: Path) -> None:
    for path in (oxford / "oxford-iiit-pet" / "images").glob("american_bulldog_*"):
        path.write_bytes(b"")
    done = convert(oxford, tmp_path / "pets")
    assert done.exit_code == 1
    assert "no photo of american_bulldog in trainval can be read, so no model could be trained: unpack" in done.output
    assert not (tmp_path / "pets").exists()


@pytest.mark.slow
def test_photos_of_the_test_list_are_neither_trained_on_nor_held_out(oxford: Path, tmp_path: Path) -> None:
    convert(oxford, tmp_path / "pets")
    photos = read_photos(tmp_path / "pets", LABELS)
    assert sorted(photo.part for photo in photos) == [""] * 17 + ["test"] * 2
    assert all(photo.path.is_file() and LABELS[photo.label] in photo.path.name for photo in photos)
    content = yaml.safe_load(SHAPES.read_text()) | {"labels": LABELS, "drawn": {}}
    recipe = tmp_path / "two.yaml"
    recipe.write_text(json.dumps(content))
    training, held_out = divide(photos, read_recipe(recipe))
    assert {photo.part for photo in [*training, *held_out]} == {""}
    assert len(training) + len(held_out) == 17
    assert not {photo.path for photo in training} & {photo.path for photo in held_out}


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("annotations/trainval.txt", "Abyssinian_0 0 1 1\n", "is not NAME CLASS SPECIES BREED"),
        ("annotations/trainval.txt", "../Abyssinian_0 1 1 1\n", "is not NAME CLASS SPECIES BREED"),
        ("annotations/trainval.txt", "Abyssinian_0 3 1 1\n", "Abyssinian is class 3 and 1"),
        ("annotations/trainval.txt", "Bengal_0 4 1 1\n", "the lists have no photo of class 3: correct them"),
        ("annotations/test.txt", "Bengal_0 1 1 1\n", "class 1 is Abyssinian and Bengal"),
    ],
)
def test_an_invalid_published_list_is_refused(oxford: Path, tmp_path: Path, name: str, text: str, fault: str) -> None:
    (oxford / "oxford-iiit-pet" / name).write_text(text)
    done = convert(oxford, tmp_path / "pets")
    assert done.exit_code == 1
    assert fault in done.output
    assert not (tmp_path / "pets").exists()


def test_another_layout_is_refused(tmp_path: Path) -> None:
    done = convert(tmp_path, tmp_path / "pets")
    assert done.exit_code == 1
    assert "has no images/ and annotations/" in done.output


def read(folder: Path) -> list[Photo]:
    return read_photos(folder, LABELS)


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("labels.txt", "american_bulldog\nAbyssinian\n", "is not the recipe's list of labels"),
        ("trainval.txt", "2 trainval/Abyssinian/Abyssinian_0.jpg\n", "CLASS from 0 to 1"),
        ("trainval.txt", "0 trainval/Abyssinian/none.jpg\n", "there is no such file"),
        ("test.txt", "0 trainval/Abyssinian/Abyssinian_0.jpg\n", "is in trainval.txt too"),
    ],
)
def test_invalid_lists_are_refused(oxford: Path, tmp_path: Path, name: str, text: str, fault: str) -> None:
    convert(oxford, tmp_path / "pets")
    (tmp_path / "pets" / name).write_text(text)
    with pytest.raises(UserError, match=fault):
        read(tmp_path / "pets")
