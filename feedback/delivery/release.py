"""What the training machine signs: the name, version, size and SHA-256 of an archive and its manifest.

    ARCHIVE.signed      JSON: `release` (the signed text), `key` (public, base64), `signature` (base64)

An archive contains code that the serving machine runs, so a digest from the same sender would not do.
"""

import base64
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.errors import CheckFailed, UserError
from common.files import write_json
from feedback.delivery.keys import public_key, text_of

SUFFIX = ".signed"
_PURPOSE = b"photoloop release 1\n"
"""Signed with the text, so that a signature of anything else by the same key is none of a release."""


class Rejected(CheckFailed):
    """A version that must not be served."""


class File(BaseModel):
    """A file of a release, in the same folder as the archive."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,63}-[0-9]+(\.[0-9]+){1,2}\.(mar|json)$")]
    bytes: Annotated[int, Field(gt=0, le=4 * 2**30)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    @classmethod
    def of(cls, path: Path) -> "File":
        """Describe a file."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(name=path.name, bytes=path.stat().st_size, sha256=digest)


class Release(BaseModel):
    """An archive and its manifest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: str
    archive: File
    manifest: File


class _Signed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    release: str
    key: str
    signature: str


def sign(archive: Path, key: Ed25519PrivateKey) -> Path:
    """Sign an archive and its manifest; the new file beside them.

    Raises:
        OSError: one of them cannot be read, or the signature cannot be written.
    """
    name, _, version = archive.stem.rpartition("-")
    files = {"archive": File.of(archive), "manifest": File.of(archive.with_suffix(".json"))}
    text = Release(name=name, version=version, **files).model_dump_json()
    signature = base64.b64encode(key.sign(_PURPOSE + text.encode())).decode()
    path = archive.with_name(archive.name + SUFFIX)
    write_json(path, {"release": text, "key": text_of(key.public_key()), "signature": signature})
    return path


def verified(data: bytes, trusted: Iterable[str]) -> Release:
    """The release that a trusted key has signed.

    Args:
        data: content of the file that `sign` wrote.
        trusted: public keys in base64.

    Raises:
        Rejected: it is damaged, signed by another key, or the signature is wrong.
    """
    try:
        signed = _Signed.model_validate(json.loads(data))
        signature = base64.b64decode(signed.signature, validate=True)
    except (ValueError, ValidationError) as error:
        raise Rejected("the signature file is damaged") from error
    if signed.key not in trusted:
        raise Rejected(f"it is signed by {signed.key[:50]}, which is not trusted")
    try:
        public_key(signed.key).verify(signature, _PURPOSE + signed.release.encode())
        return Release.model_validate_json(signed.release)
    except InvalidSignature as error:
        raise Rejected("the signature is wrong") from error
    except (ValueError, UserError) as error:
        raise Rejected("the signed release is not valid") from error
