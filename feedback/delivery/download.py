"""Download a file of a known size from an allowed place: no redirects, no addresses of this machine by another name."""

import hashlib
import ipaddress
import re
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import fsspec
import requests

from common.errors import Unreachable, UserError
from feedback.delivery.release import File, Rejected

_BLOCK = 2**20
TIMEOUT_S = (5, 30)
MOST_S = 1800
"""The longest download."""
_LINK = re.compile(r"(?:https?|s3)://[\w.:/-]+\.(?:mar|zip)", re.ASCII)


def allowed(link: str, prefixes: tuple[str, ...]) -> bool:
    """Whether an archive may be downloaded from a link: below a prefix, and without a way out of it."""
    plain = _LINK.fullmatch(link) is not None and ".." not in link
    return plain and any(link.startswith(f"{prefix.rstrip('/')}/") for prefix in prefixes)


def small_file(link: str, most_bytes: int) -> bytes:
    """The content of a file of at most so many bytes.

    Raises:
        Rejected: it is missing or larger.
        Unreachable: it cannot be downloaded now.
    """
    data = bytearray()
    for block in _blocks(link):
        data += block
        if len(data) > most_bytes:
            raise Rejected(f"{link} has more than {most_bytes} bytes")
    return bytes(data)


def download(link: str, file: File, target: Path) -> None:
    """Download a file whose size and digest are known.

    Raises:
        Rejected: it is missing, or its size or digest is another.
        Unreachable: it cannot be downloaded now.
        OSError: it cannot be written.
    """
    digest, size = hashlib.sha256(), 0
    with target.open("wb") as writing:
        for block in _blocks(link):
            size += len(block)
            if size > file.bytes:
                break
            digest.update(block)
            writing.write(block)
    if size != file.bytes:
        amount = "more" if size > file.bytes else f"{size}"
        raise Rejected(f"{link} has {amount} bytes, {file.bytes} were signed")
    if digest.hexdigest() != file.sha256:
        raise Rejected(f"{link} has another SHA-256 than was signed")


def _blocks(link: str) -> Iterator[bytes]:
    started = time.monotonic()
    try:
        with _opened(link) as blocks:
            for block in blocks:
                if time.monotonic() - started > MOST_S:
                    raise Rejected(f"{link} took more than {MOST_S} seconds")
                yield block
    except UserError:
        raise
    except FileNotFoundError as error:
        raise Rejected(f"{link} does not exist") from error
    except Exception as error:  # clients of object storage raise what they like
        raise Unreachable(f"{link} cannot be downloaded: {error}", "it is tried again") from error


@contextmanager
def _opened(link: str) -> Iterator[Iterable[bytes]]:
    if link.startswith("s3://"):
        with fsspec.open(link, "rb") as source:
            yield iter(partial(source.read, _BLOCK), b"")
        return
    _require_no_alias_of_this_machine(link)
    with requests.Session() as session:
        session.trust_env = False
        headers = {"Accept-Encoding": "identity"}
        with session.get(link, stream=True, timeout=TIMEOUT_S, headers=headers, allow_redirects=False) as reply:
            if reply.status_code >= requests.codes.server_error:
                raise Unreachable(f"{link} answers {reply.status_code}", "it is tried again")
            if reply.status_code != requests.codes.ok:
                raise Rejected(f"{link} answers {reply.status_code}" + (" (a redirect)" if reply.is_redirect else ""))
            if reply.headers.get("Content-Encoding"):  # a few bytes could become gigabytes
                raise Rejected(f"{link} is sent compressed")
            yield reply.iter_content(_BLOCK)


def _require_no_alias_of_this_machine(link: str) -> None:
    """Refuse a name that leads to the loopback or to link-local services; an operator may allow 127.0.0.1 as such."""
    host = urlsplit(link).hostname or ""
    if host == "localhost" or _is_address(host):
        return
    for *_, address in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM):
        found = ipaddress.ip_address(str(address[0]).partition("%")[0])
        if found.is_loopback or found.is_link_local or found.is_unspecified:
            raise Rejected(f"{host} is {found}, an address of this machine")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
