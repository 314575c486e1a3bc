"""`dataset fetch`: label folders from torchvision's files, and errors that name the missing downloads."""

from pathlib import Path

import click.testing
import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

from config.recipe import read_recipe
from dataset.__main__ import main
from dataset.photos import counts, read_photos
from tests.helpers.small import write_mnist

NOWHERE = "http://127.0.0.1:9/"  # nothing listens on the discard port


def run(*words: object) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, ["fetch", *map(str, words)])


def test_mnist_becomes_label_folders_that_its_recipe_reads(tmp_path: Path) -> None:
    photos = write_mnist(tmp_path / "files" / "MNIST" / "raw", 30)
    done = run("mnist", "--out", tmp_path / "out", "--files", tmp_path / "files")
    assert done.exit_code == 0, done.output
    assert "30 photos in train, 30 photos in val" in done.output
    labels = read_recipe("mnist").labels
    downloaded = read_photos(tmp_path / "out", labels)
    assert counts(downloaded, labels) == dict.fromkeys(labels, 6)
    with Image.open(tmp_path / "out" / "train" / "3" / "00013.png") as photo:
        assert np.array_equal(np.asarray(photo), photos[13])


def test_pets_are_copied_unchanged(tmp_path: Path) -> None:
    place = tmp_path / "files" / "oxford-iiit-pet"
    for name in ("images", "annotations"):
        (place / name).mkdir(parents=True)
    for name in ("Abyssinian_1", "great_pyrenees_2"):
        (place / "images" / f"{name}.jpg").write_bytes(name.encode())
    for part in ("trainval", "test"):
        (place / "annotations" / f"{part}.txt").write_text("Abyssinian_1 1 1 1\ngreat_pyrenees_2 2 2 1\n")
    done = run("pets", "--out", tmp_path / "out", "--files", tmp_path / "files")
    assert done.exit_code == 0, done.output
    read = {path.relative_to(tmp_path / "out").as_posix(): path.read_bytes() for path in tmp_path.glob("out/*/*/*")}
    assert read["train/Abyssinian/00000.jpg"] == b"Abyssinian_1"
    assert read["val/Great Pyrenees/00001.jpg"] == b"great_pyrenees_2"
    assert len(read) == 4


@pytest.mark.parametrize(
    ("name", "file"),
    [("cifar10", "cifar-10-python.tar.gz"), ("mnist", "MNIST/raw/t10k-labels-idx1-ubyte.gz")],
)
def test_without_a_download_the_error_says_which_file_goes_where(
    name: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.CIFAR10, "url", NOWHERE)
    monkeypatch.setattr(datasets.MNIST, "mirrors", [NOWHERE])
    done = run(name, "--out", tmp_path / "out", "--files", tmp_path / "files")
    assert done.exit_code == 1
    assert done.stderr.strip().splitlines()[-1].startswith("Error: ")
    assert str(tmp_path / "files" / file) in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["files"]


def test_the_fix_of_a_damaged_extracted_file_is_to_delete_it(tmp_path: Path) -> None:
    raw = tmp_path / "files" / "MNIST" / "raw"
    write_mnist(raw, 30)
    with (raw / "train-images-idx3-ubyte").open("r+b") as file:
        file.truncate(10_000)
    done = run("mnist", "--out", tmp_path / "out", "--files", tmp_path / "files")
    assert done.exit_code == 1
    assert f"delete {raw}/*-ubyte and run this again" in done.stderr


def test_an_existing_folder_is_never_written_into(tmp_path: Path) -> None:
    done = run("mnist", "--out", tmp_path)
    assert done.exit_code == 1
    assert "already exists: remove it" in done.stderr
