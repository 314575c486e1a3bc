"""The files of the front, in var/front."""

import hashlib
import os
import tempfile
from pathlib import Path

from common.errors import InvalidInput

SOCKET_PATH = 80
"""Bytes: the path of a Unix socket has at most 107, and "/NAME.sock" is added."""
_SPECIAL = frozenset("\"'\\$;{}\n")


def folder(var: Path) -> Path:
    """The folder of the front; its files are private, because `var` is.

    Raises:
        InvalidInput: nginx cannot read a path with these characters.
    """
    if _SPECIAL.intersection(str(var)):
        raise InvalidInput(f"{var} has a character that nginx reads as syntax", "give another with SERVE_VAR=FOLDER")
    return var / "front"


def shadow_socket(var: Path) -> Path:
    """Where nginx sends copies of requests (traffic/shadow/program.py)."""
    return sockets(var) / "shadow.sock"


def sockets(var: Path) -> Path:
    """The folder of the sockets between nginx's servers: var/front, or one for this `var` if that path is too long."""
    usual = folder(var)
    if len(os.fsencode(usual)) <= SOCKET_PATH and " " not in str(usual):
        return usual
    name = f"front-{os.getuid()}-{hashlib.sha256(os.fsencode(var)).hexdigest()[:12]}"
    return Path(tempfile.gettempdir()) / name
