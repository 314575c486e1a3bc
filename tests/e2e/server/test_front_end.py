"""TorchServe's own front end with requests that it handles badly: no worker ends, and no memory is lost."""

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from deploy.host.sockets import close_unfinished
from deploy.settings import HOST
from deploy.supervision.front_end import HTTP
from deploy.torchserve.grpc import METHOD, GrpcClient
from deploy.torchserve.keys import read_key
from deploy.torchserve.process import Server
from tests.helpers.endpoint import Endpoint
from tests.helpers.waiting import eventually

REFUSED: dict[str, dict[str, bytes]] = {
    "unsupported_format": {"data": b"<html>"},
    "missing_image": {},
    "empty_image": {"data": b""},
    "image_too_large": {"data": bytes(15_000_000)},
}

TOO_LARGE = {"data": bytes(17_000_000)}
GIVEN_UP = 500
SEQUENCE = b"\x22\x017"
"""The field sequence_id of StreamPredictions2, which is for models with a state."""


def worker_pids(server: Server, model: str) -> list[int]:
    """The process ids of a model's workers that are ready."""
    workers = (server.client.describe(model) or {})["workers"]
    return [worker["pid"] for worker in workers if worker["status"] == "READY"]


@pytest.mark.parametrize("method", ["StreamPredictions", "StreamPredictions2"])
@pytest.mark.parametrize("model", ["shapes", "shapes_batched"])
def test_grpc_streams_are_refused_and_leave_the_worker_alive(
    server: Server, bundle: Path, method: str, model: str
) -> None:
    """A photo and a file that is none, with and without a sequence: by itself TorchServe would end the worker."""
    shapes, before = Endpoint(server, model, bundle), worker_pids(server, model)
    with GrpcClient(server.settings) as client:
        token = [("authorization", f"Bearer {read_key(server.settings.var, 'inference')}")]
        call = client.channel.stream_stream(METHOD.removesuffix("Predictions") + method)
        for image in (shapes.bytes_of(0), b"<html>"):
            request = client.request(model_name=model, input={"data": image}).SerializeToString()
            for sequence in (b"", SEQUENCE):
                with pytest.raises(grpc.RpcError) as refusal:
                    list(call(iter([request + sequence]), metadata=token, timeout=30))
                assert refusal.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert client.predict(model, shapes.bytes_of(0), "1")["status"] == 200
    assert worker_pids(server, model) == before


def test_odd_grpc_requests_are_refused_and_leave_the_worker_alive(server: Server, bundle: Path) -> None:
    shapes, before = Endpoint(server, "shapes", bundle), worker_pids(server, "shapes")
    with GrpcClient(server.settings) as client:
        token = [("authorization", f"Bearer {read_key(server.settings.var, 'inference')}")]
        for code, fields in REFUSED.items():
            answer = client.call(client.request(model_name="shapes", input=fields), metadata=token, timeout=30)
            assert json.loads(answer.prediction)["error"]["code"] == code
        for odd in ({}, {"model_name": "shapes", "model_version": "9"}, {"model_name": "shapes", "input": TOO_LARGE}):
            with pytest.raises(grpc.RpcError):
                client.call(client.request(**odd), metadata=token, timeout=30)
        assert client.predict("shapes", shapes.bytes_of(0), "1")["status"] == 200
    assert worker_pids(server, "shapes") == before


def test_grpc_clients_that_give_up_leave_the_worker_alive(server: Server, bundle: Path) -> None:
    """At any moment, also when the answer comes: by itself TorchServe ended the worker once in some hundred times."""
    shapes, before = Endpoint(server, "shapes", bundle), worker_pids(server, "shapes")
    with GrpcClient(server.settings) as client:
        token = [("authorization", f"Bearer {read_key(server.settings.var, 'inference')}")]
        request = client.request(model_name="shapes", input={"data": shapes.bytes_of(0)})
        usual = min(seconds(lambda: client.call(request, metadata=token, timeout=30)) for _ in range(10))
        for number in range(GIVEN_UP):
            call = client.call.future(request, metadata=token)
            time.sleep(usual * (0.7 + 0.6 * number / GIVEN_UP))
            call.cancel()
        assert client.predict("shapes", shapes.bytes_of(0), "1")["status"] == 200
    assert worker_pids(server, "shapes") == before
    assert "call is closed" not in (server.logs / "ts_log.log").read_text()


def seconds(work: Callable[[], object]) -> float:
    """How long a call takes."""
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def test_a_request_whose_body_stops_arriving_is_closed_and_others_are_not(server: Server, bundle: Path) -> None:
    shapes, java = Endpoint(server, "shapes", bundle), server.java
    assert java is not None
    ports = {server.settings.ports[key] for key in HTTP}
    assert shapes.post(data=shapes.bytes_of(0), headers={"Content-Type": "image/png"}).ok  # leaves a connection open
    with socket.create_connection((HOST, server.settings.ports["inference_address"]), timeout=30) as unfinished:
        unfinished.sendall(head_of(server, "image/jpeg", 1000) + bytes(10))
        assert close_unfinished(java, ports, 60) == 0
        assert eventually(lambda: close_unfinished(java, ports, 0.1)) == 1
        assert unfinished.recv(100) == b""
    assert shapes.post(data=shapes.bytes_of(0), headers={"Content-Type": "image/png"}).ok


def test_whoever_has_the_management_token_can_run_code(server: Server, tmp_path: Path) -> None:
    """A fact that docs/operate.md states: TorchServe loads a folder by its absolute path, wherever it lies."""
    model = {"modelName": "outside", "modelVersion": "1.0", "handler": "code.py"}
    (tmp_path / "MAR-INF").mkdir()
    (tmp_path / "MAR-INF" / "MANIFEST.json").write_text(json.dumps({"runtime": "python", "model": model}))
    (tmp_path / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\ndef handle(*_): return []\n")
    question = {"url": str(tmp_path), "model_name": "outside", "initial_workers": 1}
    server.client.manage("POST", "/models", params=question)
    try:
        eventually((tmp_path / "ran").exists)
    finally:
        server.client.manage("DELETE", "/models/outside")


def test_broken_forms_leave_no_file(server: Server) -> None:
    """When TorchServe's front end read forms itself, a part that declared a size too large left its file for ever."""
    before = {path.name for path in server.temporary.iterdir()}
    for header in (
        "Content-Length: 20000000",
        "Content-Type: text/plain; charset=none",
        "Content-Transfer-Encoding: none",
    ):
        assert post_form(server, broken_form(header)).startswith(b"HTTP/1.1 4")
    assert {path.name for path in server.temporary.iterdir()} == before


def broken_form(header: str) -> bytes:
    """A form with a file that has a header, and a part without any."""
    head = f'--b\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n{header}\r\n\r\n'
    return head.encode() + bytes(1000) + b"\r\n--b\r\n\r\nb\r\n--b--\r\n"


def post_form(server: Server, body: bytes) -> bytes:
    """The beginning of the answer."""
    with socket.create_connection((HOST, server.settings.ports["inference_address"]), timeout=30) as connection:
        connection.sendall(head_of(server, "multipart/form-data; boundary=b", len(body)) + body)
        return connection.recv(1000)


def head_of(server: Server, content_type: str, size: int) -> bytes:
    """The lines of a request before its body."""
    lines = [
        "POST /predictions/shapes HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {read_key(server.settings.var, 'inference')}",
        f"Content-Type: {content_type}",
        f"Content-Length: {size}",
    ]
    return "\r\n".join([*lines, "", ""]).encode()
