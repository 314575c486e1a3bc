"""Tokens of the front's clients, in var/front/tokens.json or the file of SERVE_FRONT_TOKENS: NAME -> TOKEN."""

import json
import re
import secrets
from pathlib import Path

from common.errors import AlreadyExists, InvalidInput, NotFound
from common.files import write_json, writing
from deploy.settings import Settings
from traffic.front.folder import folder

FIRST = "default"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}")
_TOKEN = re.compile(r"[0-9a-f]{48}")
_FORM = 'write {"CLIENT": "TOKEN"} into it, each token 48 digits of openssl rand -hex 24'


def read(var: Path) -> dict[str, str]:
    """All tokens by the name of their client; empty before the first is made.

    Raises:
        InvalidInput: the file is damaged.
    """
    return _read(_path(var), "remove it; clients then need new tokens")


def _read(path: Path, fix: str) -> dict[str, str]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if all(_NAME.fullmatch(name) and _TOKEN.fullmatch(token) for name, token in content.items()):
            return dict(content)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InvalidInput(f"{path} is damaged", fix) from error
    raise InvalidInput(f"{path} is damaged", fix)


def add(var: Path, name: str) -> str:
    """Make a token for a client.

    Raises:
        InvalidInput: the name has other characters than letters, digits, dots and hyphens.
        AlreadyExists: the client has one.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInput(f"{name!r} is not a client's name", "give letters, digits, dots and hyphens")
    tokens = read(var)
    if name in tokens:
        raise AlreadyExists(f"{name} has a token already", f"print it with python -m traffic token {name}")
    tokens[name] = secrets.token_hex(24)
    _write(var, tokens)
    return tokens[name]


def remove(var: Path, name: str) -> None:
    """Remove a client's token. Raises: NotFound: it has none."""
    tokens = read(var)
    if name not in tokens:
        raise unknown(name, tokens)
    del tokens[name]
    _write(var, tokens)


def ensure(var: Path) -> dict[str, str]:
    """All tokens; makes the first one if the file does not exist."""
    if not _path(var).exists():
        add(var, FIRST)
    return read(var)


def of(settings: Settings) -> dict[str, str]:
    """All tokens of a front: those of the file SERVE_FRONT_TOKENS, else those in var; makes the first one there.

    Raises:
        InvalidInput: a file is damaged, or that of SERVE_FRONT_TOKENS names no client.
    """
    path = settings.front.tokens
    if path is None:
        return ensure(settings.var)
    tokens = _read(path, _FORM)
    if not tokens:
        raise InvalidInput(f"{path} names no client or is missing", _FORM)
    return tokens


def unknown(name: str, tokens: dict[str, str]) -> NotFound:
    """The error that lists the clients."""
    known = ", ".join(tokens) or "none"
    return NotFound(f"{name} has no token (clients: {known})", f"make one with python -m traffic token {name} --add")


def _write(var: Path, tokens: dict[str, str]) -> None:
    with writing(_path(var).parent):
        write_json(_path(var), tokens)
        _path(var).chmod(0o600)


def _path(var: Path) -> Path:
    return folder(var) / "tokens.json"
