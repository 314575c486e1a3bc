"""Passwords, and secrets of which only a digest is stored."""

import hashlib
import secrets

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from common.errors import InvalidInput
from common.words import number_of

MIN_PASSWORD, MAX_PASSWORD = 10, 200
_hasher = PasswordHasher()
_NOBODY = _hasher.hash(secrets.token_urlsafe())


def hashed(password: str) -> str:
    """The argon2 hash of a password.

    Raises:
        InvalidInput: it is too short or too long.
    """
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise InvalidInput(
            f"the password has {number_of(len(password), 'character')}",
            f"choose {MIN_PASSWORD} to {MAX_PASSWORD} characters",
        )
    return _hasher.hash(password)


def matches(stored: str | None, password: str) -> bool:
    """Whether a password is right. An unknown account takes as long as a known one."""
    try:
        right = _hasher.verify(stored or _NOBODY, password[:MAX_PASSWORD])
    except (Argon2Error, InvalidHashError):
        return False
    return right and stored is not None


def new_secret() -> str:
    """A secret for a cookie, a link or a token: 256 random bits."""
    return secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    """What is stored of a secret. A plain digest is enough, because nobody can guess 256 random bits."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def csrf_token(secret: str) -> str:
    """The token that the forms of a session contain."""
    return hashlib.sha256(b"csrf " + secret.encode("utf-8", "surrogatepass")).hexdigest()
