"""Ed25519 keys: the training machine signs with a private one, the serving machine lists the public ones it trusts."""

import base64
import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from common.errors import AlreadyExists, InvalidInput, NotFound
from common.files import write_whole, writing

TRUSTED = "trusted-keys"
"""File in var/feedback: one public key a line."""
_PUBLIC_BYTES = 32


def make_key(path: Path) -> str:
    """Write a new private key that only its owner can read; its public key.

    Raises:
        AlreadyExists: there is a file: a key is never overwritten.
        CannotWrite: it cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            raise AlreadyExists(f"{path} exists", "give another name, or use that key") from error
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
    return text_of(key.public_key())


def read_key(path: Path) -> Ed25519PrivateKey:
    """A private key that `make_key` wrote.

    Raises:
        InvalidInput: it is missing, or no such key.
    """
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        fix = "make one with python -m feedback keys make FILE"
        raise InvalidInput(f"{path} is not a private key: {error}", fix) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InvalidInput(f"{path} is not an Ed25519 key", "make one with python -m feedback keys make FILE")
    return key


def text_of(key: Ed25519PublicKey) -> str:
    """A public key in base64, 44 characters."""
    return base64.b64encode(key.public_bytes_raw()).decode()


def public_key(text: str) -> Ed25519PublicKey:
    """A public key in base64.

    Raises:
        InvalidInput: it is none.
    """
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        raw = b""
    if len(raw) != _PUBLIC_BYTES:
        raise InvalidInput(f"{text[:80]!r} is not a public key", "copy the line that keys show prints")
    return Ed25519PublicKey.from_public_bytes(raw)


def trusted(folder: Path) -> tuple[str, ...]:
    """The public keys that the serving machine trusts; none if it has no list."""
    try:
        lines = (folder / TRUSTED).read_text(encoding="ascii").split()
    except FileNotFoundError:
        return ()
    return tuple(lines)


def trust(folder: Path, text: str) -> None:
    """Add a public key to the list; nothing to do if it is there.

    Raises:
        InvalidInput: it is not a public key.
        CannotWrite: the list cannot be written.
    """
    known, added = trusted(folder), text_of(public_key(text))
    if added not in known:
        _write(folder, (*known, added))


def distrust(folder: Path, text: str) -> None:
    """Take a public key from the list.

    Raises:
        NotFound: it is not in the list.
    """
    known = trusted(folder)
    if text not in known:
        raise NotFound(f"{text[:80]} is not trusted", "python -m feedback keys show lists the trusted keys")
    _write(folder, tuple(key for key in known if key != text))


def _write(folder: Path, keys: tuple[str, ...]) -> None:
    path = folder / TRUSTED
    with writing(path):
        write_whole(path, "".join(f"{key}\n" for key in keys).encode("ascii"))
