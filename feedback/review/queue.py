"""Which photos an account can judge, and in which order it sees them."""

from collections.abc import Sequence
from itertools import zip_longest

from sqlalchemy import ColumnElement, Select, func, select, tuple_
from sqlalchemy.orm import Session, aliased

from feedback.storage.tables import Opinion, Photo, Upload

SAMPLED = "random"
"""The reason of photos of the random sample."""
_BLOCK = 32


def next_photos(session: Session, account: int, count: int, states: Sequence[str]) -> list[Photo]:
    """In turn one photo of the random sample and another one, unmarked."""
    judged = session.scalar(select(func.count()).where(Opinion.account_id == account, Opinion.blind)) or 0
    kinds = Photo.reason == SAMPLED, Photo.reason != SAMPLED
    sampled, others = (_next(session, account, states, count, kind) for kind in kinds)
    pairs = zip_longest(others, sampled) if judged % 2 else zip_longest(sampled, others)
    return [photo for pair in pairs for photo in pair if photo][:count]


def _next(session: Session, account: int, states: Sequence[str], count: int, kind: ColumnElement[bool]) -> list[Photo]:
    """The next open photos of a kind. One query for each state: so an index has their order, and few rows are read."""
    query = select(Photo).where(kind).order_by(Photo.place, Photo.id)
    found = [
        photo for state in states for photo in _unknown(session, account, count, query.where(Photo.state == state))
    ]
    return sorted(found, key=lambda photo: (photo.place, photo.id))[:count]


def _unknown(session: Session, account: int, count: int, query: Select[Photo]) -> list[Photo]:
    """The first photos of a query, by place and id, that an account can judge.

    They are looked up in blocks: in one query, PostgreSQL would first read all uploads and opinions of the account.
    """
    found, after = list[Photo](), (-1, 0)
    while len(found) < count:
        block = list(session.scalars(query.where(tuple_(Photo.place, Photo.id) > after).limit(_BLOCK)))
        ids = [photo.id for photo in block]
        known = set(session.scalars(select(Photo.id).where(Photo.id.in_(ids), known_to(account)))) if ids else set()
        found += [photo for photo in block if photo.id not in known]
        if len(block) < _BLOCK:
            break
        after = block[-1].place, block[-1].id
    return found[:count]


def known_to(account: int) -> ColumnElement[bool]:
    """Whether an account uploaded the photo of the outer query or another one of its chain, or has judged it."""
    near = aliased(Photo)
    uploaded = select(near.id).join(Upload, Upload.photo_id == near.id).correlate(Photo)
    judged = select(Opinion.id).where(Opinion.photo_id == Photo.id, Opinion.account_id == account).correlate(Photo)
    return uploaded.where(near.chain == Photo.chain, Upload.account_id == account).exists() | judged.exists()
