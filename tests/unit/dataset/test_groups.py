"""Proposed groups of photos without a source: how they are found, shown, corrected and accepted."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from config.recipe import read_recipe
from dataset.auditing.duplicates import similar_groups
from dataset.auditing.features import describe, standardised
from dataset.auditing.grouping import propose
from dataset.groups import groups
from dataset.photos import read_photos
from dataset.splitting.sources import missing_sources
from dataset.tables import read_rows
from handler.spec import Limits
from tests.helpers.commands import SHAPES, SHIPPED, command
from tests.helpers.small import invoke


def room(seed: int) -> Image.Image:
    """A drawn room: a wall of one colour, and many things in it."""
    dice = np.random.default_rng(seed)
    picture = Image.new("RGB", (1200, 900), tuple(int(value) for value in dice.integers(40, 220, 3)))
    pen = ImageDraw.Draw(picture)
    for _ in range(60):
        x, y = (int(value) for value in dice.integers(0, 1000, 2))
        width, height = (int(value) for value in dice.integers(20, 180, 2))
        pen.rectangle((x, y, x + width, y + height), tuple(int(value) for value in dice.integers(0, 255, 3)))
    return picture


def seen_from(picture: Image.Image, x: int) -> Image.Image:
    """Another photo of the same room, with the camera turned: no near duplicate."""
    return picture.crop((x, 60, x + 800, 660))


def rooms(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, seed, x in (("a1", 1, 0), ("b1", 2, 0), ("a2", 1, 120), ("c1", 3, 100), ("b2", 2, 120), ("a3", 1, 240)):
        seen_from(room(seed), x).save(folder / f"{name}.png")
    return folder


@pytest.mark.slow
def test_features_find_photos_of_one_room_that_hashes_do_not(tmp_path: Path) -> None:
    folder = rooms(tmp_path / "in")
    (folder / "broken.png").write_bytes(b"no photo")
    paths = sorted(folder.iterdir())
    alike = similar_groups(paths, Limits())
    assert alike == list(range(7))
    features = describe(paths, SHIPPED)
    names = [path.name[0] for path in paths]
    assert names == ["a", "a", "a", "b", "b", "b", "c"]  # the third b is the broken one
    # Features are standardised over the photos, so among six of them all distances are large.
    # The third photo of the room a, from the farthest place, stays alone.
    assert propose(features, alike, 0.8) == [0, 0, 2, 3, 3, 5, 6]
    assert propose(features, alike, 0.0) == list(range(7))


def test_groups_are_near_on_average_and_not_by_a_chain() -> None:
    angles = np.radians([0, 20, 40, 60, 200, 205])
    features = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    apart = 1 - np.cos(np.radians(20)) + 1e-6  # of neighbours in the chain 0, 20, 40, 60
    assert propose(features, range(6), apart) == [0, 0, 2, 2, 4, 4]
    assert propose(features, [0, 1, 1, 3, 4, 5], apart) == [0, 0, 0, 0, 4, 4]  # the same image joins two groups
    assert propose(features[:1], [0]) == [0]


def test_features_are_comparable() -> None:
    rows = standardised(np.array([[1, 1000, 5], [2, 3000, 5], [3, 2000, 5]], np.float32))
    assert np.allclose(np.linalg.norm(rows, axis=1), [1, 1, 1])
    assert np.allclose(rows[:, 2], 0)


def copies(folder: Path) -> Path:
    """Two photos that are the same image, twice, and one alone."""
    folder.mkdir(parents=True)
    for name, seed in (("1 <b>.png", 1), ("2.png", 2), ("3.png", 1), ("4.png", 2), ("5.png", 3)):
        room(seed).resize((300, 220)).save(folder / name)
    return folder


@pytest.mark.slow
def test_a_proposal_is_looked_at_corrected_and_accepted(tmp_path: Path) -> None:
    folder, out = copies(tmp_path / "in"), tmp_path / "out"
    (folder / "SOURCES.tsv").write_text("path\tsource\tlicence\n2.png\tschool\tCC0\n5.png\t\tCC0\n")
    done = command("dataset", "groups", folder, "--recipe", SHAPES, "--from", "hashes", "--out", out)
    assert f"{out}/groups.tsv: 2 groups of 4 photos, 1 photo alone" in done.stdout
    assert f"-m dataset groups {folder} --recipe {SHAPES} --out {out} --accept" in done.stdout
    rows = read_rows(out / "groups.tsv")
    assert {Path(row["path"]).name: row["source"] for row in rows} == {
        "1 <b>.png": "group-0001",
        "3.png": "group-0001",
        "2.png": "group-0002",
        "4.png": "group-0002",
        "5.png": "",
    }
    page = (out / "groups.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 4
    assert "1 &lt;b&gt;.png" in page
    assert "http" not in page  # nothing from elsewhere
    assert not (folder / "groups.tsv").exists()
    text = (out / "groups.tsv").read_text()
    (out / "groups.tsv").write_text(text.replace("5.png\t", "5.png\tcellar"))
    done = command("dataset", "groups", folder, "--recipe", SHAPES, "--out", out, "--accept")
    assert "4 photos had a source" not in done.stderr
    assert "1 photo had a source already, which was kept" in done.stderr
    assert {row["path"]: row["source"] for row in read_rows(folder / "SOURCES.tsv")} == {
        "2.png": "school",
        "5.png": "cellar",
        "1 <b>.png": "group-0001",
        "3.png": "group-0001",
        "4.png": "group-0002",
    }
    assert [row["licence"] for row in read_rows(folder / "SOURCES.tsv")] == ["CC0", "CC0", "", "", ""]


@pytest.mark.slow
def test_accepted_groups_are_the_sources_of_a_labelled_table(tmp_path: Path) -> None:
    folder, out = copies(tmp_path / "in"), tmp_path / "out"
    labels = read_recipe(SHAPES).labels
    lines = [f"{path.name}\t{labels[place % 3]}" for place, path in enumerate(sorted(folder.iterdir()))]
    (folder / "labels.tsv").write_text("\n".join(["path\tlabel", *lines]) + "\n")
    assert missing_sources(read_photos(folder / "labels.tsv", labels))
    invoke(groups, folder, "--from", "hashes", "--out", out)
    invoke(groups, folder, "--out", out, "--accept")
    photos = read_photos(folder / "labels.tsv", labels)
    assert not missing_sources(photos)
    assert {photo.path.name: photo.source for photo in photos}["3.png"] == "group-0001"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["{}/one"], "has 1 photo: give a folder with 2 to 20000"),
        (["{}/two", "--accept"], "groups.tsv does not exist: make the proposal first: "),
        (["{}/two", "--model", "{}/one"], "has no model.onnx: give a bundle with --model, or use --from hashes"),
    ],
)
def test_errors_are_one_line_that_names_the_fix(tmp_path: Path, words: list[str], expected: str) -> None:
    copies(tmp_path / "two")
    (tmp_path / "one").mkdir()
    shutil.copy(tmp_path / "two" / "2.png", tmp_path / "one")
    filled = [word.replace("{}", str(tmp_path)) for word in words]
    done = command("dataset", "groups", *filled, "--out", tmp_path / "out", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert expected in done.stderr
