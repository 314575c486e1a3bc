"""Which files of a folder may be photos."""

import os
import re
from pathlib import Path

import pytest

from common.errors import InvalidInput
from dataset.listing import files_of, list_files


def put(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def names(folder: Path, links: bool = True) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in files_of(folder, links)]


def test_what_other_programs_leave_is_left_out_and_counted(tmp_path: Path) -> None:
    put(
        tmp_path, "a/1.jpg", "a/Thumbs.db", "b/Thumbs.db", "desktop.ini", ".DS_Store", "a/._1.jpg", "a/1.xml", "b/2.PNG"
    )
    os.mkfifo(tmp_path / "pipe.png")
    assert names(tmp_path, links=False) == ["a/1.jpg", "b/2.PNG"]
    assert list_files(tmp_path).left_out() == "2 Thumbs.db, 1 desktop.ini, 1 .DS_Store, 1 ._*, 1 .xml"


def test_tables_lists_and_notes_are_left_out(tmp_path: Path) -> None:
    lists = ("labels.txt", "trainval.txt", "labels.csv", "Labels.XLSX", "t.xls", "t.ods", "classes.yaml", "a.yml")
    put(tmp_path, "1.jpg", *lists, "notes.docx", "annotations.jsonl")
    assert names(tmp_path, links=False) == ["1.jpg"]


def test_links_are_followed_only_on_request(tmp_path: Path) -> None:
    inside, outside = put(tmp_path / "in", "a.png"), put(tmp_path / "out", "b.png", "deep/c.png")
    (inside / "link.png").symlink_to(inside / "a.png")
    (inside / "away.png").symlink_to(outside / "b.png")
    (inside / "folder").symlink_to(outside)
    assert names(inside, links=False) == ["a.png"]
    assert list_files(inside).left_out() == "3 links"
    assert names(inside) == ["a.png", "away.png", "folder/b.png", "folder/deep/c.png", "link.png"]


def test_a_folder_that_is_linked_twice_or_in_a_circle_is_read_once(tmp_path: Path) -> None:
    inside, outside = put(tmp_path / "in", "a.png", "real/d.png"), put(tmp_path / "out", "b.png")
    (inside / "first").symlink_to(outside)
    (inside / "second").symlink_to(outside)
    (inside / "again").symlink_to(inside / "real")
    (inside / "real" / "up").symlink_to(inside)
    (outside / "circle").symlink_to(inside)
    assert names(inside) == ["a.png", "first/b.png", "real/d.png"]


def test_a_linked_hidden_folder_is_followed(tmp_path: Path) -> None:
    put(tmp_path, ".store/a.png")
    (tmp_path / "a").symlink_to(tmp_path / ".store")
    assert names(tmp_path) == ["a/a.png"]


def test_a_link_to_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to("gone/a.png")
    with pytest.raises(InvalidInput, match=r"a\.png is a link to gone/a\.png, which does not exist: remove the link"):
        files_of(tmp_path, links=True)


def test_links_to_nothing_are_named_together(tmp_path: Path) -> None:
    put(tmp_path, "5.png")
    for number in range(5):
        (tmp_path / f"{number}.png").symlink_to(f"/gone/{number}")
    named = re.escape(
        "has 5 links to files that do not exist (0.png -> /gone/0, 1.png -> /gone/1, 2.png -> /gone/2 ...)"
    )
    with pytest.raises(
        InvalidInput, match=f"{named}: fetch the files, or remove the links; find .* -xtype l lists them"
    ):
        files_of(tmp_path, links=True)
