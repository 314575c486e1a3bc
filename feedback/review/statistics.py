"""Figures about the loop: states, days, people, agreement."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, case, func, select

from feedback.storage.database import Database
from feedback.storage.tables import Account, Opinion, Photo, Upload, now

DAYS = 14
RECENT_S = 60.0
PATIENCE_S = 0.1


@dataclass(frozen=True)
class Reviewer:
    """A person's opinions: how many, and of those about decided photos the share that agrees with the decision."""

    name: str
    opinions: int
    decided: int
    agreeing: int

    @property
    def share(self) -> str:
        return f"{self.agreeing / self.decided:.0%}" if self.decided else "-"


@dataclass(frozen=True)
class Statistics:
    """Counts of everything that was stored at a time (UTC)."""

    at: datetime
    photos: dict[str, int]
    labels: dict[str, int]
    uploads: int
    days: list[tuple[str, int]]
    people: list[Reviewer]

    @classmethod
    def of(cls, database: Database) -> "Statistics":
        """Read them."""
        day = func.date(Opinion.created_at)
        agreeing = func.sum(_one_if(Opinion.value == "label:" + Photo.agreed))
        decided = func.sum(_one_if(Photo.agreed.is_not(None)))
        people = select(Account.name, func.count(), decided, agreeing).join(Opinion, Opinion.account_id == Account.id)
        people = people.join(Photo, Photo.id == Opinion.photo_id).group_by(Account.name).order_by(Account.name)
        agreed = select(Photo.agreed, func.count()).where(Photo.agreed.is_not(None)).group_by(Photo.agreed)
        at = now()
        with database.begin() as session:
            states = session.execute(select(Photo.state, func.count()).group_by(Photo.state)).all()
            days = session.execute(select(day, func.count()).group_by(day).order_by(day.desc()).limit(DAYS)).all()
            return cls(
                at=at,
                photos={str(row[0]): row[1] for row in states},
                labels={str(row[0]): row[1] for row in session.execute(agreed.order_by(Photo.agreed))},
                uploads=session.scalar(select(func.count()).select_from(Upload)) or 0,
                days=[(str(row[0]), row[1]) for row in days],
                people=[Reviewer(row[0], row[1], row[2] or 0, row[3] or 0) for row in session.execute(people)],
            )


class RecentStatistics:
    """Statistics that are read again once they are a minute old: that reads every opinion. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reader = ThreadPoolExecutor(1, "statistics")
        self._reading: Future[Statistics] | None = None
        self._last: Statistics | None = None

    def of(self, database: Database) -> Statistics:
        """The newest ones that can be had within PATIENCE_S; only the first call waits longer."""
        with self._lock:
            last, reading = self._last, self._reading
            if last and (now() - last.at).total_seconds() < RECENT_S:
                return last
            if not reading:
                reading = self._reading = self._reader.submit(self._read, database)
        try:
            return reading.result(PATIENCE_S if last else None)
        except TimeoutError:
            assert last
            return last

    def _read(self, database: Database) -> Statistics:
        try:
            read = Statistics.of(database)
            with self._lock:
                self._last = read
            return read
        finally:
            with self._lock:
                self._reading = None


def _one_if(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return case((condition, 1), else_=0)
