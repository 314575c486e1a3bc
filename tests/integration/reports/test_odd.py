"""Odd manifests, folders and disks: each is one line that names the file and the fix, and nothing is half-written."""

import errno
import os
import shutil
import sqlite3
import zipfile
from pathlib import Path
from typing import Any

import click
import pytest

from common.errors import CannotWrite, InvalidInput
from reports.counting import database
from reports.drift import drift
from reports.explore import explore
from reports.scoring.archives import Model, unpacked
from reports.scoring.job import Job, read_job, require_same
from reports.scoring.lock import locked
from reports.scoring.workers import Pool
from tests.helpers.reports import rows, scored

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def one_photo(folder: Path, photo: Path, columns: str = "", cells: str = "") -> Path:
    """A manifest of one photo with further columns."""
    folder.mkdir()
    shutil.copy(photo, folder / "1.jpg")
    text = f"photo_id,path,institution,region,published_at{columns}\n1,1.jpg,x,BJ,2022-03-14{cells}\n"
    (folder / "m.csv").write_text(text, encoding="utf-8")
    return folder / "m.csv"


@pytest.fixture
def photo(manifest: Path) -> Path:
    return manifest.parent / "disc" / "0.jpg"


def test_columns_called_like_those_of_the_scores_are_kept(
    started: tuple[Model, Pool], photo: Path, tmp_path: Path
) -> None:
    table = one_photo(tmp_path / "p", photo, ",row,x_row,Label,p_disc,City", ",a,b,c,d,e")
    made = scored(table, tmp_path / "s", *started)
    found = rows(made)[0]
    assert (found["row"], found["label"]) == (0, "disc")
    assert [found[name] for name in ("x_row", "x_x_row", "x_Label", "x_p_disc", "City")] == list("abcde")
    explore.main([str(made.folder), "--only-export"], standalone_mode=False)
    with sqlite3.connect(made.folder / "explore" / "scores.db") as opened:
        assert opened.execute("SELECT x_Label, label FROM scores").fetchall() == [("c", "disc")]


def test_a_pipe_in_the_place_of_a_photo_is_an_error_row(
    started: tuple[Model, Pool], photo: Path, tmp_path: Path
) -> None:
    table = one_photo(tmp_path / "p", photo)
    (table.parent / "1.jpg").unlink()
    os.mkfifo(table.parent / "1.jpg")
    assert rows(scored(table, tmp_path / "s", *started))[0]["error_code"] == "file_unreadable"


def test_a_folder_with_another_photo_is_another_manifest(
    started: tuple[Model, Pool], photo: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    shutil.copy(photo, folder / "北京校区数学学科1期开班合照.jpg")
    made = scored(folder, tmp_path / "s", *started)
    require_same(made, started[0], folder)
    shutil.copy(photo, folder / "北京校区数学学科2期开班合照.jpg")
    with pytest.raises(InvalidInput, match="has changed since"):
        require_same(made, started[0], folder)


def test_damaged_files_of_a_job_are_named(scores: Job, tmp_path: Path) -> None:
    made = read_job(shutil.copytree(scores.folder, tmp_path / "s"))
    made.part_path(1).write_bytes(b"PAR1")
    with pytest.raises(click.ClickException, match=r"00001\.parquet is damaged.*remove that file and score again"):
        explore.main([str(made.folder), "--only-export"], standalone_mode=False)
    assert not (made.folder / "explore").exists()
    (made.folder / "manifest.parquet").unlink()
    with pytest.raises(InvalidInput, match=r"manifest\.parquet is damaged.*give another --out"):
        made.rows(0)


def test_a_full_disk_is_one_line(mar: Path, scores: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise FULL

    monkeypatch.setattr(zipfile.ZipFile, "extractall", refuse)
    with pytest.raises(CannotWrite, match="No space left"), unpacked(mar, tmp_path / "unpacked"):
        pass

    def full(*_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(database, "_insert", full)
    with pytest.raises(CannotWrite, match="database or disk is full"):
        database.export(scores, tmp_path / "explore")
    assert list(tmp_path.iterdir()) == []


def test_scores_below_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite, match="give another --out"), locked(tmp_path / "file" / "s"):
        pass


def test_scores_of_the_same_photos_are_no_days_before(scores: Job) -> None:
    with pytest.raises(click.ClickException, match="scores of the same photos"):
        drift.main([str(scores.folder), "--against", str(scores.folder)], standalone_mode=False)
