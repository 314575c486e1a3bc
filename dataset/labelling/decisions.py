"""Decisions about photos: the table of labels, rewritten completely after every decision.

`dataset.photos.read_photos` reads the table. Rows of other files and additional columns are kept unchanged. If another
program changes the table, it is read again; a photo whose decision was changed gets a new revision.
Not thread-safe: `dataset.labelling.assignments` has the lock.
"""

import os
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from common.errors import Busy, InvalidInput, NotFound, UserError
from dataset.labelling.class_folders import ClassFolders
from dataset.labelling.entries import (
    COLUMNS,
    DECISION_COLUMNS,
    SET_ASIDE_REASONS,
    Decision,
    Entry,
    list_photos,
    read_labels,
)
from dataset.labelling.outside import TableInvalid, notice_of, stamp_of, wait_until_written
from dataset.listing import composed, identity_in, listed_name
from dataset.photos import read_sources
from dataset.tables import Row, write_rows

_ATTEMPTS = 3  # to write, while another program keeps changing the table


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
        self.refused = refused
        self.notice = ""
        """What the last change of the table by another program changed here."""
        self._read(self._listed())

    def _read(self, names: Sequence[str]) -> None:
        """Read the table, and an entry for each name."""
        stamp = stamp_of(self.table)
        rows = read_labels(self.table, self.labels)
        self._stamp, self._rows = stamp, rows
        self._columns = (*COLUMNS, *(column for column in next(iter(rows), {}) if column not in COLUMNS))
        self.entries = self._match_rows(names)
        self.indices = {entry.name: index for index, entry in enumerate(self.entries)}

    def refresh(self) -> None:
        """If another program has changed the table, read it again. New photos come last, so indices stay valid.

        Raises:
            TableInvalid: it cannot be used as it is; decisions wait until it can.
        """
        if stamp_of(self.table) in (None, self._stamp):
            return
        wait_until_written(self.table)
        former = self.entries, self.indices, self._rows, self._columns, self._stamp
        try:
            self._read(self._names())
            self._adopt(former[0])
        except BaseException as error:
            self.entries, self.indices, self._rows, self._columns, self._stamp = former
            if isinstance(error, UserError):
                raise TableInvalid(error) from error
            raise

    def _names(self) -> list[str]:
        known = [entry.name for entry in self.entries]
        return [*known, *sorted({*self._listed()} - {*known})]

    def _listed(self) -> list[str]:
        return list_photos(self.folder, self.table, self.copies.out if self.copies else None, self.refused)

    def _adopt(self, former: Sequence[Entry]) -> None:
        """Keep decisions that the other program did not know of, and carry out its own.

        It may have read the table before the latest decisions were made. A row as it was before one of them is
        therefore out of date, and not a change.
        """
        changed, kept = self.entries[len(former) :], 0
        for entry, before in zip(self.entries, former, strict=False):
            entry.revision, entry.past = before.revision, before.past
            if entry.decision_row == before.decision_row:
                continue
            if entry.decision_row in before.past:
                entry.row.update(before.decision_row)
                kept += 1
            else:
                entry.revision += 1
                entry.past = [*before.past, before.decision_row]
                changed.append(entry)
        if self.copies:
            self.copies.update(changed, self.entries)
        if kept or len(self.entries) > len(former):
            self.save()
        self.notice = notice_of(self.table, len(changed), kept)

    def _match_rows(self, names: Sequence[str]) -> list[Entry]:
        """An entry for each photo, with a new row if the table has none."""
        root, base = self.folder.resolve(), self.table.parent.resolve()
        sources = read_sources(self.folder)
        entries = []
        for name, row in zip(names, self._rows_of([root / name for name in names]), strict=True):
            if row is None:
                path = Path(os.path.relpath(root / name, base)).as_posix()
                row = {**dict.fromkeys(self._columns, ""), "path": path}
                self._rows.append(row)
            row["source"] = row["source"] or sources.get(listed_name(name), {}).get("source", "")
            entries.append(Entry(name, root / name, row))
        return entries

    def _rows_of(self, paths: Sequence[Path]) -> list[Row | None]:
        """The row of each photo, also if the table writes its path or its accents in another way.

        Raises:
            InvalidInput: a photo has two rows.
        """
        identity = identity_in(self.table.parent)
        known = {identity(row["path"]): row for row in self._rows}
        files = [identity(str(path)) for path in paths]
        others = {composed(file): known[file] for file in known.keys() - {*files}}
        found = []
        for file in files:
            exact, other = known.get(file), others.pop(composed(file), None)
            if exact and other:
                problem = f"{self.table}: {other['path']}: there are two rows for this photo"
                raise InvalidInput(problem, "delete one, they differ in how accents are stored")
            found.append(exact or other)
        return found

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
            NotFound: the file is not there any more, and a label is given.
            UserError: it cannot be written; nothing has changed.
        """
        self.change(index, revision, self.row_of(decision, by))

    def row_of(self, decision: Decision, by: str) -> Row:
        """The columns of a photo's row that a decision sets. Raises: ValueError: as `decide`."""
        if decision == Decision() or (decision.label and decision.set_aside):
            raise ValueError("give either a label or a reason to set the photo aside")
        if decision.label not in ("", *self.labels):
            raise ValueError(f"unknown label {decision.label}: legal are {', '.join(self.labels)}")
        if decision.set_aside not in ("", *SET_ASIDE_REASONS):
            raise ValueError(f"unknown reason {decision.set_aside}: legal are {', '.join(SET_ASIDE_REASONS)}")
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"label": decision.label, "set_aside": decision.set_aside, "labelled_by": by, "labelled_at": at}

    def change(self, index: int, revision: int, values: Row) -> None:
        """Set columns of a photo's row. Raises: as `decide`, and TableInvalid."""
        for _ in range(_ATTEMPTS - 1):
            self.refresh()
            with suppress(Busy):
                self._change(index, revision, values)
                return
        self.refresh()
        self._change(index, revision, values)

    def _change(self, index: int, revision: int, values: Row) -> None:
        entry = self.unchanged(index, revision)
        if not self.folder.is_dir():
            raise NotFound(
                f"there is no folder {self.folder} any more", "name it as before, or start again with its new name"
            )
        if values.get("label") and not entry.path.is_file():
            raise NotFound(f"there is no file {entry.name} any more", "put it back, or set the photo aside")
        before = dict(entry.row)
        entry.row.update(values)
        try:
            if self.copies:
                self.copies.update([entry], self.entries)
            self.save()
        except BaseException:
            entry.row.update(before)
            if self.copies:
                self.copies.restore(entry, self.entries)
            raise
        entry.revision += 1
        entry.past.append({column: before[column] for column in DECISION_COLUMNS})

    def unchanged(self, index: int, revision: int) -> Entry:
        """The photo, if it is as the client has seen it. Raises: Conflict, ValueError: as `decide`."""
        entry = self.entry(index)
        if entry.revision != revision:
            raise Conflict(entry.name, entry.row["labelled_by"], entry.decision)
        return entry

    def entry(self, index: int) -> Entry:
        """The photo with this index. Raises: ValueError: there is none."""
        if not 0 <= index < len(self.entries):
            raise ValueError(f"there is no photo {index}: there are {len(self.entries)}, counted from 0")
        return self.entries[index]

    def save(self) -> None:
        """Write the table. Raises: UserError: it cannot be written, or another program has changed it."""
        stamp = stamp_of(self.table)
        if stamp not in (None, self._stamp):
            raise Busy(f"{self.table} is being changed by another program", "try again when it has finished")
        write_rows(self.table, self._columns, self._rows, "free some disk space, or give another --table")
        self._stamp = stamp_of(self.table)

    def progress(self) -> Progress:
        labels = Counter(entry.row["label"] for entry in self.entries)
        reasons = Counter(entry.row["set_aside"] for entry in self.entries)
        return Progress(
            len(self.entries),
            {label: labels[label] for label in self.labels},
            {reason: reasons[reason] for reason in SET_ASIDE_REASONS},
        )
