"""Accounts, sessions of browsers, machine tokens, the one-time link of the first start."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from common.errors import AlreadyExists, InvalidInput, NotFound
from feedback.accounts.roles import ROLES, SCOPES
from feedback.accounts.secrets import digest, hashed, matches, new_secret
from feedback.storage.database import Database
from feedback.storage.tables import Account, Login, Token, now

SESSION = timedelta(days=14)
FIRST = "first"
FIRST_VALID = timedelta(days=7)
MAX_NAME = 60


@dataclass(frozen=True)
class Person:
    """Who is signed in."""

    id: int
    name: str
    role: str


class People:
    """Everything about who may do what, on one database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def add(self, name: str, role: str, password: str) -> Person:
        """Make an account.

        Raises:
            InvalidInput: the name, the role or the password is not valid.
            AlreadyExists: the name is taken, in any case of letters.
        """
        hash_ = hashed(password)
        with self.database.begin() as session:
            return _add(session, name, role, hash_)

    def first(self, secret: str, name: str, password: str) -> Person:
        """Make the first account, an admin, with the one-time link.

        Raises:
            NotFound: the link is wrong or used, or there is an account.
        """
        hash_ = hashed(password)
        with self.database.begin() as session:
            if not _first_is_valid(session, secret):
                raise NotFound("this link was used or is not valid", "sign in, or ask an admin for an account")
            session.execute(delete(Token).where(Token.scope == FIRST))
            return _add(session, name, ROLES[-1], hash_)

    def first_is_valid(self, secret: str) -> bool:
        """Whether a one-time link can still be used."""
        with self.database.begin() as session:
            return _first_is_valid(session, secret)

    def new_first(self) -> str | None:
        """The secret of a new one-time link, which replaces the former one; None if there is an account."""
        with self.database.begin() as session:
            if session.scalar(select(func.count()).select_from(Account)):
                return None
            session.execute(delete(Token).where(Token.scope == FIRST))
            return _issue(session, "the first start", FIRST)

    def sign_in(self, name: str, password: str) -> str | None:
        """Start a session; its secret, or None if the name or the password is wrong."""
        with self.database.begin() as session:
            account = _account(session, name)
            known = (account.id, account.password) if account else None
        if not matches(known[1] if known else None, password) or known is None:
            return None
        return self.start(known[0])

    def start(self, account_id: int) -> str:
        """Start a session of an account; its secret."""
        secret = new_secret()
        with self.database.begin() as session:
            session.execute(delete(Login).where(Login.expires_at < now()))
            session.add(Login(digest=digest(secret), account_id=account_id, expires_at=now() + SESSION))
        return secret

    def who(self, secret: str) -> Person | None:
        """Whose session this is; None if it has ended."""
        with self.database.begin() as session:
            row = session.execute(
                select(Account)
                .join(Login, Login.account_id == Account.id)
                .where(Login.digest == digest(secret), Login.expires_at > now())
            ).scalar()
            return _person(row) if row else None

    def sign_out(self, secret: str) -> None:
        """End a session."""
        with self.database.begin() as session:
            session.execute(delete(Login).where(Login.digest == digest(secret)))

    def add_token(self, name: str, scope: str) -> str:
        """Make a token for a machine.

        Raises:
            InvalidInput: there is no such scope.
        """
        if scope not in SCOPES:
            raise InvalidInput(f"{scope!r} is not a scope", f"give one of {', '.join(SCOPES)}")
        with self.database.begin() as session:
            return _issue(session, name, scope)

    def scope_of(self, secret: str) -> str | None:
        """The scope of a machine's token."""
        with self.database.begin() as session:
            token = session.get(Token, digest(secret))
            return token.scope if token and token.scope in SCOPES else None

    def listed(self) -> Sequence[Person]:
        """All accounts by name."""
        with self.database.begin() as session:
            return [_person(row) for row in session.scalars(select(Account).order_by(Account.name))]


def _add(session: Session, name: str, role: str, hash_: str) -> Person:
    name = " ".join(name.split())
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise InvalidInput(f"{name[:MAX_NAME]!r} is not a name", f"give 1 to {MAX_NAME} printable characters")
    if role not in ROLES:
        raise InvalidInput(f"{role!r} is not a role", f"give one of {', '.join(ROLES)}")
    if _account(session, name):
        raise AlreadyExists(f"there is an account {name!r}", "choose another name")
    account = Account(name=name, role=role, password=hash_)
    session.add(account)
    session.flush()
    return _person(account)


def _account(session: Session, name: str) -> Account | None:
    return session.scalar(select(Account).where(func.lower(Account.name) == " ".join(name.split()).lower()))


def _first_is_valid(session: Session, secret: str) -> bool:
    token = session.get(Token, digest(secret))
    if token is None or token.scope != FIRST or token.created_at < now() - FIRST_VALID:
        return False
    return not session.scalar(select(func.count()).select_from(Account))


def _issue(session: Session, name: str, scope: str) -> str:
    secret = new_secret()
    session.add(Token(digest=digest(secret), name=name[:100], scope=scope))
    return secret


def _person(account: Account) -> Person:
    return Person(account.id, account.name, account.role)
