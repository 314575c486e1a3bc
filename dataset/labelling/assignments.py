"""Which client is shown which photo: leases, order and undo. A client is a browser tab.

A client leases its photo for `LEASE` seconds and renews the lease while its page is open, so that two people do
not look at the same photo. A lease does not protect decisions: each decision carries the revision of the photo that
was shown, and an outdated one is refused (`dataset.labelling.decisions`).
"""

import itertools
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from common.errors import UserError
from dataset.labelling.decisions import Conflict, Labelling, Progress
from dataset.labelling.entries import Decision, Entry
from dataset.labelling.history import Change, History
from dataset.labelling.pace import Pace
from dataset.labelling.search import find
from dataset.tables import Row

LEASE = 60.0
Rank = Callable[[int], tuple[int, float]]


@dataclass(frozen=True)
class Assignment:
    """The next photo of a client.

    Args:
        index: the photo to show; None if all photos are decided or leased to others.
        upcoming: the photo that probably comes after it.
        leased_by_others: number of undecided photos that other clients have leased.
        progress: of all clients together.
    """

    index: int | None
    upcoming: int | None
    leased_by_others: int
    progress: Progress


class AssignmentQueue:
    """Assigns the photos of one labelling to clients. Thread-safe.

    Args:
        labelling: the photos.
        rank: photo -> its place in the order, smaller first; ties are in the order of names.
        clock: seconds.
    """

    def __init__(self, labelling: Labelling, rank: Rank, clock: Callable[[], float] = time.monotonic) -> None:
        self.labelling, self.rank, self.clock = labelling, rank, clock
        self._lock = threading.Lock()
        self._leases: dict[int, tuple[str, float]] = {}
        self._skipped: defaultdict[str, dict[int, int]] = defaultdict(dict)
        self._skip_numbers = itertools.count(1)
        self._history = History(labelling.table.with_name(f".{labelling.table.name}.undo"), self._row_of)
        self._pace = Pace(clock)

    @contextmanager
    def _current(self) -> Iterator[None]:
        """Lock the queue, and read the table again if another program has changed it."""
        with self._lock:
            self.labelling.refresh()
            yield

    def entry(self, index: int) -> Entry:
        """The photo with this index. Raises: ValueError: there is none."""
        return self.labelling.entry(index)

    def next(self, client: str) -> Assignment:
        """The client's current photo, or if it has none the first free one by rank.

        Raises:
            TableInvalid: another program has changed the table so that it cannot be used; this is so for all methods.
        """
        with self._current():
            return self._assign(client)

    def find(self, text: str, kind: str) -> list[int]:
        """The photos that match (`dataset.labelling.search`)."""
        with self._current():
            return find(self.labelling.entries, text, kind)

    def open(self, client: str, index: int) -> Assignment:
        """Show this photo, decided or not. Its lease, if it is free, is the client's."""
        with self._current():
            self.labelling.entry(index)
            if not self._leased_by_another(client, index):
                self._lease(client, index)
            return Assignment(index, None, 0, self.labelling.progress())

    def seconds_left(self) -> float | None:
        """The estimated time for the undecided photos; None if the pace is not known yet."""
        with self._lock:
            return self._pace.seconds(self.labelling.progress().left)

    def skip(self, client: str, index: int) -> Assignment:
        """Move a photo to the end of this client's queue."""
        with self._current():
            self.labelling.entry(index)
            self._skipped[client][index] = next(self._skip_numbers)
            self._release(client)
            return self._assign(client)

    def renew(self, client: str, index: int) -> bool:
        """Renew the client's lease, or take an expired one.

        Returns:
            whether the client has the lease now; False if the photo is decided or leased to another client.
        """
        with self._current():
            entry = self.labelling.entry(index)
            if not entry.undecided or self._leased_by_another(client, index):
                return False
            self._lease(client, index)
            return True

    def decide(self, client: str, index: int, revision: int, decision: Decision, by: str) -> Assignment:
        """Record a decision and assign the next photo. Raises: as `Labelling.decide`."""
        with self._current():
            entry = self.labelling.unchanged(index, revision)
            row = self.labelling.row_of(decision, by)
            change = Change(client, by, entry.name, entry.decision_row, row)
            self._history.add(change)
            try:
                self.labelling.change(index, revision, row)
            except BaseException:
                with suppress(UserError):
                    self._history.remove(change)
                raise
            self._pace.decided(client)
            return self._assign(client)

    def undo(self, client: str, by: str = "") -> tuple[str, Assignment]:
        """Undo the client's last decision and assign that photo again.

        Args:
            by: who asks; a client without decisions undoes those that this person made before the server's last start.

        Returns:
            the photo's name, and the assignment.

        Raises:
            LookupError: there is no decision to undo.
            Conflict: somebody else has changed the photo since; the next undo concerns the decision before it.
            UserError: it cannot be written; nothing has changed.
        """
        with self._current():
            last = self._history.last(client, by)
            if not last:
                raise LookupError("nothing to undo: this page has made no decision")
            index = self.labelling.indices[last.name]
            entry = self.labelling.entry(index)
            if entry.decision_row != last.after:
                self._history.remove(last)
                raise Conflict(entry.name, entry.row["labelled_by"], entry.decision)
            self.labelling.change(index, entry.revision, last.before)
            self._history.remove(last)
            self._lease(client, index)
            return entry.name, self._assign(client)

    def progress(self) -> Progress:
        with self._lock:
            return self.labelling.progress()

    def _row_of(self, name: str) -> Row | None:
        index = self.labelling.indices.get(name)
        return None if index is None else self.labelling.entry(index).decision_row

    def _assign(self, client: str) -> Assignment:
        undecided = [i for i, entry in enumerate(self.labelling.entries) if entry.undecided]
        free = [i for i in undecided if not self._leased_by_another(client, i)]
        skipped = self._skipped[client]
        queue = sorted(free, key=lambda i: (not self._leased_by(client, i), skipped.get(i, 0), self.rank(i), i))
        index, upcoming = (*queue, None, None)[:2]
        if index is not None:
            self._lease(client, index)
        return Assignment(index, upcoming, len(undecided) - len(free), self.labelling.progress())

    def _leased_by(self, client: str, index: int) -> bool:
        return self._leases.get(index, ("", 0.0))[0] == client

    def _leased_by_another(self, client: str, index: int) -> bool:
        owner, until = self._leases.get(index, (client, 0.0))
        return owner != client and until > self.clock()

    def _lease(self, client: str, index: int) -> None:
        self._release(client)
        self._leases[index] = (client, self.clock() + LEASE)

    def _release(self, client: str) -> None:
        self._leases = {i: lease for i, lease in self._leases.items() if lease[0] != client}
