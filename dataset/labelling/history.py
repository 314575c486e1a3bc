"""The decisions that can be undone, in a file beside the table: labels.tsv -> .labels.tsv.undo, one JSON a line.

They survive a restart. A line is written before its decision is in the table; a line whose decision the table does
not show (a crash between the two, a later change by another program) is dropped at the next start.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from common.files import write_whole, writing
from dataset.tables import Row

MOST = 200
"""Decisions that are kept; older ones can be changed in the list."""
FIX = "free some disk space, or give another --table"


@dataclass(frozen=True)
class Change:
    """One decision.

    Args:
        client: the browser tab that made it.
        by: the person.
        name: the photo.
        before, after: the columns of its row that a decision sets.
    """

    client: str
    by: str
    name: str
    before: Row
    after: Row


class History:
    """The latest decisions, oldest first.

    Args:
        path: the file.
        row_of: a photo's columns in the table now; None if there is no such photo.
    """

    def __init__(self, path: Path, row_of: Callable[[str], Row | None]) -> None:
        self.path = path
        self._changes = _still_true(_read(path), row_of)
        self._former = len(self._changes)  # decisions of former starts of the server

    def add(self, change: Change) -> None:
        """Raises: CannotWrite: nothing has changed."""
        self._replace([*self._changes, change][-MOST:])
        self._former = min(self._former, len(self._changes) - 1)

    def last(self, client: str, by: str) -> Change | None:
        """The last decision of a tab or, if it has made none, of the same person before the server's last start."""
        own = [change for change in self._changes if change.client == client]
        former = [change for change in self._changes[: self._former] if change.by == by]
        return next(reversed(own or former), None)

    def remove(self, change: Change) -> None:
        """Raises: CannotWrite: nothing has changed."""
        place = len(self._changes) - 1 - self._changes[::-1].index(change)
        self._replace([*self._changes[:place], *self._changes[place + 1 :]])
        self._former -= place < self._former

    def _replace(self, changes: list[Change]) -> None:
        lines = "".join(json.dumps(asdict(change)) + "\n" for change in changes)
        with writing(self.path, FIX):
            write_whole(self.path, lines.encode())
        self._changes = changes


def _read(path: Path) -> list[Change]:
    """The changes in the file; none if it is missing or damaged, because decisions are in the table."""
    try:
        return [Change(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError, TypeError):
        return []


def _still_true(changes: list[Change], row_of: Callable[[str], Row | None]) -> list[Change]:
    """The changes that lead to the table as it is, so that each can be undone after those that follow it."""
    rows: dict[str, Row | None] = {}
    kept = []
    for change in reversed(changes):
        if rows.setdefault(change.name, row_of(change.name)) == change.after:
            rows[change.name] = change.before
            kept.append(change)
    return kept[::-1]
