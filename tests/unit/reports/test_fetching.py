"""Which addresses are never fetched from, however they are written, and whatever a name resolves to."""

import contextlib
import socket
import threading
import time
from typing import Any

import pytest

from reports.scoring.fetching import Limits, fetch, is_public
from reports.scoring.worker import Task


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "::", "::1", "::127.0.0.1", "::ffff:10.0.0.1", "fd00::1", "fe80::1%eth0", "2002:7f00:1::", "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::7f00:1", "ff02::1",
    ],
)  # fmt: skip
def test_addresses_of_private_networks_are_not(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "[::1]", "[::ffff:127.0.0.1]", "localhost"]
)
def test_no_spelling_of_this_machine_is_fetched_from(host: str) -> None:
    task = fetch(Task(f"http://{host}:1/x.jpg"), Limits(1000, seconds=1))
    assert task.error
    assert task.error[0] == "fetch_blocked", task.error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheme", "first", "more"),
    [
        ("http", b"HTTP/1.1 200 OK\r\n", b"X-More: headers\r\n"),
        ("http", b"HTTP/1.1 200 OK\r\n\r\n", b"a part of the photo"),
        ("http", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"a part of the photo"),
        ("https", b"\x16\x03\x03\x04\x00", b"\0"),
    ],
    ids=["headers", "body", "body with a length", "handshake"],
)
def test_a_server_that_sends_a_little_at_a_time_is_left_at_the_limit(scheme: str, first: bytes, more: bytes) -> None:
    def answer() -> None:
        with server, server.accept()[0] as client, contextlib.suppress(OSError):
            client.sendall(first)
            for _ in range(60):
                time.sleep(0.1)
                client.sendall(more)

    server = socket.create_server(("127.0.0.1", 0))
    url = f"{scheme}://127.0.0.1:{server.getsockname()[1]}/x.jpg"
    threading.Thread(target=answer, daemon=True).start()
    started = time.monotonic()
    task = fetch(Task(url), Limits(10**6, seconds=0.6, allowed=frozenset({"127.0.0.1"})))
    assert task.error
    assert task.error[0] == "fetch_timeout", task.error
    assert time.monotonic() - started < 3


def test_a_url_that_is_none_is_an_error_row() -> None:
    assert (fetch(Task("http://[bad/1.jpg"), Limits(9)).error or ("",))[0] == "fetch_failed"


def test_a_name_with_one_private_address_is_blocked_and_no_second_answer_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = [["93.184.216.34", "10.0.0.1"], ["93.184.216.34"], ["10.0.0.1"]]
    connected: list[Any] = []

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in answers.pop(0)]

    def connect(place: tuple[str, int], timeout: float) -> None:
        connected.append(place)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_connection", connect)
    codes = [task.error and task.error[0] for task in (fetch(Task("http://photos.example/1"), Limits(9)) for _ in "12")]
    assert codes == ["fetch_blocked", "fetch_failed"]
    assert connected == [("93.184.216.34", 80)]
    assert answers == [["10.0.0.1"]]


def test_a_blocked_host_is_named_once_with_its_address() -> None:
    said = [(fetch(Task(f"http://{host}/1.jpg"), Limits(9)).error or "")[1] for host in ("10.0.0.1", "localhost")]
    assert said[0] == "10.0.0.1 is an address of a private network: see --allow-host"
    assert said[1].startswith(("localhost (127.0.0.1) is", "localhost (::1) is"))
