"""The image's entry point as an engine runs it: another user, no HOME, read-only code, stopped with SIGTERM.

The last test goes through a rolling update of Kubernetes in its order, with processes in place of pods.
"""

import base64
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import requests

from deploy.settings import HOST, separate_environment
from handler import goldens
from tests.helpers.light import pack_quickly
from tests.helpers.running.container import USER, Container, contained, needs_namespaces
from tests.helpers.running.names import names
from tests.helpers.s3 import free_port
from tests.helpers.traffic.front import needs_nginx
from tests.helpers.waiting import eventually

pytestmark = [needs_namespaces, needs_nginx]
TOKEN = "0123456789ab" * 4
GRACE_S = 60
"""Of the 90 s that Kubernetes waits, ten are the preStop hook's (kubernetes/base/node/deployment.yaml)."""
RESOLVED_S = 2.0
"""The edge asks for the nodes' addresses again after a second; the preStop hook waits longer."""
OLD, NEW = "127.0.0.2", "127.0.0.3"


class Node:
    """`serve` in a container, and what a client needs."""

    def __init__(self, container: Container, host: str, port: int, photo: bytes, label: str) -> None:
        self.container, self.host, self.port, self.label = container, host, port, label
        self.body = json.dumps({"image_id": "1", "image_base64": base64.b64encode(photo).decode()}).encode()
        self.url = f"http://{host}:{port}"
        self.headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}

    def ready(self) -> bool:
        assert self.container.process.poll() is None, self.container.printed()
        try:
            return requests.get(f"{self.url}/ready", timeout=5).ok
        except requests.RequestException:
            return False

    def predictions(self) -> int:
        """How many its front has answered."""
        lines = (self.container.data / "var" / "logs" / "front.log").read_text().splitlines()
        return sum(json.loads(line)["path"].startswith("/predictions") for line in lines)


@contextmanager
def running(light: Path, data: Path, host: str, port: int) -> Iterator[Node]:
    """A node that is ready, on an address of its own: pods have the same ports and different addresses."""
    pack_quickly(light, "1.0", data / "model_store")
    (data / "bundle").mkdir()
    for name in ("recipe.json", "run.json"):
        (data / "bundle" / name).write_bytes((light / name).read_bytes())
    (data / "tokens.json").write_text(json.dumps({"edge": TOKEN}))
    for path in (data, *data.rglob("*")):
        os.chown(path, USER, 0)
    ports = {name: value for name, value in separate_environment(data, data).items() if name.endswith("_PORT")}
    front = {"SERVE_FRONT_HOST": host, "SERVE_FRONT_PORT": str(port), "SERVE_FRONT_CONNECTIONS": "1000"}
    tokens = {"SERVE_FRONT_TOKENS": "/mnt/tokens.json", "SERVE_FRONT_TOKENLESS": "off"}
    golden = goldens.read(light)[0]
    with contained(data, {**ports, **front, **tokens}, "serve", "--bundle", "/mnt/bundle") as container:
        node = Node(container, host, port, (light / golden.photo).read_bytes(), golden.label or "")
        eventually(node.ready, 120, container.printed)
        yield node


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def node(light: Path, port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running(light, tmp_path_factory.mktemp("old") / "data", OLD, port) as started:
        yield started


def test_it_answers_a_golden_photo_to_a_client_with_a_token_only(node: Node) -> None:
    answer = requests.post(f"{node.url}/predictions/shapes", node.body, headers=node.headers, timeout=30)
    assert (answer.status_code, answer.json()) == (200, {"image_id": "1", "result": node.label})
    assert requests.post(f"{node.url}/predictions/shapes", node.body, timeout=30).status_code == 401


def test_no_process_is_root_or_may_write_what_is_not_its_own(node: Node) -> None:
    processes = [node.container.init, *node.container.init.children(recursive=True)]
    assert len(processes) > 5
    assert {uid for process in processes for uid in process.uids()} == {USER}
    assert all("HOME" not in process.environ() for process in processes)
    root = Path(f"/proc/{node.container.init.pid}/root")
    for place in ("", "etc", "usr/bin", *Path(__file__).parts[1:2]):
        assert os.statvfs(root / place).f_flag & os.ST_RDONLY, place


def test_a_rolling_update_loses_no_request(node: Node, light: Path, port: int, tmp_path: Path) -> None:
    """The new node is ready, then named; the old one is no longer named, and only then stopped."""
    with names() as dns:
        edge = {"NODES": f"nodes.test:{port}", "LISTEN": f"{HOST}:{free_port()}", "RESOLVER": dns.place}
        dns.addresses = [OLD]
        with contained(tmp_path / "edge", edge, "traffic") as front, load(node, edge["LISTEN"]) as answers:
            eventually(lambda: answers[-3:] == [200] * 3, 60, front.printed)
            del answers[:]
            with running(light, tmp_path / "new", NEW, port) as new:
                dns.addresses = [OLD, NEW]
                eventually(lambda: new.predictions() > 10, 30, lambda: str(answers))
                dns.addresses = [NEW]
                time.sleep(RESOLVED_S)
                stop_during_a_request(node)
                before = len(answers)
                eventually(lambda: len(answers) > before + 20)
                assert set(answers) == {200} and len(answers) > 100
            front.init.send_signal(signal.SIGTERM)
            assert front.process.wait(GRACE_S) == 0, front.printed()


def stop_during_a_request(node: Node) -> None:
    """SIGTERM while the node has half of a request: it is answered, everything ends, and nothing is left."""
    half = len(node.body) // 2
    headers = {"Host": "x", **node.headers, "Content-Length": str(len(node.body))}
    lines = ["POST /predictions/shapes HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    inside = [node.container.init, *node.container.init.children(recursive=True)]
    with socket.create_connection((node.host, node.port), timeout=GRACE_S) as client:
        client.sendall("\r\n".join(lines).encode() + node.body[:half])
        node.container.init.send_signal(signal.SIGTERM)
        eventually(lambda: not listens(node.host, node.port), GRACE_S, node.container.printed)
        client.sendall(node.body[half:])
        answer = client.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 200") and node.label.encode() in answer
    assert node.container.process.wait(GRACE_S) == 0, node.container.printed()
    assert not psutil.wait_procs(inside, timeout=5)[1]
    assert not (node.container.data / "var" / "key_file.json").exists()


def listens(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


@contextmanager
def load(node: Node, place: str) -> Iterator[list[int]]:
    """Three clients that keep their connections to the edge; yields the statuses, 0 for a request without an answer."""
    answers: list[int] = []
    over = threading.Event()

    def ask() -> None:
        with requests.Session() as session:
            while not over.wait(0.02):
                try:
                    answer = session.post(
                        f"http://{place}/predictions/shapes", node.body, headers=node.headers, timeout=30
                    )
                    answers.append(answer.status_code)
                except requests.RequestException:
                    answers.append(0)

    clients = [threading.Thread(target=ask) for _ in range(3)]
    for client in clients:
        client.start()
    try:
        yield answers
    finally:
        over.set()
        for client in clients:
            client.join()
