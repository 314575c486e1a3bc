"""Reading labelled photos, and dividing them by source."""

import os
import re
from pathlib import Path
from typing import Literal
from unicodedata import normalize

import pytest

import dataset.photos
from common.errors import UserError
from dataset.listing import names_in
from dataset.photos import Photo, counts, read_photos
from dataset.splitting.folds import folds, hold_out
from dataset.tables import read_rows, write_rows

Form = Literal["NFC", "NFD"]


def photos(sources: int = 10, per_source: int = 4) -> list[Photo]:
    return [Photo(Path(f"{s}-{i}"), (s + i) % 2, f"source {s}") for s in range(sources) for i in range(per_source)]


@pytest.mark.slow
def test_folds_test_each_photo_once_and_share_no_source() -> None:
    everything = photos()
    parts = folds(everything, 5, 0)
    assert sorted(index for part in parts for index in part) == list(range(len(everything)))
    for part in parts:
        inside = {everything[index].source for index in part}
        outside = {photo.source for index, photo in enumerate(everything) if index not in part}
        assert not inside & outside


@pytest.mark.slow
def test_folds_are_pinned() -> None:
    assert folds(photos(), 5, 0) == folds(photos(), 5, 0)
    assert folds(photos(), 5, 0) != folds(photos(), 5, 1)


def test_held_out_sources_are_not_trained_on_and_have_every_class() -> None:
    training, held_out = hold_out(photos(), 0.2, 0)
    assert not {p.source for p in training} & {p.source for p in held_out}
    assert len(training) + len(held_out) == 40
    assert all(counts(held_out, ("a", "b")).values())
    assert 0.1 <= len(held_out) / 40 <= 0.3


def test_a_class_of_one_source_cannot_be_split() -> None:
    one = [Photo(Path(str(i)), i % 2, "all the same") for i in range(8)]
    with pytest.raises(UserError, match="5 folds need at least 5 sources, and there are 1"):
        hold_out(one, 0.2, 0)


def test_a_small_share_of_few_photos_is_refused() -> None:
    few = [Photo(Path(str(i)), i % 2, f"source {i}") for i in range(10)]
    with pytest.raises(UserError, match="10 folds need at least 10 photos of a class, and the largest class has 5"):
        hold_out(few, 0.1, 0)


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def test_read_photos_uses_sources_and_conditions_from_the_table(tmp_path: Path) -> None:
    make(tmp_path, "a/1.jpg", "a/2.jpg", "b/sub/3.jpg", "other/4.jpg")
    (tmp_path / "SOURCES.tsv").write_text("path\tsource\tfree\na/1.jpg\tx\tyes\na/2.jpg\ty\tno\nb/sub/3.jpg\tz\tyes\n")
    kept = read_photos(tmp_path, ("a", "b"), {"free": "yes"})
    assert [(p.path.name, p.label, p.source) for p in kept] == [("1.jpg", 0, "x"), ("3.jpg", 1, "z")]


def test_sources_that_are_listed_later_count_for_a_table(tmp_path: Path) -> None:
    make(tmp_path, "1.jpg", "2.jpg")
    write_rows(
        tmp_path / "labels.tsv",
        ("path", "label", "source"),
        [{"path": "1.jpg", "label": "a"}, {"path": "2.jpg", "label": "b", "source": "y"}],
    )
    write_rows(
        tmp_path / "SOURCES.tsv",
        ("path", "source"),
        [{"path": "1.jpg", "source": "x"}, {"path": "2.jpg", "source": "z"}],
    )
    assert [photo.source for photo in read_photos(tmp_path / "labels.tsv", ("a", "b"))] == ["x", "y"]


def test_without_a_table_every_photo_is_a_separate_source(tmp_path: Path) -> None:
    make(tmp_path, "a/1.jpg", "b/1.jpg")
    assert [p.source for p in read_photos(tmp_path, ("a", "b"))] == ["a/1.jpg", "b/1.jpg"]


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ({"free": "maybe"}, "of a, b with --where free=maybe: the column free has no, yes"),
        ({"free": "noo"}, r"of a, b with --where free=noo: did you mean no\? the column free has no, yes"),
        ({"licence": "x"}, "no column licence: its columns are path, source, free"),
    ],
)
def test_unsatisfiable_conditions_are_refused(tmp_path: Path, where: dict[str, str], words: str) -> None:
    make(tmp_path, "a/1.jpg", "b/1.jpg")
    (tmp_path / "SOURCES.tsv").write_text("path\tsource\tfree\na/1.jpg\t\tno\nb/1.jpg\t\tyes\n")
    with pytest.raises(UserError, match=words):
        read_photos(tmp_path, ("a", "b"), where)


def test_a_label_that_no_row_has_is_answered_with_those_of_the_table(tmp_path: Path) -> None:
    make(tmp_path, "1.jpg", "2.jpg")
    (tmp_path / "t.tsv").write_text("path\tlabel\n1.jpg\toffline\n2.jpg\tonline\n")
    words = r"with --where label=onlin: did you mean online\? the column label has offline, online"
    with pytest.raises(UserError, match=words):
        read_photos(tmp_path / "t.tsv", ("offline", "online"), {"label": "onlin"})


def test_rows_without_a_file_are_counted(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").symlink_to("/gone")
    (tmp_path / "t.tsv").write_text("path\tlabel\n1.jpg\ta\n2.jpg\tb\n3.jpg\tb\n")
    words = r"1.jpg: this is a link to /gone, which does not exist \(and 2 other rows have no file\): fetch the file"
    with pytest.raises(UserError, match=words):
        read_photos(tmp_path / "t.tsv", ("a", "b"))


def test_a_flat_folder_names_its_table_of_labels(tmp_path: Path) -> None:
    make(tmp_path, "1.jpg")
    (tmp_path / "labels.tsv").touch()
    with pytest.raises(UserError, match=f"has no folder a, b: give {tmp_path}/labels.tsv"):
        read_photos(tmp_path, ("a", "b"))


def test_a_missing_class_folder_is_named(tmp_path: Path) -> None:
    make(tmp_path, "a/1.jpg")
    with pytest.raises(UserError, match="has no folder b: create one folder per label"):
        read_photos(tmp_path, ("a", "b"))


def test_a_table_may_come_from_a_spreadsheet(tmp_path: Path) -> None:
    """With a byte order mark, Windows line ends, an empty additional cell, and rows without a label."""
    table = tmp_path / "labels.tsv"
    rows = [
        "path\tlabel\tfree",
        "x/2.jpg\ta\tyes",
        "x/1.jpg\ta\tyes\t",
        "3.jpg\tb\tyes",
        "4.jpg\t\tyes",
        "5.jpg\ta\tno",
    ]
    table.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(rows).encode())
    make(tmp_path, "x/1.jpg", "x/2.jpg", "3.jpg", "4.jpg", "5.jpg")
    kept = read_photos(table, ("a", "b"), {"free": "yes"})
    assert [(p.path, p.label, p.source) for p in kept] == [
        (tmp_path / "x/1.jpg", 0, "x/1.jpg"),
        (tmp_path / "x/2.jpg", 0, "x/2.jpg"),
        (tmp_path / "3.jpg", 1, "3.jpg"),
    ]


@pytest.mark.parametrize(
    "name", ["a\tb.jpg", 'quote".jpg', "line\nend.jpg", "Icon\r", "a\rb.jpg", "snowman ☃.jpg", "latin \udce9.jpg"]
)
def test_any_name_survives_a_table(tmp_path: Path, name: str) -> None:
    write_rows(tmp_path / "t.tsv", ("path", "label"), [{"path": name, "label": "a"}])
    assert read_rows(tmp_path / "t.tsv") == [{"path": name, "label": "a"}]


def test_hidden_files_and_notes_are_ignored(tmp_path: Path) -> None:
    make(tmp_path, "a/1.jpg", "a/.DS_Store", "a/.1.jpg.x7", "a/1.json", "a/README.md", "a/.trash/2.jpg", "b/1.jpg")
    assert [p.path.name for p in read_photos(tmp_path, ("a", "b"))] == ["1.jpg", "1.jpg"]


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        (["Offline ", "online"], "has no folder offline: rename 'Offline ' to 'offline'"),
        (["offlin", "ONLINE"], "offline, online: rename 'offlin' to 'offline', rename 'ONLINE' to 'online'"),
        (["offline", "other"], "has no folder online: create one folder per label"),
        (["offline", "tests"], "has no folder online: create one folder per label"),
        (["training/offline", "validation/online"], "training is not a part of a split: rename it to train"),
        (["train/offline", "train/online", "valid/offline"], "valid is not a part of a split: rename it to val"),
        (["train/offline", "train/online", "Validation/a"], "Validation is not a part of a split: rename it to val"),
        (["train/offline", "train/online", "Test/offline"], "Test is not a part of a split: rename it to test"),
    ],
)
def test_folders_with_nearly_the_right_names_are_named(tmp_path: Path, folders: list[str], words: str) -> None:
    make(tmp_path, *(f"{folder}/1.jpg" for folder in folders))
    with pytest.raises(UserError, match=re.escape(words)):
        read_photos(tmp_path, ("offline", "online"))


@pytest.mark.parametrize(
    ("folders", "ignored"),
    [
        (["a", "b", "no_class", "other"], []),
        (["a", "b", "A", "No_Class ", "train", "val"], ["A", "No_Class ", "train", "val"]),
        (["train/a", "train/b", "val/a", "val/b", "a"], ["a"]),
        (["train/a", "train/b", "train/B"], ["train/B"]),
    ],
)
def test_folders_named_like_a_label_that_are_not_read_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], folders: list[str], ignored: list[str]
) -> None:
    make(tmp_path, *(f"{folder}/1.jpg" for folder in folders))
    read_photos(tmp_path, ("a", "b"))
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" is ignored: ")[0] for line in lines] == [f"{tmp_path}/{name}" for name in ignored]


@pytest.mark.parametrize(("on_disk", "written"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_composed_and_decomposed_names_are_the_same(tmp_path: Path, on_disk: Form, written: Form) -> None:
    label, name = "été", "é1.jpg"
    put, read = (lambda text: normalize(on_disk, text)), (lambda text: normalize(written, text))
    make(tmp_path, f"{put(label)}/{put(name)}", "b/1.jpg")
    write_rows(tmp_path / "SOURCES.tsv", ("path", "source"), [{"path": read(f"{label}/{name}"), "source": "x"}])
    assert [photo.source for photo in read_photos(tmp_path, (read(label), "b"))] == ["x", "b/1.jpg"]
    rows = [{"path": read(f"{label}/{name}"), "label": "a"}, {"path": "b/1.jpg", "label": "b"}]
    write_rows(tmp_path / "labels.tsv", ("path", "label"), rows)
    assert all(photo.path.is_file() for photo in read_photos(tmp_path / "labels.tsv", ("a", "b")))


def labelled(table: Path, *rows: str, columns: str = "path\tlabel") -> Path:
    table.write_text("\n".join([columns, *rows]) + "\n", encoding="utf-8")
    return table


@pytest.mark.parametrize("other", ["{folder}/é.jpg", "./é.jpg", "../t/é.jpg", "sub/../é.jpg", "linked/../t/é.jpg"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_two_spellings_of_a_path_are_one_photo(tmp_path: Path, other: str, form: Form) -> None:
    folder = make(tmp_path / "t", normalize("NFC", "é.jpg"), "sub/b.jpg", "../u/1.jpg")
    (folder / "linked").symlink_to(tmp_path / "u")
    other = normalize(form, other.format(folder=folder))
    assert len(read_photos(labelled(folder / "t.tsv", "é.jpg\ta", f"{other}\ta", "sub/b.jpg\tb"), ("a", "b"))) == 2
    with pytest.raises(UserError, match="two rows differ"):
        read_photos(labelled(folder / "t.tsv", "é.jpg\ta", f"{other}\tb"), ("a", "b"))


def test_absolute_paths_are_found_from_a_table_behind_a_link(tmp_path: Path) -> None:
    folder = make(tmp_path / "deep/a/b/photos", "1.jpg", "2.jpg")
    (tmp_path / "link").symlink_to(folder)
    labelled(folder / "SOURCES.tsv", "1.jpg\tx", columns="path\tsource")
    labelled(folder / "t.tsv", f"{folder}/1.jpg\ta", f"{tmp_path}/link/2.jpg\tb")
    photos = read_photos(tmp_path / "link" / "t.tsv", ("a", "b"))
    assert [(photo.path, photo.source) for photo in photos] == [
        (tmp_path / "link/1.jpg", "x"),
        (tmp_path / "link/2.jpg", "2.jpg"),
    ]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("sub\\1.jpg", "there is no such file: write / instead of \\"),
        ("~/1.jpg", "there is no such file: write the folder's name instead of ~"),
        ("sub", "this is a folder: give the path of a photo"),
        ("pipe", "this is not a regular file: give the path of a photo"),
        ("1.jpg ", "there is no such file: remove the blank at the end of the path"),
        ("2.jpg", "there is no such file: paths are relative to "),
        (f"{'x' * 300}.jpg", "the file cannot be opened (File name too long)"),
        (f"{'x' * 300}/1.jpg", "the file cannot be opened (File name too long)"),
    ],
)
def test_a_path_that_is_no_photo_is_explained(tmp_path: Path, path: str, words: str) -> None:
    make(tmp_path, "1.jpg", "sub/1.jpg")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match=re.escape(f"{path}: {words}")):
        read_photos(labelled(tmp_path / "t.tsv", f"{path}\ta"), ("a",))


def test_blanks_around_a_label_are_ignored(tmp_path: Path) -> None:
    make(tmp_path, "1.jpg", "2.jpg")
    assert len(read_photos(labelled(tmp_path / "t.tsv", "1.jpg\ta ", "2.jpg\t b"), ("a", "b"))) == 2


def test_a_table_can_be_selected_by_columns_of_the_sources(tmp_path: Path) -> None:
    make(tmp_path, "1.jpg", "2.jpg", "3.jpg")
    labelled(tmp_path / "SOURCES.tsv", "1.jpg\tx\tyes\tb", "2.jpg\ty\tno\tb", columns="path\tsource\tfree\tlabel")
    table = labelled(tmp_path / "t.tsv", *(f"{name}.jpg\ta" for name in "123"))
    assert [photo.source for photo in read_photos(table, ("a",), {"free": "yes"})] == ["x"]
    with pytest.raises(UserError, match="has no column licence: its columns are path, label"):
        read_photos(table, ("a",), {"licence": "x"})


def test_sources_are_found_under_other_spellings_and_unused_ones_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path, "a/1.jpg", "a/2.jpg", "b/1.jpg")
    rows = ["a\\1.jpg\tx", "./a/2.jpg\ty", "B/1.jpg\tz", "c/9.jpg\tz"]
    labelled(tmp_path / "SOURCES.tsv", *rows, columns="path\tsource")
    assert [photo.source for photo in read_photos(tmp_path, ("a", "b"))] == ["x", "y", "b/1.jpg"]
    assert "SOURCES.tsv: 2 of 4 rows name no photo here, for example B/1.jpg" in capsys.readouterr().err


def test_photos_that_an_audit_moved_away_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path, "1.jpg", "3.jpg")
    table = labelled(tmp_path / "t.tsv", "1.jpg\ta", "2.jpg\ta", "3.jpg\ta")
    labelled(tmp_path / "audit.tsv", "1.jpg\tok", "2.jpg\tcorrupt", "3.jpg\tcorrupt", columns="path\tverdict")
    assert [photo.path.name for photo in read_photos(table, ("a",))] == ["1.jpg", "3.jpg"]
    assert "t.tsv: 1 photo is left out, because" in capsys.readouterr().err
    labelled(tmp_path / "audit.tsv", "2.jpg\tok", columns="path\tverdict")
    with pytest.raises(UserError, match=r"2\.jpg: there is no such file"):
        read_photos(table, ("a",))


def test_a_folder_is_listed_once_for_all_names_that_are_composed_differently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[Path] = []

    def listing(folder: Path) -> dict[str, Path]:
        listed.append(folder)
        return names_in(folder)

    monkeypatch.setattr(dataset.photos, "names_in", listing)
    make(tmp_path, *(normalize("NFD", f"é{number}.jpg") for number in range(9)))
    table = labelled(tmp_path / "t.tsv", *(normalize("NFC", f"é{number}.jpg\ta") for number in range(9)))
    assert len(read_photos(table, ("a",))) == 9
    assert listed == [tmp_path]


def test_a_linked_folder_of_photos_is_read(tmp_path: Path) -> None:
    make(tmp_path, "data/a/1.jpg", "data/b/1.jpg", "more/2.jpg")
    (tmp_path / "data/a/more").symlink_to(tmp_path / "more")
    assert len(read_photos(tmp_path / "data", ("a", "b"))) == 3
