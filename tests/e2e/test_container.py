"""The image's entry point as an engine runs it: another user, no HOME, read-only code, stopped with SIGTERM."""

import base64
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests

from deploy.settings import HOST, separate_environment
from handler import goldens
from tests.helpers.light import pack_quickly
from tests.helpers.running.container import USER, Container, contained, needs_namespaces
from tests.helpers.traffic.front import needs_nginx
from tests.helpers.waiting import eventually

pytestmark = [needs_namespaces, needs_nginx]
TOKEN = "0123456789ab" * 4
GRACE_S = 60
"""Of the 90 s that Kubernetes waits, ten are the preStop hook's (kubernetes/base/node.yaml)."""


class Node:
    """`serve` in a container, and what a client needs."""

    def __init__(self, container: Container, port: int, photo: bytes, label: str) -> None:
        self.container, self.port, self.label = container, port, label
        self.body = json.dumps({"image_id": "1", "image_base64": base64.b64encode(photo).decode()}).encode()
        self.url = f"http://{HOST}:{port}"
        self.headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}

    def ready(self) -> bool:
        assert self.container.process.poll() is None, self.container.printed()
        try:
            return requests.get(f"{self.url}/ready", timeout=5).ok
        except requests.RequestException:
            return False


@pytest.fixture(scope="module")
def node(light: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    data = tmp_path_factory.mktemp("container") / "data"
    pack_quickly(light, "1.0", data / "model_store")
    (data / "bundle").mkdir()
    for name in ("recipe.json", "run.json"):
        (data / "bundle" / name).write_bytes((light / name).read_bytes())
    (data / "tokens.json").write_text(json.dumps({"edge": TOKEN}))
    for path in (data, *data.rglob("*")):
        os.chown(path, USER, 0)
    ports = {name: value for name, value in separate_environment(data, data).items() if name.endswith("_PORT")}
    variables = {**ports, "SERVE_FRONT_TOKENS": "/mnt/tokens.json", "SERVE_FRONT_TOKENLESS": "off"}
    golden = goldens.read(light)[0]
    with contained(data, variables, "serve", "--bundle", "/mnt/bundle") as container:
        started = Node(
            container, int(ports["SERVE_FRONT_PORT"]), (light / golden.photo).read_bytes(), golden.label or ""
        )
        eventually(started.ready, 120, container.printed)
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


def test_a_request_that_arrives_during_sigterm_is_answered_and_nothing_is_left(node: Node) -> None:
    half = len(node.body) // 2
    head = "".join(f"{name}: {value}\r\n" for name, value in node.headers.items())
    inside = [node.container.init, *node.container.init.children(recursive=True)]
    with socket.create_connection((HOST, node.port), timeout=GRACE_S) as client:
        head = f"POST /predictions/shapes HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {len(node.body)}\r\n\r\n"
        client.sendall(head.encode() + node.body[:half])
        node.container.init.send_signal(signal.SIGTERM)
        eventually(lambda: _refused(node.port), GRACE_S, node.container.printed)
        client.sendall(node.body[half:])
        answer = client.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 200") and node.label.encode() in answer
    assert node.container.process.wait(GRACE_S) == 0, node.container.printed()
    assert not psutil.wait_procs(inside, timeout=5)[1]
    assert not (node.container.data / "var" / "key_file.json").exists()


def _refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) != 0
