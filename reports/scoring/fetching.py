"""Get remote photos, with limits on size, time, redirects and addresses.

A manifest holds addresses that other people wrote, so a photo is never fetched from a private network, not even after
a redirect or by a name that resolves to one: the address is resolved once, checked, and connected to
(https://owasp.org/www-community/attacks/Server_Side_Request_Forgery). `allowed` names the exceptions.
Proxies of the environment are not used.
"""

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from reports.scoring.worker import Task

_REDIRECTS = 3
_CHUNK = 64 * 1024
_URL = "/:?#[]@!$&'()*+,;=%~"  # what stays as it is in a URL; all else is written as %XX
_AGENT = "photoloop-reports"
_TRANSLATED = [ipaddress.IPv6Network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/48", "::/96")]


class FetchError(Exception):
    """A photo was not fetched. `code` is its error code in the row."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Limits:
    """Limits for one photo: bytes, seconds in all, and hosts that may be in a private network."""

    bytes: int
    seconds: float = 20
    allowed: frozenset[str] = frozenset()


def fetch(task: Task, limits: Limits) -> Task:
    """A task with a URL -> one with its bytes, or with an error; other tasks are returned unchanged."""
    scheme = task.path.partition("://")[0].lower()
    if scheme not in ("http", "https", "s3"):
        return task
    try:
        data = _from_storage(task.path, limits) if scheme == "s3" else _from_web(task.path, limits)
        return Task("", data)
    except FetchError as error:
        return Task("", None, (error.code, str(error)))
    except TimeoutError:
        return Task("", None, ("fetch_timeout", f"the photo did not arrive within {limits.seconds:g} s"))
    except Exception as error:  # sockets, TLS, HTTP and object storage have their own exceptions
        return Task("", None, ("fetch_failed", f"{type(error).__name__}: {error}"))


def _from_web(url: str, limits: Limits) -> bytes:
    deadline = time.monotonic() + limits.seconds
    for _ in range(_REDIRECTS + 1):
        with _connected(url, limits, deadline) as connection:
            answer = _ask(connection, url)
            if answer.status in (301, 302, 303, 307, 308):
                url = _target(url, answer.getheader("Location") or "")
                continue
            if answer.status != 200:
                raise FetchError(f"http_{answer.status}", f"the server answered {answer.status} {answer.reason}")
            return _body(answer, limits)
    raise FetchError("fetch_failed", f"more than {_REDIRECTS} redirects")


@contextmanager
def _connected(url: str, limits: Limits, deadline: float) -> Iterator[http.client.HTTPConnection]:
    """A connection that ends at the deadline: a socket's timeout is for each read, and a server may send bytes slowly.

    Raises:
        TimeoutError: the block was not done at the deadline.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    address = _checked(host, port, limits.allowed)
    connection = http.client.HTTPConnection(host, port)
    sock: Any = socket.create_connection((address, port), timeout=_left(deadline))
    if parts.scheme == "https":
        sock = ssl.create_default_context().wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
    connection.sock = sock
    timer = threading.Timer(deadline - time.monotonic(), _end, [sock])
    timer.daemon = True
    timer.start()
    try:
        if parts.scheme == "https":
            sock.do_handshake()
        yield connection
    except (OSError, http.client.HTTPException):
        _left(deadline)
        raise
    else:
        _left(deadline)
    finally:
        timer.cancel()
        connection.close()


def _end(sock: socket.socket) -> None:
    with suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # that of TLS would change what another thread reads from


def _checked(host: str, port: int, allowed: Collection[str]) -> str:
    """The address of a host.

    Raises:
        FetchError: it has none, or one that is not public.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise FetchError("fetch_failed", f"the host {host!r} is unknown") from error
    addresses = [str(entry[4][0]) for entry in found]
    if host not in allowed and (private := next((one for one in addresses if not is_public(one)), None)):
        named = host if host == private else f"{host} ({private})"
        raise FetchError("fetch_blocked", f"{named} is an address of a private network: see --allow-host")
    return addresses[0]


def is_public(address: str) -> bool:
    """Whether an address belongs to the internet; an IPv4 address inside IPv6 is judged as IPv4."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    inner = _inner(parsed) if isinstance(parsed, ipaddress.IPv6Address) else None
    return (inner or parsed).is_global and not (inner or parsed).is_multicast


def _inner(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address leads to: mapped, 6to4, or through a translator (RFC 6052, RFC 8215)."""
    if any(address in network for network in _TRANSLATED):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def _ask(connection: http.client.HTTPConnection, url: str) -> http.client.HTTPResponse:
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection.request(
        "GET", quote(path, _URL), headers={"User-Agent": _AGENT, "Accept": "image/*", "Connection": "close"}
    )
    return connection.getresponse()


def _target(url: str, location: str) -> str:
    target = urljoin(url, quote(location, _URL, encoding="latin-1"))  # headers are read as Latin-1
    if urlsplit(target).scheme not in ("http", "https"):
        raise FetchError("fetch_blocked", f"a redirect leads to {target[:100]!r}, which is neither http nor https")
    return target


def _body(answer: http.client.HTTPResponse, limits: Limits) -> bytes:
    parts: list[bytes] = []
    size = 0
    while part := answer.read1(_CHUNK):
        parts.append(part)
        size += len(part)
        if size > limits.bytes:
            raise FetchError("image_too_large", f"the photo has more than {limits.bytes} bytes")
    return b"".join(parts)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _from_storage(url: str, limits: Limits) -> bytes:
    """Read an object; credentials and endpoint come from the environment (AWS_...)."""
    import fsspec
    from fsspec.asyn import sync

    config = {"connect_timeout": limits.seconds, "read_timeout": limits.seconds, "retries": {"max_attempts": 2}}
    storage = fsspec.filesystem("s3", config_kwargs=config)
    try:
        reading = storage._cat_file  # cat_file has no limit on the time in all
        data: bytes = sync(storage.loop, reading, url, start=0, end=limits.bytes + 1, timeout=limits.seconds)
    except FileNotFoundError as error:
        raise FetchError("file_not_found", "there is no such object") from error
    except PermissionError as error:
        raise FetchError("fetch_denied", f"the object storage refuses it: {error}") from error
    except OSError as error:
        if "InvalidRange" in str(error.__cause__):  # an empty object has no first byte
            return b""
        raise
    if len(data) > limits.bytes:
        raise FetchError("image_too_large", f"the photo has more than {limits.bytes} bytes")
    return data
