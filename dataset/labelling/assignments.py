"""Who is shown which photo: leases, order, undo. Clients are browser tabs; two of them get two photos.

A photo is leased to a client for `LEASE` seconds, and again while its page stays open. A lease only keeps
two people from looking at the same photo: what keeps them from overwriting each other is the revision that
each decision carries (`dataset.labelling.decisions`).
"""

import itertools
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from dataset.labelling.decisions import Conflict, Decision, Entry, Labelling, Progress
from dataset.tables import Row

LEASE = 60.0
Rank = Callable[[int], tuple[int, float]]


@dataclass(frozen=True)
class Turn:
    """What a client does next.

    `index` is the photo to show, `soon` the one that probably comes after it; `elsewhere` counts the
    undecided photos that others look at.
    """

    index: int | None
    soon: int | None
    elsewhere: int
    progress: Progress


@dataclass(frozen=True)
class _Done:
    """A client's decision, what its row was before, and its revision since."""

    index: int
    before: Row
    revision: int


class Desk:
    """All clients of one labelling; safe to call from many threads.

    Args:
        rank: photo -> what is shown first (smaller is sooner); the page's order within a rank.
        clock: seconds.
    """

    def __init__(self, labelling: Labelling, rank: Rank, clock: Callable[[], float] = time.monotonic) -> None:
        self.labelling, self.rank, self.clock = labelling, rank, clock
        self._lock = threading.Lock()
        self._leases: dict[int, tuple[str, float]] = {}
        self._skipped: defaultdict[str, dict[int, int]] = defaultdict(dict)
        self._done: defaultdict[str, list[_Done]] = defaultdict(list)
        self._skips = itertools.count(1)

    def entry(self, index: int) -> Entry:
        """Raises: ValueError: no such photo."""
        return self.labelling.entry(index)

    def turn(self, client: str) -> Turn:
        """The client's photo: the one that it has, or else the least sure of those that nobody has."""
        with self._lock:
            return self._turn(client)

    def skip(self, client: str, index: int) -> Turn:
        """Put a photo at the end of this client's line."""
        with self._lock:
            self.labelling.entry(index)
            self._skipped[client][index] = next(self._skips)
            self._release(client)
            return self._turn(client)

    def hold(self, client: str, index: int) -> bool:
        """Renew a lease that is the client's, or that has run out and is nobody's; whether it now is."""
        with self._lock:
            entry = self.labelling.entry(index)
            if not entry.undecided or self._held_by_another(client, index):
                return False
            self._lease(client, index)
            return True

    def decide(self, client: str, index: int, revision: int, decision: Decision, by: str) -> Turn:
        """Write a decision and hand out the next photo. Raises: as `Labelling.decide`."""
        with self._lock:
            before = self.labelling.decided(index)
            self.labelling.decide(index, revision, decision, by)
            self._done[client].append(_Done(index, before, revision + 1))
            return self._turn(client)

    def undo(self, client: str) -> tuple[str, Turn]:
        """Take back the client's own last decision and hand that photo out again.

        Returns:
            the photo's name, and the turn.

        Raises:
            LookupError: there is none.
            Conflict: somebody has changed it since; the one before it is next.
            UserError: it cannot be written; all is as it was.
        """
        with self._lock:
            if not self._done[client]:
                raise LookupError("nothing to undo: you have decided nothing since this page was opened")
            last = self._done[client][-1]
            try:
                self.labelling.change(last.index, last.revision, last.before)
            except Conflict:
                self._done[client].pop()
                raise
            self._done[client].pop()
            self._lease(client, last.index)
            return self.labelling.entry(last.index).name, self._turn(client)

    def progress(self) -> Progress:
        with self._lock:
            return self.labelling.progress()

    def _turn(self, client: str) -> Turn:
        undecided = [i for i, entry in enumerate(self.labelling.entries) if entry.undecided]
        free = [i for i in undecided if not self._held_by_another(client, i)]
        skipped = self._skipped[client]
        line = sorted(free, key=lambda i: (not self._has(client, i), skipped.get(i, 0), self.rank(i), i))
        index, soon = (*line, None, None)[:2]
        if index is not None:
            self._lease(client, index)
        return Turn(index, soon, len(undecided) - len(free), self.labelling.progress())

    def _has(self, client: str, index: int) -> bool:
        return self._leases.get(index, ("", 0.0))[0] == client

    def _held_by_another(self, client: str, index: int) -> bool:
        holder, until = self._leases.get(index, (client, 0.0))
        return holder != client and until > self.clock()

    def _lease(self, client: str, index: int) -> None:
        self._release(client)
        self._leases[index] = (client, self.clock() + LEASE)

    def _release(self, client: str) -> None:
        self._leases = {i: lease for i, lease in self._leases.items() if lease[0] != client}
