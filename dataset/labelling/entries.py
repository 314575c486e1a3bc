"""The photos to label: the files of a folder, each with its row of the table of labels.

    path         label    set_aside  source   labelled_by  labelled_at
    0001.jpg     offline             school   ann          2026-11-21T08:33:02Z
    sub/2.jpg             broken              ann          2026-11-21T08:33:05Z
    3.jpg

Paths are relative to the table.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import InvalidInput, NotFound
from dataset.listing import files_of, identity_in
from dataset.tables import Row, read_rows, wrong_encoding

COLUMNS = ("path", "label", "set_aside", "source", "labelled_by", "labelled_at")
DECISION_COLUMNS = ("label", "set_aside", "labelled_by", "labelled_at")
SET_ASIDE_REASONS = ("broken", "unclear")


@dataclass(frozen=True)
class Decision:
    """A label, or one of `SET_ASIDE_REASONS`; with neither, the photo is undecided."""

    label: str = ""
    set_aside: str = ""

    def __str__(self) -> str:
        return self.label or (f"set aside as {self.set_aside}" if self.set_aside else "undecided")


@dataclass
class Entry:
    """A photo and its row of the table.

    Args:
        revision: counts the changes since the server started.
        past: its decisions before each of them (`decision_row`).
    """

    name: str
    path: Path
    row: Row
    revision: int = 0
    past: list[Row] = field(default_factory=list)

    @property
    def decision(self) -> Decision:
        return Decision(self.row["label"], self.row["set_aside"])

    @property
    def decision_row(self) -> Row:
        """The columns that a decision sets; `Labelling.change` with them restores it."""
        return {column: self.row[column] for column in DECISION_COLUMNS}

    @property
    def undecided(self) -> bool:
        return self.decision == Decision()


def list_photos(
    folder: Path, table: Path | None = None, out: Path | None = None, refused: Collection[Path] = ()
) -> list[str]:
    """List the files of a folder and its subfolders, sorted.

    Tables, hidden files (`dataset.listing`), `table`, everything in `out` and the `refused` (resolved) are left out.

    Raises:
        NotFound: there is no such folder, or it has no photos.
    """
    if not folder.is_dir():
        raise NotFound(f"{folder} is not a folder", "give the folder with the photos")
    root = folder.resolve()
    names = [
        path.relative_to(root).as_posix()
        for path in files_of(root, links=True)
        if not (table and path == table.resolve())
        and not (out and path.is_relative_to(out.resolve()))
        and path.resolve() not in refused
    ]
    if not names:
        raise NotFound(f"{folder} has no photos", f"add some, or draw samples: python -m dataset sample {folder}")
    return names


def read_labels(table: Path, labels: Sequence[str]) -> list[Row]:
    """Read the rows of a table of labels; an empty list if the table does not exist yet.

    Raises:
        UserError: it cannot be read, or a row is invalid for these labels.
    """
    if not table.exists():
        return []
    rows = [
        {**dict.fromkeys(COLUMNS, ""), **row, "label": row["label"].strip()}
        for row in read_rows(table, ("path", "label"))
    ]
    unknown = Counter(row["label"] for row in rows if row["label"] not in ("", *labels))
    identity, seen = identity_in(table.parent), set()
    for row in rows:
        name = identity(row["path"])
        _check(row, labels, name in seen, table, unknown)
        seen.add(name)
    return rows


def _check(row: Row, labels: Sequence[str], repeated: bool, table: Path, unknown: Counter[str]) -> None:
    problem = fix = ""
    if repeated:
        problem, fix = "there are two rows for this photo", "delete one"
    elif row["label"] not in ("", *labels):
        rows = (
            "" if unknown.total() == 1 else f" ({unknown.total()} rows have unknown labels: {', '.join(unknown)[:80]})"
        )
        problem, fix = (
            f"unknown label {row['label']}{rows}",
            f"use one of {', '.join(labels)}, give the matching --recipe",
        )
    elif row["set_aside"] not in ("", *SET_ASIDE_REASONS):
        problem, fix = f"set_aside is {row['set_aside']}", f"use one of {', '.join(SET_ASIDE_REASONS)}"
    elif row["label"] and row["set_aside"]:
        problem, fix = "both label and set_aside have a value", "delete one"
    if problem:
        fix = wrong_encoding(row["label"]) or fix
        raise InvalidInput(f"{table}: {row['path']}: {problem}", f"{fix}, or give another --table")
