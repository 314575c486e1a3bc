"""What a labelling starts from: the files of a folder, the rows of its table, the sources of its photos."""

import os
from collections.abc import Sequence
from pathlib import Path

from common.errors import UserError
from dataset.files import files_of
from dataset.photos import TABLE as SOURCES
from dataset.tables import Row, read_rows

COLUMNS = ("path", "label", "set_aside", "source", "labelled_by", "labelled_at")
ASIDE = ("broken", "unclear")


def list_photos(folder: Path, table: Path | None = None, out: Path | None = None) -> list[str]:
    """The files of a folder and its subfolders, sorted.

    Left out are tables (and `table`, whatever it is called), hidden files (`dataset.files`) and what lies in `out`.

    Raises:
        UserError: the folder is missing or has none.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: give the folder with the photos")
    root = folder.resolve()
    found = files_of(root, links=True)
    names = [
        path.relative_to(root).as_posix()
        for path in found
        if not (table and path == table.resolve()) and not (out and path.is_relative_to(out.resolve()))
    ]
    if not names:
        raise UserError(f"{folder} has no photos: put some there, or python -m dataset sample {folder}")
    return names


def cannot_write(place: Path, error: BaseException) -> UserError:
    """The one line for a disk that refuses."""
    reason = getattr(error, "strerror", None) or error
    return UserError(f"{place} cannot be written: {reason}: give another --table or free the disk")


def read_labels(table: Path, labels: Sequence[str]) -> list[Row]:
    """The rows of a table of decisions; none if it is not there yet.

    Raises:
        UserError: it cannot be read, or a row is no decision about these labels.
    """
    if not table.exists():
        return []
    rows = [{**dict.fromkeys(COLUMNS, ""), **row} for row in read_rows(table, ("path", "label"))]
    seen: set[str] = set()
    for row in rows:
        fault = _fault(row, labels, seen)
        if fault:
            raise UserError(f"{table}: {row['path']}: {fault}, or give another --table")
        seen.add(os.path.normpath(row["path"]))
    return rows


def read_sources(folder: Path) -> dict[str, str]:
    """Where photos come from, by their names, if the folder has a SOURCES.tsv."""
    path = folder / SOURCES
    return {row["path"]: row.get("source", "") for row in read_rows(path, ("path",))} if path.is_file() else {}


def _fault(row: Row, labels: Sequence[str], seen: set[str]) -> str:
    if None in row:
        return "more cells than columns: mend the row"
    if os.path.normpath(row["path"]) in seen:
        return "two rows: leave one"
    if row["label"] not in ("", *labels):
        return f"{row['label']} is no label: legal are {', '.join(labels)}: give their --recipe"
    if row["set_aside"] not in ("", *ASIDE):
        return f"set_aside {row['set_aside']}: legal are {', '.join(ASIDE)}"
    return "both label and set_aside: leave one" if row["label"] and row["set_aside"] else ""
