"""Decisions about photos: a folder and a table -> the same table, rewritten whole after every decision.

    path         label    set_aside  source   labelled_by  labelled_at
    0001.jpg     offline             school   ann          2026-11-21T08:33:02Z
    sub/2.jpg             broken              ann          2026-11-21T08:33:05Z
    3.jpg

Paths are relative to the table. `dataset.photos.read_photos` reads it. Rows and columns that the labelling
does not know stay as they are. Not to be shared between threads: `dataset.labelling.assignments` has the lock.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from common.errors import UserError
from dataset.labelling.class_folders import ClassFolders
from dataset.labelling.rows import ASIDE, COLUMNS, cannot_write, list_photos, read_labels, read_sources
from dataset.tables import Row, write_rows

_DECIDED = ("label", "set_aside", "labelled_by", "labelled_at")


@dataclass(frozen=True)
class Decision:
    """A label, or one of `ASIDE`; neither takes a decision back."""

    label: str = ""
    set_aside: str = ""

    def __str__(self) -> str:
        return self.label or (f"set aside as {self.set_aside}" if self.set_aside else "not decided")


class Conflict(Exception):
    """Somebody decided about this photo after the page was shown it. Nothing was written.

    Args:
        name: the photo.
        who: who decided; empty when a decision was taken back.
        what: what it is now.
    """

    def __init__(self, name: str, who: str, what: Decision) -> None:
        said = f"{who or 'somebody'} chose {what}" if what != Decision() else "somebody took the decision back"
        super().__init__(f"{name}: {said} meanwhile; that stays, and yours was not written")
        self.name, self.who, self.what = name, who, what


@dataclass
class Entry:
    """A photo and its row; `revision` counts its changes since the start."""

    name: str
    path: Path
    row: Row
    revision: int = 0

    @property
    def decision(self) -> Decision:
        return Decision(self.row["label"], self.row["set_aside"])

    @property
    def undecided(self) -> bool:
        return self.decision == Decision()


@dataclass(frozen=True)
class Progress:
    """How many photos there are, and how many of each label and each of `ASIDE`."""

    total: int
    labels: dict[str, int]
    aside: dict[str, int]

    @property
    def labelled(self) -> int:
        return sum(self.labels.values())

    @property
    def set_aside(self) -> int:
        return sum(self.aside.values())

    @property
    def left(self) -> int:
        return self.total - self.labelled - self.set_aside

    def __str__(self) -> str:
        return f"{self.labelled} of {self.total} labelled, {self.set_aside} set aside"


class Labelling:
    """The photos of a folder and what was decided about them.

    Args:
        folder: photos are all its files, also in subfolders, but tables, hidden files and what `copies` wrote.
        table: continued if it is there.
        labels: the legal ones.
        copies: class folders that follow the table.

    Raises:
        UserError: no photos; the table cannot be read or is of other labels.
    """

    def __init__(self, folder: Path, table: Path, labels: Sequence[str], copies: ClassFolders | None = None) -> None:
        self.folder, self.table, self.labels, self.copies = folder, table, tuple(labels), copies
        self._stamp = _stamp(table)
        self._rows = read_labels(table, labels)
        self._columns = (*COLUMNS, *(column for column in next(iter(self._rows), {}) if column not in COLUMNS))
        self.entries = self._enter(list_photos(folder, table, copies.out if copies else None))

    def _enter(self, names: Sequence[str]) -> list[Entry]:
        known = {os.path.normpath(row["path"]): row for row in self._rows}
        root, base = self.folder.resolve(), self.table.parent.resolve()
        sources = read_sources(self.folder)
        entries = []
        for name in names:
            path = Path(os.path.relpath(root / name, base)).as_posix()
            if path not in known:
                known[path] = {**dict.fromkeys(self._columns, ""), "path": path}
                self._rows.append(known[path])
            row = known[path]
            row["source"] = row["source"] or sources.get(name, "")
            entries.append(Entry(name, root / name, row))
        return entries

    def begin(self) -> None:
        """Write the table and the class folders as they stand, so that a full or read-only disk is told first.

        Raises:
            UserError: they cannot be written.
        """
        if self.copies:
            self.copies.settle(self.entries)
        self.save()

    def decide(self, index: int, revision: int, decision: Decision, by: str) -> None:
        """Write a decision; when this returns it is on the disk.

        Raises:
            Conflict: the photo has changed since `revision`.
            ValueError: no such photo, label or reason to set aside.
            UserError: it cannot be written; all is as it was.
        """
        if decision == Decision() or (decision.label and decision.set_aside):
            raise ValueError("give a label, or a reason to set aside")
        if decision.label not in ("", *self.labels) or decision.set_aside not in ("", *ASIDE):
            raise ValueError(f"legal are the labels {', '.join(self.labels)}, or to set aside as {', '.join(ASIDE)}")
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        row = {"label": decision.label, "set_aside": decision.set_aside, "labelled_by": by, "labelled_at": at}
        self.change(index, revision, row)

    def change(self, index: int, revision: int, values: Row) -> None:
        """Set columns of a photo's row. Raises: as `decide`."""
        entry = self.entry(index)
        if entry.revision != revision:
            raise Conflict(entry.name, entry.row["labelled_by"], entry.decision)
        before = dict(entry.row)
        entry.row.update(values)
        try:
            if self.copies:
                self.copies.follow(entry, self.entries)
            self.save()
        except BaseException:
            entry.row.update(before)
            if self.copies:
                self.copies.go_back(entry, self.entries)
            raise
        entry.revision += 1

    def decided(self, index: int) -> Row:
        """The columns of a row that a decision sets, to go back to."""
        return {column: self.entry(index).row[column] for column in _DECIDED}

    def entry(self, index: int) -> Entry:
        """Raises: ValueError: no such photo."""
        if not 0 <= index < len(self.entries):
            raise ValueError(f"no photo {index}: there are {len(self.entries)}")
        return self.entries[index]

    def save(self) -> None:
        """Raises: UserError: it cannot be written, or another program has changed the table."""
        stamp = _stamp(self.table)
        if stamp not in (None, self._stamp):
            raise UserError(f"{self.table} was changed by another program: stop (Ctrl-C) and start again to read it")
        try:
            write_rows(self.table, self._columns, self._rows)
        except UserError as error:
            raise cannot_write(self.table, error.__cause__ or error) from error
        self._stamp = _stamp(self.table)

    def progress(self) -> Progress:
        labels = Counter(entry.row["label"] for entry in self.entries)
        aside = Counter(entry.row["set_aside"] for entry in self.entries)
        return Progress(len(self.entries), {x: labels[x] for x in self.labels}, {x: aside[x] for x in ASIDE})


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What tells a file from a later one at its place."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
