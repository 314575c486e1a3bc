"""Photos, uploads and opinions: what is stored of each, and who may see or judge which."""

import hashlib
import secrets
import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from common.errors import InvalidInput, NotFound
from common.words import number_of
from feedback.photos.chains import Chains
from feedback.photos.hashing import THRESHOLD, nearest, packed, phash
from feedback.photos.metadata import cleaned
from feedback.photos.store import PhotoStore
from feedback.review.agreement import OPEN, State, Vote, derive
from feedback.review.arrivals import UPLOADED, Answered, Why, upload_of
from feedback.review.queue import known_to, next_photos
from feedback.storage.database import Database
from feedback.storage.tables import Opinion, Photo, Upload, now
from handler.image import open_photo
from handler.spec import Limits

_LARGEST_PLACE = 2**31 - 1


class Refused(InvalidInput):
    """An opinion that does not count: somebody would agree with themselves."""


class Album:
    """All photos of one database and one photo store. Thread-safe.

    Args:
        keep_days: days until a photo expires.
        frozen: perceptual hashes of the frozen test photos.
    """

    def __init__(self, database: Database, store: PhotoStore, keep_days: int, frozen: Sequence[str] = ()) -> None:
        self.database, self.store, self.keep = database, store, timedelta(days=keep_days)
        self._frozen = packed([value for value in frozen if value])
        self._lock = threading.Lock()
        self._known: Chains | None = None

    def add(self, answered: Answered, account: int | None, visitor: str, limits: Limits, why: Why = UPLOADED) -> int:
        """Store an upload; the same bytes are stored once, whatever their names.

        Args:
            visitor: digest of the cookie of somebody without an account, else "".
            why: why the photo is here, if it is new.

        Returns:
            the upload's id.

        Raises:
            OSError: the photo cannot be written; nothing is stored.
        """
        sha256 = hashlib.sha256(answered.data).hexdigest()
        upload = upload_of(answered, account, visitor)
        with self._lock:
            new = None if self._known_bytes(sha256) else self._new_photo(answered.data, sha256, limits, why)
            try:
                return self._insert(upload, new, sha256)
            except IntegrityError:  # another process has just stored the same bytes
                if new is None:
                    raise
                self.store.delete(new.key)
                return self._insert(upload_of(answered, account, visitor), None, sha256)
            except BaseException:
                if new is not None:
                    self.store.delete(new.key)
                raise

    def _known_bytes(self, sha256: str) -> bool:
        with self.database.begin() as session:
            return session.scalar(select(Photo.id).where(Photo.sha256 == sha256)) is not None

    def _insert(self, upload: Upload, new: Photo | None, sha256: str) -> int:
        """Insert an upload, and its photo if that is new, in one transaction; the upload's id."""
        known = self._known = self._known or self._read_known()
        with self.database.begin() as session:
            if new is not None:
                new.chain = known.chain_of(new.phash)
                session.add(new)
                session.flush()
                new.chain = new.chain or new.id
            photo_id = session.scalar(select(Photo.id).where(Photo.sha256 == sha256))
            if photo_id is None:
                raise NotFound("this photo has just been removed", "upload it again")
            upload.photo_id = photo_id
            session.add(upload)
            session.flush()
            upload_id = upload.id
        if new is not None:
            known.add(new.phash, new.chain)
        return upload_id

    def _new_photo(self, data: bytes, sha256: str, limits: Limits, why: Why) -> Photo:
        """A photo whose file is stored and whose row is not yet inserted."""
        decoded = open_photo(data, limits)
        clean, suffix = cleaned(data, limits)
        value = phash(decoded)
        return Photo(
            sha256=sha256,
            phash=value,
            width=decoded.width,
            height=decoded.height,
            bytes=len(clean),
            reason=why.reason,
            probability=why.probability,
            frozen=nearest(value, self._frozen)[1] <= THRESHOLD,
            place=secrets.randbelow(_LARGEST_PLACE),
            expires_at=now() + self.keep,
            key=self.store.save(clean, suffix),
        )

    def has(self, data: bytes, name: str) -> bool:
        """Whether a photo was stored from a file of this name."""
        query = select(Upload.id).join(Photo, Photo.id == Upload.photo_id)
        query = query.where(Photo.sha256 == hashlib.sha256(data).hexdigest(), Upload.name == name)
        with self.database.begin() as session:
            return session.scalar(query.limit(1)) is not None

    def _read_known(self) -> Chains:
        with self.database.begin() as session:
            rows = session.execute(select(Photo.phash, Photo.chain).where(Photo.phash != "").order_by(Photo.id)).all()
        return Chains([row[0] for row in rows], [row[1] for row in rows])

    def upload(self, upload_id: int, account: int | None, visitor: str) -> tuple[Upload, Photo]:
        """An upload with its photo, for the one who made it.

        Raises:
            NotFound: there is none, or another person made it.
        """
        with self.database.begin() as session:
            return _own(session, upload_id, account, visitor)

    def uploads(self, account: int | None, visitor: str, before: int | None, count: int) -> list[tuple[Upload, Photo]]:
        """Somebody's uploads, newest first; those with an id below `before`."""
        query = select(Upload, Photo).join(Photo, Photo.id == Upload.photo_id).order_by(Upload.id.desc()).limit(count)
        query = query.where(_made_by(account, visitor))
        with self.database.begin() as session:
            rows = session.execute(query.where(Upload.id < before) if before else query)
            return [(row[0], row[1]) for row in rows]

    def own_opinion(self, photo_id: int, account: int | None) -> str:
        """The last opinion of an account about a photo; empty if there is none."""
        query = select(Opinion.value).where(Opinion.photo_id == photo_id, Opinion.account_id == account)
        with self.database.begin() as session:
            return session.scalar(query.order_by(Opinion.id.desc()).limit(1)) or ""

    def correct(self, upload_id: int, account: int | None, visitor: str, value: str) -> None:
        """Add the opinion of the one who uploaded a photo: a proposal, because it is not blind.

        Raises:
            NotFound: as `upload`.
        """
        with self.database.begin() as session:
            _, photo = _own(session, upload_id, account, visitor)
            _add_opinion(session, photo, account, value, blind=False)

    def review(self, photo_id: int, account: int, value: str) -> None:
        """Add a blind opinion.

        Raises:
            NotFound: there is no such photo.
            Refused: this account uploaded the photo or a near duplicate, or has an opinion, or it is decided.
        """
        with self.database.begin() as session:
            photo = _photo(session, photo_id)
            if photo.state not in OPEN:
                raise Refused("others have decided about this photo", "the next one is shown")
            if session.scalar(select(Photo.id).where(Photo.id == photo_id, known_to(account))):
                raise Refused("you uploaded this photo or have judged it", "another person has to decide")
            _add_opinion(session, photo, account, value, blind=True)

    def queue(self, account: int, count: int, states: Sequence[str] = OPEN) -> list[Photo]:
        """The next photos that an account can judge.

        Args:
            states: only photos in these, of the open ones.
        """
        with self.database.begin() as session:
            return next_photos(session, account, count, states)

    def open_photo(self, photo_id: int, account: int) -> Photo | None:
        """A photo that an account may be shown in the review."""
        query = select(Photo).where(Photo.id == photo_id, ~known_to(account))
        with self.database.begin() as session:
            return session.scalar(query)

    def agreed(self, after: int, count: int) -> list[tuple[Photo, int | None]]:
        """Photos with an agreed label by id, each with an account that uploaded it; none that is near a frozen one."""
        uploader = (
            select(Upload.account_id).where(Upload.photo_id == Photo.id).order_by(Upload.id).limit(1).scalar_subquery()
        )
        query = select(Photo, uploader).where(Photo.state == State.AGREED.value, Photo.id > after)
        query = query.where(Photo.frozen.is_(False), Photo.expires_at > now()).order_by(Photo.id).limit(count)
        with self.database.begin() as session:
            return [(row[0], row[1]) for row in session.execute(query)]

    def made_by(self, photo_id: int, account: int | None, visitor: str) -> bool:
        """Whether somebody has uploaded a photo."""
        with self.database.begin() as session:
            query = select(Upload.id).where(Upload.photo_id == photo_id, _made_by(account, visitor))
            return session.scalar(query.limit(1)) is not None

    def photo_by_key(self, key: str) -> Photo | None:
        """The photo with a key."""
        with self.database.begin() as session:
            return session.scalar(select(Photo).where(Photo.key == key))

    def file_of(self, photo_id: int) -> str:
        """The name of a photo's file, as in its URL.

        Raises:
            NotFound: there is no such photo.
        """
        with self.database.begin() as session:
            return _photo(session, photo_id).key.rpartition("/")[2]

    def forget(self, photo_id: int) -> str:
        """Remove a photo, its uploads and opinions, from the photo store and the database.

        The rows go last: as long as they are there, the same call can be repeated.

        Returns:
            what was removed, in words.

        Raises:
            NotFound: there is no such photo.
            OSError: its file cannot be removed; the rows stay.
        """
        with self.database.begin() as session:
            photo = _photo(session, photo_id)
            file = "its file" if self.store.delete(photo.key) else "no file (it was missing)"
            opinions = session.execute(delete(Opinion).where(Opinion.photo_id == photo_id)).rowcount  # type: ignore[attr-defined]
            uploads = session.execute(delete(Upload).where(Upload.photo_id == photo_id)).rowcount  # type: ignore[attr-defined]
            session.delete(photo)
        return f"photo {photo_id}: {number_of(uploads, 'upload')}, {number_of(opinions, 'opinion')}, {file}"

    def remove_strays(self) -> int:
        """Remove files of uploads that were killed before their rows were inserted; how many there were."""
        with self.database.begin() as session:
            keys = set(session.scalars(select(Photo.key)))
        return self.store.remove_others(keys)

    def expired(self) -> list[int]:
        """The ids of photos whose time is over."""
        with self.database.begin() as session:
            return list(session.scalars(select(Photo.id).where(Photo.expires_at <= now())))


def _photo(session: Session, photo_id: int) -> Photo:
    photo = session.get(Photo, photo_id, with_for_update=True)
    if photo is None:
        raise NotFound(f"there is no photo {photo_id}")
    return photo


def _own(session: Session, upload_id: int, account: int | None, visitor: str) -> tuple[Upload, Photo]:
    query = select(Upload, Photo).join(Photo, Photo.id == Upload.photo_id)
    query = query.where(Upload.id == upload_id, _made_by(account, visitor)).with_for_update(of=Photo)
    row = session.execute(query).first()
    if row is None:
        raise NotFound(f"there is no result {upload_id} of yours")
    return row[0], row[1]


def _made_by(account: int | None, visitor: str) -> Any:
    if account is not None:
        return Upload.account_id == account
    return (Upload.visitor == visitor) & (Upload.visitor != "")


def _add_opinion(session: Session, photo: Photo, account: int | None, value: str, blind: bool) -> None:
    """Add an opinion, and write the state that all opinions together give."""
    session.add(Opinion(photo_id=photo.id, account_id=account, value=value, blind=blind))
    session.flush()
    rows = session.scalars(select(Opinion).where(Opinion.photo_id == photo.id).order_by(Opinion.id))
    state, label = derive(Vote(row.account_id, row.value, row.blind) for row in rows)
    if photo.agreed != label:
        photo.agreed_at = now() if label else None
    photo.state, photo.agreed = state.value, label
