"""A node for tests of the front: small, and with TorchServe's manners about keys and connections."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from deploy.settings import HOST
from deploy.torchserve import keys
from traffic.front.nodes import Node


class Standin(BaseHTTPRequestHandler):
    """Answers like TorchServe: 400 to a wrong token, and its name and the request's content type to the right one."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm, wbufsize = True, -1
    key, name, log = "", "", Path()
    fails: Callable[[str, int], bool] = staticmethod(lambda path, number: False)
    failure = 500
    labels: Callable[[str], str] = staticmethod(lambda path: "disc")
    seconds: Callable[[str], float] = staticmethod(lambda path: 0.0)
    requests = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        right = self.headers["Authorization"] == f"Bearer {self.key}"
        type(self).requests += 1
        failed = self.fails(self.path, self.requests)
        status = (404 if "absent" in self.path else self.failure if failed else 200) if right else 400
        request_id = f"{self.name}-{self.requests}"
        if not failed or self.failure == 500:
            code, results = ("internal_error", []) if failed else ("ok", [["disc", 0.9]])
            with self.log.open("a") as log:
                log.write(json.dumps({"request_id": request_id, "code": code, "results": results, "unsure": 0}) + "\n")
        time.sleep(self.seconds(self.path))
        answer = {"node": self.name, "path": self.path, "type": self.headers["Content-Type"]}
        body = json.dumps({**answer, "result": self.labels(self.path), "confidence": 0.9}).encode()
        self.send_response(status)
        self.send_header("X-Request-Id", request_id)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Server(ThreadingHTTPServer):
    """A node whose open connections end with it, as TorchServe's do."""

    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.open: list[socket.socket] = []

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.append(request)
        super().process_request(request, client_address)

    def end(self) -> None:
        self.shutdown()
        for connection in self.open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def standin(
    node: Node,
    key: str,
    fails: Callable[[str, int], bool] = lambda path, number: False,
    labels: Callable[[str], str] = lambda path: "disc",
    seconds: Callable[[str], float] = lambda path: 0.0,
    failure: int = 500,
) -> Iterator[type[Standin]]:
    """A node that runs with a key; its key file appears before it listens, and is gone when it has ended.

    Args:
        fails: (path, number of the request) -> whether it fails.
        labels: path -> label of the answer.
        seconds: path -> how long it takes.
        failure: status of a request that fails: 500, or 503 without a line in the log, as if the handler had raised.
    """
    (node.var / "logs").mkdir(parents=True, exist_ok=True)
    (node.var / keys.FILE).write_text(json.dumps({"inference": {"key": key}}))
    facts = {
        "key": key,
        "name": node.name,
        "log": node.var / "logs" / "requests.log",
        "fails": staticmethod(fails),
        "labels": staticmethod(labels),
        "seconds": staticmethod(seconds),
        "failure": failure,
    }
    kind = type("Node", (Standin,), facts)
    with Server((HOST, int(node.inference.partition(":")[2])), kind) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield kind
        (node.var / keys.FILE).unlink()
        server.end()
        thread.join()
