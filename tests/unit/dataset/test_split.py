"""`dataset split` and `balance`: sources and near duplicates stay together, shares are as close as possible."""

import itertools
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import DEFAULT, Mock

import click
import click.testing
import numpy as np
import pytest
from PIL import Image
from rich.cells import cell_len

import dataset.split
from common.errors import UserError
from common.files import write_whole
from config.recipe import NO_CLASS, read_recipe
from dataset.balance import balance, brighten, plan, saturate
from dataset.photos import PARTS, Photo, counts, read_photos
from dataset.split import split
from dataset.splitting.search import FEW, _Search, assign
from dataset.splitting.sources import assign_sources, missing_sources
from dataset.tables import read_rows
from tests.helpers import pictures
from tests.helpers.commands import SHAPES
from tests.helpers.pictures import draw_small_set

LABELS = ("disc", "stripe", "cross")


@pytest.mark.parametrize("seed", range(12))
def test_the_shares_are_the_nearest_that_whole_groups_allow(seed: int) -> None:
    """Compared with every possible split of eight groups."""
    groups = np.random.default_rng(seed).integers(0, 40, (8, 2))
    search = _Search(groups, np.array((0.3, 0.7)), [None] * 8)
    best = min(search.cost(np.array(parts)) for parts in itertools.product((0, 1), repeat=8))
    assert search.cost(np.array(assign(groups, (0.3, 0.7), seed))) == pytest.approx(best)


@pytest.mark.slow
def test_without_sources_split_warns_and_finds_them_by_a_rule(photos: Path, tmp_path: Path) -> None:
    (photos / "SOURCES.tsv").unlink()
    out = tmp_path / "split.tsv"
    done = run(photos, "--recipe", SHAPES, "--out", out)
    assert "warning: none of the 30 photos names its source" in " ".join(done.output.split())
    assert {row["source"] for row in read_rows(out)} == {""}
    for path in [path for path in photos.rglob("*") if path.is_file()]:
        path.rename(path.with_name(f"{'call_a' if int(path.stem) % 2 else 'call_b'} ({path.stem}){path.suffix}"))
    for rule in ("prefix", r"(call_.)", r"call_."):
        done = run(photos, "--recipe", SHAPES, "--out", out, "--source-from", rule, "--few-sources")
        assert done.exit_code == 0, done.output
        assert "warning" not in done.output
        parts = {
            row["source"]: {other["split"] for other in read_rows(out) if other["source"] == row["source"]}
            for row in read_rows(out)
        }
        assert parts in ({"call_a": {"train"}, "call_b": {"val"}}, {"call_a": {"val"}, "call_b": {"train"}})


def test_split_says_how_many_photos_name_no_source(photos: Path, tmp_path: Path) -> None:
    table = photos / "SOURCES.tsv"
    table.write_text(table.read_text().replace("disc/", "disk/"))
    done = run(photos, "--recipe", SHAPES, "--out", tmp_path / "s.tsv")
    assert "SOURCES.tsv: 10 of 30 rows name no photo here, for example disk/0000.jpg" in done.output
    assert "10 of 30 photos (33%) name no source: each counts as its own" in done.output


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("folder", ["rooms/a", "rooms/a", "rooms", "0007.jpg"]),
        ("prefix", ["cam1", "cam 1", "IMG", "0007.jpg"]),
        ("site", ["x", "y", "z", "0007.jpg"]),
        (r"cam ?(\d)", ["1", "1", "rooms/IMG_2021.jpg", "0007.jpg"]),
    ],
)
def test_rules_for_sources(rule: str, expected: list[str]) -> None:
    names = ["rooms/a/cam1-003.jpg", "rooms/a/cam 1 (4).png", "rooms/IMG_2021.jpg", "0007.jpg"]
    sites = ["x", "y", "z", ""]
    photos = [Photo(Path(name), 0, name, row={"site": site}) for name, site in zip(names, sites, strict=True)]
    assert [photo.source for photo in assign_sources(photos, names, rule)] == expected


@pytest.mark.parametrize(
    ("rule", "words"), [("(", "is not a regular expression"), ("xyz", "no photo matches, for example")]
)
def test_a_rule_that_finds_nothing_is_refused(rule: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        assign_sources([Photo(Path("a.jpg"), 0, "a.jpg")], ["a.jpg"], rule)


@pytest.mark.parametrize(
    ("looks", "words"),
    [
        (
            [0, 0, 2, 2, 4, 4],
            "in 2 groups of near duplicates, for example 0.jpg (disc) and 1.jpg (stripe): correct the",
        ),
        (range(6), ""),
    ],
)
def test_photos_that_look_alike_and_have_different_labels_are_counted(
    looks: Sequence[int], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = [Photo(Path(f"{index}.jpg"), label, "") for index, label in enumerate((0, 1, 1, 0, 2, 2))]
    monkeypatch.setattr(dataset.split, "similar_groups", lambda *_: looks)
    dataset.split.group(photos, read_recipe(SHAPES), near=True)
    output = capsys.readouterr().err
    assert words in output
    assert bool(output) == bool(words)


def test_copies_do_not_hide_that_no_source_is_named() -> None:
    photos = [Photo(Path(name), 0, name) for name in ("a.jpg", "b.jpg")]
    copy = Photo(Path("crop_a.jpg"), 0, "a.jpg", row={"source": "a.jpg", "made_from": "a.jpg"})
    assert missing_sources([*photos, copy]).startswith("none of the 2 photos names its source")
    assert missing_sources([*photos, Photo(Path("c.jpg"), 0, "x", row={"source": "x"})]) == ""
    assert missing_sources([photos[0], copy]) == ""


def test_many_small_groups_reach_the_shares_exactly() -> None:
    groups = np.eye(2, dtype=np.int64)[np.arange(1000) % 2]
    parts = assign(groups, (0.3, 0.5, 0.2), 0)
    assert np.bincount(parts).tolist() == [300, 500, 200]


def test_fixed_groups_stay_and_a_part_with_share_0_is_empty() -> None:
    groups = np.ones((20, 2), np.int64)
    parts = assign(groups, (0.5, 0.5, 0.0), 3, [1, 1, *[None] * 18])
    assert parts[:2] == [1, 1]
    assert Counter(parts) == {0: 10, 1: 10}


def test_two_groups_of_each_class_have_priority_over_the_share() -> None:
    groups = np.array([[50, 0], [1, 0], [1, 0], [48, 0], [0, 10], [0, 10], [0, 10], [0, 10]])
    parts = np.array(assign(groups, (0.5, 0.5), 0))
    for part in (0, 1):
        assert ((groups[parts == part] > 0).sum(0) >= FEW).all()


@pytest.fixture(scope="module")
def drawn_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "photos"
    draw_small_set(folder, read_recipe(SHAPES), 10, 0)
    return folder


@pytest.fixture
def photos(drawn_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drawn_once, tmp_path / "photos"))


def run(*arguments: object, near: bool = False) -> click.testing.Result:
    """Run the command; without `near` it does not hash the photos, which takes seconds."""
    words = [*arguments, "--near" if near else "--no-near"]
    return click.testing.CliRunner().invoke(split, [str(word) for word in words])


@pytest.mark.slow
def test_a_table_gives_the_same_photos_as_the_folders(photos: Path, tmp_path: Path) -> None:
    for out in (tmp_path / "split.tsv", tmp_path / "folders"):
        done = run(photos, "--recipe", SHAPES, "--out", out)
        assert done.exit_code == 0, done.output
    table, folders = (read_photos(place, LABELS) for place in (tmp_path / "split.tsv", tmp_path / "folders"))
    assert sorted((p.path.name, p.label, p.source, p.part) for p in table) == sorted(
        (p.path.name, p.label, p.source, p.part) for p in folders
    )
    assert counts([p for p in table if p.part == "train"], LABELS) == dict.fromkeys(LABELS, 3)
    assert counts([p for p in table if p.part == "val"], LABELS) == dict.fromkeys(LABELS, 7)
    assert {row.row["open_licence"] for row in (*table, *folders)} == {"yes"}
    assert read_photos(tmp_path / "folders", LABELS, {"open_licence": "yes"}) == folders
    assert "-m training train" in done.output


@pytest.mark.slow
def test_photos_of_no_class_are_split_by_source_and_are_in_no_class(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos / LABELS[0], photos / "no_class")
    for index, path in enumerate(sorted((photos / "no_class").iterdir())):
        path.rename(path.with_name(f"shop{index // 2}-{index}{path.suffix}"))
    assert run(photos, "--recipe", SHAPES, "--out", tmp_path / "plain.tsv", "--source-from", "prefix").exit_code == 0
    assert run(tmp_path / "plain.tsv", "--recipe", SHAPES, "--out", tmp_path / "folders").exit_code == 0
    for place in (tmp_path / "plain.tsv", tmp_path / "folders"):
        every = read_photos(place, LABELS, outside=True)
        added = [photo for photo in every if photo.label == len(LABELS)]
        assert len(added) == 10
        assert [photo for photo in every if photo not in added] == read_photos(place, LABELS)
        parts = {photo.source: photo.part for photo in added}
        assert set(parts.values()) == {"train", "val"}
        assert all(photo.part == parts[photo.source] for photo in added)


@pytest.mark.slow
def test_near_duplicates_and_sources_stay_together(photos: Path, tmp_path: Path) -> None:
    for index in range(6):
        original = photos / "disc" / f"000{index}.{'png' if index % 4 == 3 else 'jpg'}"
        Image.open(original).convert("RGB").save(photos / "disc" / f"copy{index}.jpg", quality=40)
    with (photos / "SOURCES.tsv").open("a") as table:
        for index in range(6):
            (photos / "stripe" / f"same{index}.jpg").write_bytes(
                pictures.encode(pictures.photo("stripes", index), "JPEG")
            )
            table.write(f"stripe/same{index}.jpg\tone place\tyes\n")
    done = run(photos, "--recipe", SHAPES, "--out", tmp_path / "s.tsv", "--train", "0.5", near=True)
    assert done.exit_code == 0, done.output
    part = {p.path.stem: p.part for p in read_photos(tmp_path / "s.tsv", LABELS) if p.label == 0}
    assert all(part[f"copy{index}"] == part[f"000{index}"] for index in range(6))
    rows_read = read_photos(tmp_path / "s.tsv", LABELS)
    assert len({p.part for p in rows_read if p.row["source"] == "one place"}) == 1


@pytest.mark.slow
def test_photos_of_the_test_part_stay_there(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.tsv"
    assert run(photos, "--recipe", SHAPES, "--out", out, "--test", "0.2").exit_code == 0
    before = {p.path for p in read_photos(out, LABELS) if p.part == "test"}
    assert len(before) == 6
    draw_small_set(photos, read_recipe(SHAPES), 20, 0)
    assert run(photos, "--recipe", SHAPES, "--out", out, "--seed", "5").exit_code == 0
    after = {p.path for p in read_photos(out, LABELS) if p.part == "test"}
    assert after == before
    assert run(photos, "--recipe", SHAPES, "--out", out, "--test", "0.3", "--seed", "7").exit_code == 0
    assert before < {p.path for p in read_photos(out, LABELS) if p.part == "test"}


@pytest.mark.slow
def test_a_part_with_one_source_of_a_class_is_refused_without_few_sources(photos: Path, tmp_path: Path) -> None:
    table = photos / "SOURCES.tsv"
    table.write_text(re.sub(r"drawn/disc/[1-9]", "one place", table.read_text()))
    done = run(photos, "--recipe", SHAPES, "--out", tmp_path / "s.tsv")
    assert done.exit_code == 1
    assert "would have 1 source of disc, fewer than 2" in done.output
    assert "--few-sources" in done.output
    assert not (tmp_path / "s.tsv").exists()
    assert run(photos, "--recipe", SHAPES, "--out", tmp_path / "s.tsv", "--few-sources").exit_code == 0


@pytest.mark.parametrize("pattern", ["drawn/disc/", r"drawn/\w+/"])
@pytest.mark.parametrize("more", [[], ["--few-sources"]])
def test_a_split_that_cannot_be_trained_is_refused(photos: Path, tmp_path: Path, pattern: str, more: list[str]) -> None:
    """With one source of a class, or of all, train or val would have none."""
    table = photos / "SOURCES.tsv"
    table.write_text(re.sub(rf"{pattern}\d+", "one place", table.read_text()))
    done = run(photos, "--recipe", SHAPES, "--out", tmp_path / "s.tsv", *more)
    assert done.exit_code == 1
    assert "would have 0 sources of disc, so no model could be trained: add photos of it from other" in done.output
    assert not (tmp_path / "s.tsv").exists()


def test_few_sources_of_no_class_are_allowed() -> None:
    recipe = read_recipe(SHAPES).model_copy(update={"labels": ("disc", NO_CLASS)})
    photos = [Photo(Path(part), label, part, part) for part, label in (("train", 0), ("val", 0), ("val", 1))]
    dataset.split.require_sources(photos, [0, 1, 2], recipe, few=True)
    with pytest.raises(UserError, match="train would have 0 sources of no_class, fewer than 2"):
        dataset.split.require_sources(photos, [0, 1, 2], recipe)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--train", "0.8", "--test", "0.2"], "leave a part without photos"),
        (["--out", "{tmp}"], "exists"),
        (["--out", "/proc/none/s.tsv"], "cannot be written"),
        (["--out", "/proc/none/folder"], "cannot be written"),
        (["--recipe", "nothing"], "no recipe nothing"),
    ],
)
def test_errors_are_reported_in_one_line(photos: Path, tmp_path: Path, arguments: list[str], words: str) -> None:
    done = run(photos, "--recipe", SHAPES, *(word.format(tmp=tmp_path) for word in arguments))
    assert done.exit_code == 1
    assert words in done.output.splitlines()[-1]
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("out", ["labels.tsv", "./audit.tsv", "SOURCES.tsv"])
def test_split_never_replaces_what_it_reads(tmp_path: Path, out: str) -> None:
    for name in ("labels.tsv", "audit.tsv", "SOURCES.tsv"):
        (tmp_path / name).write_text("path\tlabel\tsplit\tverdict\n")
    words = [tmp_path / "labels.tsv", "--recipe", SHAPES, "--out", f"{tmp_path}/{out}"]
    done = run(*words, "--audit", tmp_path / "audit.tsv")
    assert done.exit_code == 1
    assert "which this command reads: give another --out" in done.output


def test_a_table_with_an_unknown_label_or_part_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "t.tsv"
    (tmp_path / "a.jpg").touch()
    for text, words in (
        ("a.jpg\tcircle\t", "unknown label circle"),
        ("a.jpg\tdisc\tdev", "unknown split dev"),
        ("b.jpg\tdisc\ttrain", "no such file"),
        ("a.jpg\tdisc\t\n./a.jpg\tcross\t", "two rows differ"),
    ):
        table.write_text(f"path\tlabel\tsplit\n{text}\n")
        with pytest.raises(UserError, match=words):
            read_photos(table, LABELS)


def make_split(photos: Path, tmp_path: Path) -> Path:
    for path in sorted((photos / "disc").iterdir())[5:]:
        path.unlink()
    assert run(photos, "--recipe", SHAPES, "--out", tmp_path / "split", "--train", "0.6").exit_code == 0
    return tmp_path / "split"


def run_balance(folder: Path, *more: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(balance, [str(folder), "--recipe", str(SHAPES), *more])


@pytest.mark.slow
def test_balance_adds_copies_to_the_smaller_class_of_the_training_part_only(photos: Path, tmp_path: Path) -> None:
    folder = make_split(photos, tmp_path)
    validation = sorted((folder / "val").rglob("*"))
    done = run_balance(folder)
    assert done.exit_code == 0, done.output
    after = [p for p in read_photos(folder, LABELS) if p.part == "train"]
    assert len(set(counts(after, LABELS).values())) == 1
    changed = [p for p in after if p.path.name.startswith(("saturation_", "brightness_"))]
    assert {p.label for p in changed} == {0}
    assert all(p.source.startswith("drawn/disc/") for p in changed)
    assert sorted((folder / "val").rglob("*")) == validation
    assert (folder / "balance.jpg").stat().st_size > 1000
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert run_balance(folder).exit_code == 0
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_copies_of_an_interrupted_balance_are_copies(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_split(photos, tmp_path)
    stopped = Mock(wraps=write_whole, side_effect=[DEFAULT, KeyboardInterrupt])
    monkeypatch.setattr("dataset.balance.write_whole", stopped)
    assert run_balance(folder, "--every").exit_code != 0
    monkeypatch.undo()
    made = {p.path for p in read_photos(folder, LABELS) if p.path.name.startswith("saturation_")}
    assert len(made) == 1 and made == {p.path for p in read_photos(folder, LABELS) if p.is_copy}
    assert "label" not in read_rows(folder / "SOURCES.tsv")[0]


@pytest.mark.slow
def test_a_photo_with_the_name_of_a_copy_stays_a_photo(photos: Path, tmp_path: Path) -> None:
    folder = make_split(photos, tmp_path)
    original = min((folder / "train" / "disc").glob("*.jpg"))
    own = original.with_name(f"brightness_{original.name}")
    shutil.copy(original, own)
    before = (folder / "SOURCES.tsv").read_bytes()
    done = run_balance(folder, "--every")
    assert done.exit_code == 1 and f"{own} has the name of a copy" in done.output
    assert (folder / "SOURCES.tsv").read_bytes() == before


@pytest.mark.slow
def test_with_every_each_photo_of_the_smallest_class_gets_two_copies(photos: Path, tmp_path: Path) -> None:
    folder = make_split(photos, tmp_path)
    originals = len(list((folder / "train" / "disc").iterdir()))
    assert run_balance(folder, "--every").exit_code == 0
    assert len(list((folder / "train" / "disc").iterdir())) == 3 * originals


@pytest.mark.slow
def test_names_of_255_bytes_are_split_and_balanced(photos: Path, tmp_path: Path) -> None:
    """Photos of one label in two subfolders have the same name, so one gets a number: both names must stay legal."""
    name = "课" * 83 + "ab.jpg"  # 255 bytes
    for number, path in enumerate(sorted((photos / "disc").iterdir())[5:]):
        path.unlink()
        if number < 2:
            path.with_suffix("").mkdir()
            shutil.copy(photos / "disc" / "0000.jpg", path.with_suffix("") / name)
    for path in list((photos / "disc").glob("*.jpg")):
        path.rename(path.with_name(f"{path.stem}{name[len(path.stem) // 2 :]}"))
    assert run(photos, "--recipe", SHAPES, "--out", tmp_path / "split", "--train", "0.6").exit_code == 0
    before = len(read_photos(tmp_path / "split", LABELS))
    done = run_balance(tmp_path / "split", "--every")
    assert done.exit_code == 0, done.output
    assert len(read_photos(tmp_path / "split", LABELS)) > before


def test_balanced_classes_are_unchanged() -> None:
    photos = [Photo(Path(str(index)), index % 3, str(index)) for index in range(9)]
    assert plan(photos, read_recipe(SHAPES), every=False) == []
    assert plan(photos, read_recipe(SHAPES), every=True) == []


def test_balance_requires_a_split(photos: Path) -> None:
    done = run_balance(photos)
    assert done.exit_code == 1
    assert "is not split" in done.output


def test_saturation_equals_a_change_in_hsv() -> None:
    import colorsys

    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8))
    saturated = np.asarray(saturate(photo, np.random.default_rng(7)))
    factor = np.random.default_rng(7).uniform(5, 10)
    for before, after in zip(np.asarray(photo).reshape(-1, 3), saturated.reshape(-1, 3), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*before / 255)
        expected = np.array(colorsys.hsv_to_rgb(hue, min(1, saturation * factor), value)) * 255
        assert np.abs(after - expected).max() <= 1
    grey = Image.new("RGB", (4, 4), (90, 90, 90))
    assert np.asarray(saturate(grey, np.random.default_rng(0))).tolist() == np.asarray(grey).tolist()


def test_brightness_shifts_all_channels_equally_by_at_most_a_fifth() -> None:
    grey = Image.new("RGB", (2, 2), (100, 120, 140))
    shifts = set()
    for seed in range(50):
        pixels = np.asarray(brighten(grey, np.random.default_rng(seed)), int)[0, 0] - (100, 120, 140)
        assert len(set(pixels.tolist())) == 1
        shifts.add(int(pixels[0]))
    assert -51 <= min(shifts) < -20 < 20 < max(shifts) <= 51


@pytest.mark.slow
def test_copies_of_balance_are_not_split(photos: Path, tmp_path: Path) -> None:
    folder = make_split(photos, tmp_path)
    assert run_balance(folder).exit_code == 0
    assert any(photo.is_copy for photo in read_photos(folder, LABELS))
    assert run(folder, "--recipe", SHAPES, "--out", tmp_path / "again.tsv", "--train", "0.5").exit_code == 0
    assert not [p for p in read_photos(tmp_path / "again.tsv", LABELS) if p.path.name.startswith("saturation_")]


@pytest.mark.slow
def test_an_existing_test_part_is_not_overwritten(photos: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "s.tsv", tmp_path / "other"
    draw_small_set(other, read_recipe(SHAPES), 8, 99)
    assert run(photos, "--recipe", SHAPES, "--out", out, "--test", "0.3").exit_code == 0
    before = out.read_bytes()
    done = run(other, "--recipe", SHAPES, "--out", out)
    assert done.exit_code == 1
    assert "9 photos for the test that are missing here" in done.output
    done = run(photos, "--recipe", SHAPES, "--out", out, "--train", "0.8")
    assert done.exit_code == 1
    assert "keeps 30% of the photos for the test: give a --train below 0.70" in done.output
    assert out.read_bytes() == before


@pytest.mark.slow
def test_sources_that_share_an_image_are_one_group_in_later_steps(photos: Path, tmp_path: Path) -> None:
    first, second = photos / "disc" / "0000.jpg", photos / "disc" / "copy.jpg"
    Image.open(first).save(second, quality=50)
    with (photos / "SOURCES.tsv").open("a") as table:
        table.write("disc/copy.jpg\tanother place\tyes\n")
    assert run(photos, "--recipe", SHAPES, "--out", tmp_path / "s.tsv", "--train", "0.5", near=True).exit_code == 0
    source = {p.path: p.source for p in read_photos(tmp_path / "s.tsv", LABELS)}
    assert source[first.resolve()] == source[second.resolve()]


@pytest.mark.parametrize("seed", range(20))
def test_groups_equal_the_former_union_find(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(seed)
    count = 30
    sources, looks = rng.integers(0, 25, count).tolist(), rng.integers(0, 25, count).tolist()
    photos = [Photo(Path(str(index)), 0, str(source)) for index, source in enumerate(sources)]
    monkeypatch.setattr(dataset.split, "similar_groups", lambda *_: looks)
    groups = dataset.split.group(photos, read_recipe(SHAPES), near=True)
    parent = {source: source for source in sources}  # the former union-find

    def root(source: int) -> int:
        while parent[source] != source:
            source = parent[source]
        return source

    first: dict[int, int] = {}
    for source, group_alike in zip(sources, looks, strict=True):
        parent[root(source)] = root(first.setdefault(group_alike, source))
    expected = [root(source) for source in sources]
    assert len(set(groups)) == len(set(expected)) == len(set(zip(groups, expected, strict=True)))


def test_the_shares_are_readable_in_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    labels = [f"British_Shorthair_{number}" for number in range(35)] + ["教室里的课程" * 8, "[bold]"]
    recipe = read_recipe(SHAPES).model_copy(update={"labels": tuple(labels)})
    photos = [
        Photo(Path(f"{index}-{part}"), index, f"{index}-{part}", part)
        for index in range(37)
        for part in PARTS
        for _ in "ab"
    ]
    dataset.split.print_shares(photos, recipe, (0.3, 0.5, 0.2))
    lines = capsys.readouterr().err.splitlines()
    assert all(cell_len(line) <= 80 for line in lines)
    text = "\n".join(lines)
    assert "British_Shorthair_34" in text and "[bold]" in text and "…" not in text
    assert "train (30%)" in text and "74 (33%)" in text
