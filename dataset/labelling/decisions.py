"""Decisions about photos: the table of labels, rewritten completely after every decision.

`dataset.photos.read_photos` reads the table. Rows of other files and additional columns are kept unchanged.
Not thread-safe: `dataset.labelling.assignments` has the lock.
"""

import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from common.errors import Busy
from dataset.labelling.class_folders import ClassFolders
from dataset.labelling.entries import (
    COLUMNS,
    SET_ASIDE_REASONS,
    Decision,
    Entry,
    list_photos,
    read_labels,
    read_sources,
)
from dataset.tables import Row, write_rows

_DECISION_COLUMNS = ("label", "set_aside", "labelled_by", "labelled_at")


class Conflict(Exception):
    """Somebody else decided about this photo after it was shown. Nothing was written.

    Args:
        name: the photo.
        who: who decided; empty if a decision was undone.
        what: the current decision.
    """

    def __init__(self, name: str, who: str, what: Decision) -> None:
        change = f"{who or 'somebody'} chose {what}" if what != Decision() else "somebody undid the decision"
        super().__init__(f"{name}: {change} in the meantime; your decision was not saved")
        self.name, self.who, self.what = name, who, what


@dataclass(frozen=True)
class Progress:
    """How many photos there are, and how many have each label and each of `SET_ASIDE_REASONS`."""

    total: int
    by_label: dict[str, int]
    by_reason: dict[str, int]

    @property
    def labelled(self) -> int:
        return sum(self.by_label.values())

    @property
    def set_aside(self) -> int:
        return sum(self.by_reason.values())

    @property
    def left(self) -> int:
        return self.total - self.labelled - self.set_aside

    def __str__(self) -> str:
        return f"{self.labelled} of {self.total} labelled, {self.set_aside} set aside"


class Labelling:
    """The photos of a folder and the decisions about them.

    Args:
        folder: its photos are all files in it and its subfolders, except tables, hidden files and the class folders.
        table: read if it exists, to continue from there.
        labels: the legal ones.
        copies: class folders to keep in step with the table.
        refused: files (resolved) that are not shown (`dataset.listing.refused_by`).

    Raises:
        UserError: there are no photos; the table cannot be read or has other labels.
    """

    def __init__(
        self,
        folder: Path,
        table: Path,
        labels: Sequence[str],
        copies: ClassFolders | None = None,
        refused: Collection[Path] = (),
    ) -> None:
        self.folder, self.table, self.labels, self.copies = folder, table, tuple(labels), copies
        self._stamp = _stamp(table)
        self._rows = read_labels(table, labels)
        self._columns = (*COLUMNS, *(column for column in next(iter(self._rows), {}) if column not in COLUMNS))
        self.entries = self._match_rows(list_photos(folder, table, copies.out if copies else None, refused))

    def _match_rows(self, names: Sequence[str]) -> list[Entry]:
        """An entry for each photo, with a new row if the table has none."""
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
        """Write the table and the class folders once, to report a full or read-only disk before the first decision.

        Raises:
            UserError: they cannot be written.
        """
        if self.copies:
            self.copies.update_all(self.entries)
        self.save()

    def decide(self, index: int, revision: int, decision: Decision, by: str) -> None:
        """Record a decision; it is on disk when this returns.

        Raises:
            Conflict: the photo has changed since `revision`.
            ValueError: there is no such photo, label or reason.
            UserError: it cannot be written; nothing has changed.
        """
        if decision == Decision() or (decision.label and decision.set_aside):
            raise ValueError("give either a label or a reason to set the photo aside")
        if decision.label not in ("", *self.labels):
            raise ValueError(f"unknown label {decision.label}: legal are {', '.join(self.labels)}")
        if decision.set_aside not in ("", *SET_ASIDE_REASONS):
            raise ValueError(f"unknown reason {decision.set_aside}: legal are {', '.join(SET_ASIDE_REASONS)}")
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
                self.copies.update(entry, self.entries)
            self.save()
        except BaseException:
            entry.row.update(before)
            if self.copies:
                self.copies.restore(entry, self.entries)
            raise
        entry.revision += 1

    def decision_row(self, index: int) -> Row:
        """The columns of a photo's row that a decision sets; `change` with them restores it."""
        return {column: self.entry(index).row[column] for column in _DECISION_COLUMNS}

    def entry(self, index: int) -> Entry:
        """The photo with this index. Raises: ValueError: there is none."""
        if not 0 <= index < len(self.entries):
            raise ValueError(f"there is no photo {index}: there are {len(self.entries)}, counted from 0")
        return self.entries[index]

    def save(self) -> None:
        """Write the table. Raises: UserError: it cannot be written, or another program has changed it."""
        stamp = _stamp(self.table)
        if stamp not in (None, self._stamp):
            raise Busy(
                f"{self.table} was changed by another program", "stop (Ctrl-C) and start again to read the changes"
            )
        write_rows(self.table, self._columns, self._rows, "free some disk space, or give another --table")
        self._stamp = _stamp(self.table)

    def progress(self) -> Progress:
        labels = Counter(entry.row["label"] for entry in self.entries)
        reasons = Counter(entry.row["set_aside"] for entry in self.entries)
        return Progress(
            len(self.entries),
            {label: labels[label] for label in self.labels},
            {reason: reasons[reason] for reason in SET_ASIDE_REASONS},
        )


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Identifies one version of a file; None if there is no file."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
