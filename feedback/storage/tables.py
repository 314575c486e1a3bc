"""The tables. Times are UTC. Opinions are only ever added; `photo.state` and `photo.agreed` repeat what they say."""

from datetime import UTC, datetime

from sqlalchemy import JSON, DateTime, ForeignKey, Index, String, Text, TypeDecorator, UniqueConstraint
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Moment(TypeDecorator[datetime]):
    """A time with its zone. SQLite stores none, so UTC is added when it is read."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.replace(tzinfo=UTC) if value and value.tzinfo is None else value


def now() -> datetime:
    """This moment, UTC."""
    return datetime.now(UTC)


class Base(DeclarativeBase):
    """All tables."""


class Account(Base):
    """A person. `role` is one of `feedback.accounts.roles.ROLES`."""

    __tablename__ = "account"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    role: Mapped[str] = mapped_column(String(20))
    password: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(Moment, default=now)


class Login(Base):
    """A session of a browser. Only a digest of its cookie is stored."""

    __tablename__ = "login"
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"), index=True)
    expires_at: Mapped[datetime] = mapped_column(Moment)


class Token(Base):
    """A machine's token, or with scope `first` the one-time link that makes the first account."""

    __tablename__ = "token"
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    scope: Mapped[str] = mapped_column(String(20))
    created_at: Mapped[datetime] = mapped_column(Moment, default=now)


class Photo(Base):
    """A photo, once however often it is uploaded.

    Attributes:
        sha256: of the bytes that were uploaded.
        key: name in the photo store.
        phash: perceptual hash, hexadecimal; empty for a blank image.
        chain: id of the first photo of its chain of near duplicates.
        reason: why it is here: `upload` or a reason of the capture.
        probability: with which it was sampled, 0 to 1.
        frozen: whether it is a near duplicate of a frozen test photo.
        place: random, the order of the review queue.
    """

    __tablename__ = "photo"
    __table_args__ = (Index("photo_queue", "state", "place"), Index("photo_sample", "reason", "state", "place"))
    id: Mapped[int] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    key: Mapped[str] = mapped_column(String(80), unique=True)
    phash: Mapped[str] = mapped_column(String(40))
    chain: Mapped[int] = mapped_column(index=True)
    width: Mapped[int]
    height: Mapped[int]
    bytes: Mapped[int]
    reason: Mapped[str] = mapped_column(String(20), default="upload")
    probability: Mapped[float] = mapped_column(default=1.0)
    frozen: Mapped[bool] = mapped_column(default=False)
    place: Mapped[int]
    state: Mapped[str] = mapped_column(String(20), default="new")
    agreed: Mapped[str | None] = mapped_column(String(100))
    agreed_at: Mapped[datetime | None] = mapped_column(Moment)
    created_at: Mapped[datetime] = mapped_column(Moment, default=now, index=True)
    expires_at: Mapped[datetime] = mapped_column(Moment, index=True)


class Upload(Base):
    """One upload of a photo and the answer that it got. `image_id` is a digest, for requests to forget."""

    __tablename__ = "upload"
    id: Mapped[int] = mapped_column(primary_key=True)
    photo_id: Mapped[int] = mapped_column(ForeignKey("photo.id"), index=True)
    account_id: Mapped[int | None] = mapped_column(ForeignKey("account.id"), index=True)
    visitor: Mapped[str] = mapped_column(String(64), default="")
    name: Mapped[str] = mapped_column(String(200))
    model: Mapped[str] = mapped_column(String(64))
    version: Mapped[str] = mapped_column(String(40))
    label: Mapped[str] = mapped_column(String(100))
    confidence: Mapped[float]
    answer: Mapped[dict[str, object]] = mapped_column(JSON)
    milliseconds: Mapped[float]
    created_at: Mapped[datetime] = mapped_column(Moment, default=now)


class Opinion(Base):
    """What one account said about a photo. Never changed; the last one of an account counts."""

    __tablename__ = "opinion"
    id: Mapped[int] = mapped_column(primary_key=True)
    photo_id: Mapped[int] = mapped_column(ForeignKey("photo.id"), index=True)
    account_id: Mapped[int | None] = mapped_column(ForeignKey("account.id"), index=True)
    value: Mapped[str] = mapped_column(String(110))
    blind: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(Moment, default=now, index=True)


class Model(Base):
    """A version that a training machine announced with POST /model."""

    __tablename__ = "model"
    __table_args__ = (UniqueConstraint("name", "version"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    version: Mapped[int]
    ckpt_name: Mapped[str] = mapped_column(String(200))
    link: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(20), default="announced")
    why: Mapped[str] = mapped_column(Text, default="")
    gate: Mapped[dict[str, object]] = mapped_column(JSON, default=dict)
    created_at: Mapped[datetime] = mapped_column(Moment, default=now)
