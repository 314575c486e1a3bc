"""nginx in front of a real TorchServe: what comes through, what is refused, and the document's own client."""

import gzip
import json
import re
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import requests

from deploy.settings import HOST, read_settings, separate_environment
from deploy.torchserve.grpc import METHOD, GrpcClient
from deploy.torchserve.keys import read_key
from deploy.torchserve.process import Server
from handler import goldens
from tests.helpers.commands import SHIPPED
from tests.helpers.endpoint import Endpoint
from tests.helpers.traffic.front import bearer, needs_nginx, running_front
from tests.helpers.waiting import eventually
from traffic.front import tokens
from traffic.front.nodes import nodes
from traffic.front.program import Front

pytestmark = needs_nginx

# What a reader of the classroom document types: base64 as the text of Python bytes, no token, port 8087.
CLIENT = """
import base64, sys
import requests

with open(sys.argv[1], "rb") as photo:
    encoded = base64.b64encode(photo.read())
content = {"image_id": "12345", "image_base64": str(encoded)}
print(requests.post(f"http://0.0.0.0:{sys.argv[2]}/api/v1/get_pm/", json=content).text)
"""


@pytest.fixture(scope="module")
def front(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """A front in a folder of its own."""
    folder = tmp_path_factory.mktemp("front") / "var"
    folder.mkdir(mode=0o700)
    own = replace(server.settings, var=folder)
    with running_front(own, nodes(server.settings), model="classroom", rate=1000, connections=4) as running:
        url = running.settings.url("front")
        eventually(lambda: requests.post(url + "/api/v1/get_pm", data=b"x", timeout=30).status_code == 415)
        yield running


@pytest.fixture(scope="module")
def shapes(server: Server, bundle: Path) -> Endpoint:
    return Endpoint(server, "shapes", bundle)


class Chunks:
    """A body that is sent without its length, in chunks; again each time."""

    def __init__(self, *parts: bytes) -> None:
        self.parts = parts

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.parts)


def send(front: Front, path: str = "/predictions/shapes", **arguments: Any) -> requests.Response:
    headers = {**bearer(front), **arguments.pop("headers", {})}
    return requests.post(front.settings.url("front") + path, headers=headers, timeout=60, **arguments)


def code(answer: requests.Response) -> tuple[int, str]:
    """Status and code; the shape is that of the handler's errors."""
    content = answer.json()
    assert list(content) == ["image_id", "error"] and list(content["error"]) == ["code", "message"]
    assert answer.headers["Content-Type"] == "application/json"
    return answer.status_code, content["error"]["code"]


@pytest.mark.parametrize("photo", sorted((SHIPPED / "goldens").iterdir())[:3], ids=lambda path: path.name)
def test_the_client_of_the_document_gets_its_answer(front: Front, photo: Path) -> None:
    labels = {golden.photo: golden.label for golden in goldens.read(SHIPPED)}
    port = str(front.settings.ports["front_second_port"])
    done = subprocess.run([sys.executable, "-c", CLIENT, photo, port], capture_output=True, text=True, timeout=60)
    expected = {"image_id": "12345", "result": labels[f"goldens/{photo.name}"]}
    assert done.stdout == json.dumps(expected) + "\n", done.stderr


@pytest.mark.parametrize("path", ["/api/v1/get_pm", "/api/v1/get_pm/"])
def test_only_get_pm_needs_no_token_and_only_from_this_machine(front: Front, path: str) -> None:
    url, photo = front.settings.url("front"), (SHIPPED / "goldens" / "1_0.jpg").read_bytes()
    assert requests.post(url + path, data=photo, timeout=60).json() == {"image_id": None, "result": "online"}
    for headers in ({"X-Forwarded-For": "192.0.2.1"}, {"Forwarded": "for=192.0.2.1"}, {"Authorization": "Bearer x"}):
        assert code(requests.post(url + path, data=photo, headers=headers, timeout=60)) == (401, "unauthorized")
    assert send(front, path, data=photo, headers={"X-Forwarded-For": "192.0.2.1"}).ok
    assert code(requests.post(url + "/predictions/classroom", data=photo, timeout=60)) == (401, "unauthorized")


def test_every_form_of_a_request_is_answered_as_by_the_node(front: Front, shapes: Endpoint) -> None:
    photo, text = shapes.bytes_of(0), json.dumps({"image_id": "1", "image_base64": shapes.text_of(0)}).encode()
    files = {"a": ("a.png", photo, "image/png"), "b": ("b.png", shapes.bytes_of(1), "image/png")}
    forms: tuple[dict[str, Any], ...] = (
        {"data": text, "headers": {"Content-Type": "application/json"}},
        {"data": photo, "headers": {"Content-Type": "image/png", "X-Image-Id": "1", "X-Detail": "true"}},
        {"data": photo},
        {"files": files, "data": {"image_id": "1"}},
        {"data": gzip.compress(text), "headers": {"Content-Encoding": "gzip", "Content-Type": "application/json"}},
        {"data": Chunks(text[:1000], text[1000:]), "headers": {"Content-Type": "application/json"}},
        {"data": b"no photo"},
        {"data": b""},
        {"files": {"a": ("a.png", b"no photo", "image/png")}},
    )
    for arguments in forms:
        for path in ("", "/1.0"):
            both = [{**arguments, "headers": dict(arguments.get("headers", {}))} for _ in range(2)]
            through, direct = (
                send(front, f"/predictions/shapes{path}", **both[0]),
                shapes.post(f"shapes{path}", **both[1]),
            )
            assert (through.status_code, through.json()) == (direct.status_code, direct.json())
            assert through.headers["X-Request-Id"]


def test_predictions_over_grpc_come_through_and_nothing_else(front: Front, shapes: Endpoint, server: Server) -> None:
    token = tokens.read(front.settings.var)[tokens.FIRST]
    with GrpcClient(front.settings, token) as through, GrpcClient(server.settings) as direct:
        for photo in (shapes.bytes_of(0), b"no photo"):
            answers = [client.predict(model, photo, "1") for client in (through, direct) for model in ("shapes/1.0",)]
            assert answers[0] == answers[1] and answers[0]["image_id"] == "1"
        # TorchServe may end the call before nginx has counted the bytes.
        refused = through.predict("shapes", bytes(16_000_001), "1")["error"]["code"]
        assert refused in ("resource_exhausted", "unreachable")
        assert through.predict("shapes", shapes.bytes_of(0), "1")["result"] == direct.predict(
            "shapes", shapes.bytes_of(0), "1"
        ).get("result")
        for method in ("StreamPredictions", "Ping"):
            call = through.channel.unary_unary(METHOD.replace("Predictions", method))
            with pytest.raises(grpc.RpcError) as caught:
                call(b"", metadata=[("authorization", f"Bearer {token}")], timeout=30)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    for wrong in ("x" * 48, read_key(server.settings.var, "inference")):
        with GrpcClient(front.settings, wrong) as client:
            assert client.predict("shapes", shapes.bytes_of(0), "1")["error"]["code"] == "unauthenticated"


def test_a_clients_own_request_id_comes_back(front: Front, shapes: Endpoint) -> None:
    answer = send(front, data=shapes.bytes_of(0), headers={"X-Request-Id": "mine"})
    assert answer.headers["X-Client-Request-Id"] == "mine"


def test_what_is_not_a_prediction_is_not_there(front: Front) -> None:
    url = front.settings.url("front")
    for path in ("/", "/models", "/ping", "/metrics", "/explanations/shapes", "/predictions/", "/predictions/a/b/c",
                 "/predictions/shapes/../../models", "/v2/models/shapes/infer", "/api/v1/get_pm/x"):  # fmt: skip
        request = requests.Request("POST", url, headers=bearer(front)).prepare()
        request.url = url + path
        assert code(requests.Session().send(request, timeout=30)) == (404, "not_found"), path
    assert code(send(front, "/predictions/absent", data=b"x")) == (404, "not_found")
    assert code(requests.get(url + "/predictions/shapes", headers=bearer(front), timeout=30)) == (
        405,
        "method_not_allowed",
    )


def test_a_node_key_opens_nothing(front: Front, server: Server) -> None:
    for kind in ("inference", "management"):
        key = {"Authorization": f"Bearer {read_key(server.settings.var, kind)}"}
        assert code(send(front, data=b"x", headers=key)) == (401, "unauthorized")


def test_forms_that_a_node_could_only_guess_at_are_refused(front: Front) -> None:
    for kind in ("application/x-www-form-urlencoded", "Application/X-WWW-Form-Urlencoded; charset=utf-8"):
        assert code(send(front, data=b"a=b", headers={"Content-Type": kind})) == (415, "form_not_accepted")


def test_bodies_headers_and_addresses_have_limits(front: Front) -> None:
    assert code(send(front, data=bytes(16_000_001))) == (413, "body_too_large")
    assert code(send(front, data=Chunks(*[bytes(9_000_000)] * 2))) == (413, "body_too_large")
    assert send(front, data=b"\xff\xd8\xff" + bytes(15_999_990)).json()["error"]["code"] == "image_too_large"
    assert code(send(front, headers={"X-Long": "x" * 40_000})) == (431, "headers_too_large")
    assert code(send(front, "/predictions/shapes?" + "x" * 40_000)) == (414, "uri_too_long")
    assert raw(
        front, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
    ).startswith(b"HTTP/1.1 400")


def raw(front: Front, request: bytes) -> bytes:
    with socket.create_connection((HOST, front.settings.ports["front_port"]), timeout=30) as connection:
        connection.sendall(request)
        return connection.recv(1000)


class Unfinished:
    """Requests whose bodies have begun to arrive."""

    def __init__(self, front: Front, count: int) -> None:
        self.front = front
        self.connections = [self.begin() for _ in range(count)]

    def begin(self) -> socket.socket:
        connection = socket.create_connection((HOST, self.front.settings.ports["front_port"]))
        fields = {"Host": "a", "Content-Length": "1000", **bearer(self.front)}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        connection.sendall(f"POST /predictions/shapes HTTP/1.1\r\n{head}\r\nx".encode())
        return connection

    def answered(self) -> list[socket.socket]:
        return select.select(self.connections, [], [], 0)[0]

    def renew(self) -> bool:
        """Begin again what was refused: nginx counts an earlier test's request until it has seen that it has ended."""
        refused = self.answered()
        for connection in refused:
            self.connections.remove(connection)
            connection.close()
            self.connections.append(self.begin())
        return bool(refused)

    def close(self) -> None:
        for connection in self.connections:
            connection.close()


def test_one_address_has_a_limit_of_requests_at_once(front: Front) -> None:
    """Four bodies that have begun to arrive; the fifth request is refused, and taken when they have gone."""

    def fifth_is_refused() -> bool:
        return not unfinished.renew() and code(send(front, data=b"x")) == (429, "too_many_requests")

    with closing(Unfinished(front, 4)) as unfinished:
        assert eventually(fifth_is_refused)
    assert eventually(lambda: code(send(front, data=b"x")) == (415, "unsupported_format"))


def test_one_client_has_a_limit_of_requests_in_a_second(tmp_path: Path) -> None:
    """A front of its own, in a folder of its own, without a node."""
    var = tmp_path / "var"
    var.mkdir(mode=0o700)
    with running_front(read_settings(separate_environment(var, tmp_path)), rate=1) as slow:
        assert code(send(slow, data=b"x")) == (503, "unavailable")
        assert eventually(lambda: code(send(slow, data=b"x")) == (429, "too_many_requests"))


def test_a_request_is_logged_with_the_clients_address_and_name_and_no_secret(front: Front, shapes: Endpoint) -> None:
    answer = send(front, "/predictions/shapes?secret=1", data=shapes.bytes_of(0), headers={"X-Forwarded-For": 'a"b'})
    log = front.settings.var / "logs" / "front.log"
    line = json.loads(eventually(lambda: re.findall(rf".*{answer.headers['X-Request-Id']}.*", log.read_text()))[0])
    assert (line["address"], line["forwarded_for"], line["client"]) == (HOST, 'a"b', "default")
    assert (line["path"], line["status"], line["node_status"]) == ("/predictions/shapes", 200, "200")
    texts = [path.read_text(errors="replace") for path in front.nginx.logs.glob("front*.log")]
    secrets = [bearer(front)["Authorization"].partition(" ")[2], read_key(front.nodes[0].var, "inference"), "secret"]
    assert not [secret for secret in secrets for text in texts if secret in text]
