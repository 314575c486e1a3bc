"""Download a file of a known size from an allowed place: no redirects, no addresses of this machine by another name."""

import hashlib
import ipaddress
import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import requests

from common.download import BLOCK, blocks, by_fsspec
from common.errors import InvalidInput, NotFound, Unreachable
from feedback.delivery.release import File, Rejected

TIMEOUT_S = (5, 30)
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
    return b"".join(_blocks(link, most_bytes))


def download(link: str, file: File, target: Path) -> None:
    """Download a file whose size and digest are known.

    Raises:
        Rejected: it is missing, or its size or digest is another.
        Unreachable: it cannot be downloaded now.
        OSError: it cannot be written.
    """
    digest, size = hashlib.sha256(), 0
    with target.open("wb") as writing:
        for block in _blocks(link, file.bytes):
            size += len(block)
            digest.update(block)
            writing.write(block)
    if size != file.bytes:
        raise Rejected(f"{link} has {size} bytes, {file.bytes} were signed")
    if digest.hexdigest() != file.sha256:
        raise Rejected(f"{link} has another SHA-256 than was signed")


def _blocks(link: str, most_bytes: int) -> Iterator[bytes]:
    try:
        yield from blocks(link, most_bytes, by_fsspec if link.startswith("s3://") else _by_http)
    except (NotFound, InvalidInput) as error:
        raise Rejected(error.problem) from error


@contextmanager
def _by_http(link: str) -> Iterator[Iterable[bytes]]:
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
            yield reply.iter_content(BLOCK)


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
