"""The edge (`scripts/container.sh traffic`): it follows the addresses of the nodes and loses no request."""

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from deploy.settings import HOST, ROOT
from tests.helpers.running.names import Names, names
from tests.helpers.s3 import free_port
from tests.helpers.traffic.front import needs_nginx
from tests.helpers.waiting import eventually

pytestmark = needs_nginx
FIRST, SECOND = "127.0.0.2", "127.0.0.3"


class Answer(BaseHTTPRequestHandler):
    """Answers with the address of its server, and with what the edge added."""

    status = 200

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        host = self.connection.getsockname()[0]
        body = f"{host} {self.headers['X-Forwarded-For']} {self.headers['Authorization']}"
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Busy(Answer):
    """A node whose front has no server that answers."""

    status = 503


@contextmanager
def pod(host: str, port: int, kind: type[Answer] = Answer) -> Iterator[None]:
    with ThreadingHTTPServer((host, port), kind) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


class Edge:
    """A running edge."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, behind: int, dns: Names) -> None:
        self.process, self.port, self.behind, self.dns = process, port, behind, dns

    def ask(self) -> requests.Response:
        return requests.post(
            f"http://{HOST}:{self.port}/predictions/x", b"x", headers={"Authorization": "Bearer t"}, timeout=10
        )

    def nodes(self, count: int = 12) -> set[str]:
        """Which nodes answer."""
        answers = [self.ask() for _ in range(count)]
        assert {answer.status_code for answer in answers} == {200}, [answer.text for answer in answers]
        return {answer.text.split()[0] for answer in answers}


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    port, behind = free_port(), free_port()
    with names() as dns:
        variables = {"NODES": f"nodes.test:{behind}", "LISTEN": f"{HOST}:{port}", "RESOLVER": dns.place}
        process = subprocess.Popen(
            [ROOT / "scripts" / "container.sh", "traffic"],
            env={"PATH": f"{os.defpath}:/usr/sbin", "TMPDIR": str(tmp_path), **variables},
        )
        try:
            eventually(lambda: listens(port))
            yield Edge(process, port, behind, dns)
        finally:
            process.terminate()  # to the shell, which stops nginx
            process.wait(30)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


@pytest.mark.slow
def test_it_follows_the_addresses_and_passes_tokens_on(edge: Edge) -> None:
    with pod(FIRST, edge.behind), pod(SECOND, edge.behind):
        edge.dns.addresses = [FIRST]
        eventually(lambda: edge.ask().ok)
        assert edge.nodes() == {FIRST}
        assert edge.ask().text.split()[1:] == [HOST, "Bearer", "t"]
        edge.dns.addresses = [FIRST, SECOND]
        eventually(lambda: edge.nodes() == {FIRST, SECOND})
        edge.dns.addresses = [SECOND]
        eventually(lambda: edge.nodes() == {SECOND})


@pytest.mark.parametrize("fault", ["gone", "busy"])
def test_a_request_that_a_node_refuses_goes_to_the_next(edge: Edge, fault: str) -> None:
    with ExitStack() as stack:
        stack.enter_context(pod(SECOND, edge.behind))
        if fault == "busy":
            stack.enter_context(pod(FIRST, edge.behind, Busy))
        edge.dns.addresses = [FIRST, SECOND]
        eventually(lambda: edge.ask().ok)
        assert edge.nodes(20) == {SECOND}


def test_a_request_in_progress_is_answered_after_sigterm(edge: Edge) -> None:
    edge.dns.addresses = [FIRST]
    with pod(FIRST, edge.behind), socket.create_connection((HOST, edge.port), timeout=10) as client:
        eventually(lambda: edge.ask().ok)
        client.sendall(b"POST /predictions/x HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
        eventually(lambda: edge.ask().ok)  # by now the edge has read the half
        edge.process.send_signal(signal.SIGTERM)
        eventually(lambda: not listens(edge.port))
        client.sendall(b"cd")
        assert client.recv(100).startswith(b"HTTP/1.1 200")
    assert edge.process.wait(10) == 0
