"""What may be trained on, held out, and learned from as no class."""

from pathlib import Path

import pytest

from common.errors import InvalidInput
from config.recipe import NO_CLASS, read_recipe
from dataset.photos import Photo
from dataset.tables import write_rows
from tests.helpers.commands import SHAPES
from training.data.outside import read_outside, trained_on
from training.data.selection import read_data, tell_leak
from training.fitting.trainer import train_run


def photo(path: Path, content: bytes, source: str, part: str = "") -> Photo:
    path.write_bytes(content)
    return Photo(path, 0, source, part)


def test_shared_sources_and_bytes_of_both_parts_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    training = [photo(tmp_path / "a.jpg", b"a", "ONE"), photo(tmp_path / "b.jpg", b"b", "TWO")]
    held_out = [photo(tmp_path / "c.jpg", b"c", "ONE"), photo(tmp_path / "d.jpg", b"b", "THREE")]
    tell_leak(training, held_out[:1])
    said = " ".join(capsys.readouterr().err.split())
    assert "1 of 1 held-out photo of the source of a photo that is trained on" in said
    assert "with the bytes" not in said
    tell_leak(training, held_out[1:])
    assert "with the bytes of a photo that is trained on" in " ".join(capsys.readouterr().err.split())
    tell_leak(training[:1], held_out[1:])
    assert capsys.readouterr().err == ""


def test_a_photo_of_two_data_sets_is_refused(tmp_path: Path) -> None:
    recipe = read_recipe(SHAPES)
    for label in recipe.labels:
        (tmp_path / label).mkdir()
        (tmp_path / label / "0.png").write_bytes(b"x")
    (tmp_path / "linked").symlink_to(tmp_path)
    with pytest.raises(InvalidInput, match=r"0\.png is in --data .* and in --data .*linked: give one of them"):
        read_data((tmp_path, tmp_path / "linked"), (), recipe)


def test_pictures_of_no_class_that_are_all_held_out_are_refused(tmp_path: Path) -> None:
    recipe, table = read_recipe(SHAPES), tmp_path / "t.tsv"
    (tmp_path / "0.png").write_bytes(b"x")
    write_rows(table, ("path", "label", "split"), [{"path": "0.png", "label": NO_CLASS, "split": "val"}])
    held_out = read_outside((table,), (), (), (), recipe)
    with pytest.raises(InvalidInput, match=r"--outside: 0 photos of no class to train on \(1 of 1 are held out\)"):
        trained_on(held_out)
    write_rows(table, ("path", "label", "split"), [{"path": "0.png", "label": NO_CLASS, "split": "Train"}])
    with pytest.raises(InvalidInput, match=r"0\.png has the split 'Train': write train, val, test, or nothing"):
        read_outside((table,), (), (), (), recipe)


def test_labelled_pictures_of_no_class_that_are_too_few_do_not_stop_a_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = [Photo(tmp_path / f"{number}.png", -2, "", "train" if number < 9 else "val") for number in range(29)]
    assert trained_on(photos, asked=False) == []
    assert capsys.readouterr().err == (
        "warning: 9 photos of no class to train on (20 of 29 are held out), but 10 are needed, so the model is made "
        "without a scope and gives every photo one of its classes: label more photos no_class, or split with a "
        "larger --train, for example 0.6\n"
    )
    with pytest.raises(InvalidInput, match="10 are needed: add photos, or split with a larger --train"):
        trained_on(photos)
    assert trained_on([*photos, photos[0]], asked=False) == [*photos[:9], photos[0]]


def test_too_few_pictures_of_no_class_are_refused_before_the_training(tmp_path: Path) -> None:
    recipe = read_recipe(SHAPES)
    photos = [
        Photo(photo(tmp_path / f"{number}.png", bytes([number]), "").path, number % 3, str(number))
        for number in range(30)
    ]
    few = [Photo(photo(tmp_path / "no.png", b"no", "").path, -2, "no")]
    with pytest.raises(InvalidInput, match="cannot be divided into 5 folds"):
        train_run(recipe, photos, (), tmp_path / "runs", outside=few)
    assert not (tmp_path / "runs").exists()
