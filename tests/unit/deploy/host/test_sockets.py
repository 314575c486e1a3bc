"""Connections that are silent in the middle of a request are closed; those that wait for the next one are not."""

import socket
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from deploy.host.sockets import close_unfinished
from deploy.settings import HOST
from tests.helpers.waiting import eventually

SERVER = """
import socket, sys, threading
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
def answer(connection):
    while data := connection.recv(100):
        if b"end" in data:
            connection.sendall(b"answer")
    connection.close()
while True:
    threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()
"""


@pytest.fixture
def server() -> Iterator[tuple[psutil.Process, int]]:
    """A child process that answers every message with "end" in it, and its port."""
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield psutil.Process(process.pid), int(process.stdout.readline())
        process.kill()


def test_an_unfinished_request_is_closed_and_an_idle_connection_is_not(server: tuple[psutil.Process, int]) -> None:
    process, port = server
    with socket.create_connection((HOST, port)) as idle, socket.create_connection((HOST, port)) as unfinished:
        idle.sendall(b"end")
        assert idle.recv(100) == b"answer"
        unfinished.sendall(b"beginning")
        assert close_unfinished(process, {port}, 60) == 0
        assert close_unfinished(process, {port + 1}, 0) == 0
        assert eventually(lambda: close_unfinished(process, {port}, 0.05), 10) == 1
        assert unfinished.recv(100) == b""
        idle.sendall(b"end")
        assert idle.recv(100) == b"answer"
        assert close_unfinished(process, {port}, 60) == 0
