"""TorchServe's own front end with requests that it handles badly: no worker ends, and no memory is lost."""

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from deploy.host.processes import java_of
from deploy.settings import HOST
from deploy.torchserve.grpc import METHOD, GrpcClient, messages
from deploy.torchserve.keys import read_key
from deploy.torchserve.process import Server
from tests.helpers.endpoint import Endpoint

FORM_BYTES = 15_000_000
FORMS = 40
GROWTH_BYTES = 400_000_000
"""Java's heap may grow by this much; with Netty's pool the broken forms alone would keep 600 MB for good."""

REFUSED: dict[str, dict[str, bytes]] = {
    "unsupported_format": {"data": b"<html>"},
    "missing_image": {},
    "empty_image": {"data": b""},
    "image_too_large": {"data": bytes(15_000_000)},
}

Stream = Callable[..., list[bytes]]


def worker_pids(server: Server, model: str) -> list[int]:
    """The process ids of a model's workers that are ready."""
    workers = (server.client.describe(model) or {})["workers"]
    return [worker["pid"] for worker in workers if worker["status"] == "READY"]


@pytest.fixture
def stream(server: Server) -> Iterator[Stream]:
    """Sends one request by StreamPredictions or StreamPredictions2; the predictions that came back."""
    with GrpcClient(server.settings) as client:
        token = [("authorization", f"Bearer {read_key(server.settings.var, 'inference')}")]

        def send(method: str, model: str, fields: dict[str, bytes], sequence: bytes = b"") -> list[bytes]:
            request = client.request(model_name=model, input=fields).SerializeToString()
            request += b"\x22" + bytes([len(sequence)]) + sequence if sequence else b""  # sequence_id is field 4
            path = METHOD.removesuffix("Predictions") + method
            if method == "StreamPredictions":
                answers = client.channel.unary_stream(path)(request, metadata=token, timeout=30)
            else:
                answers = client.channel.stream_stream(path)(iter([request]), metadata=token, timeout=30)
            return [messages()[1].FromString(answer).prediction for answer in answers]

        yield send


@pytest.mark.parametrize("model", ["shapes", "shapes_batched"])
def test_stream_predictions_is_answered_once_and_leaves_the_worker_alive(
    server: Server, bundle: Path, stream: Stream, model: str
) -> None:
    """Without a header that TorchServe expects from a handler, its own null pointer ended the worker."""
    shapes, before = Endpoint(server, model, bundle), worker_pids(server, model)
    good = {"data": shapes.bytes_of(0), "image_id": b"7"}
    (answer,) = stream("StreamPredictions", model, good)
    assert json.loads(answer) == {"image_id": "7", "result": shapes.goldens[0].label}
    codes = [json.loads(stream("StreamPredictions", model, fields)[0])["error"]["code"] for fields in REFUSED.values()]
    assert codes == list(REFUSED)
    assert shapes.post(data=shapes.bytes_of(0), headers={"Content-Type": "image/png"}).ok
    assert worker_pids(server, model) == before


@pytest.mark.parametrize("sequence", [b"", b"7"])
def test_stream_predictions_2_is_refused_and_leaves_the_worker_alive(
    server: Server, bundle: Path, stream: Stream, sequence: bytes
) -> None:
    """It is for models with a state: without a sequence an empty prediction comes back, with one an error."""
    shapes, before = Endpoint(server, "shapes", bundle), worker_pids(server, "shapes")
    for image in (shapes.bytes_of(0), b"<html>"):
        try:
            assert stream("StreamPredictions2", "shapes", {"data": image}, sequence) == [b""]
        except grpc.RpcError as error:
            assert sequence and error.code() is grpc.StatusCode.UNKNOWN
    assert shapes.post(data=shapes.bytes_of(0), headers={"Content-Type": "image/png"}).ok
    assert worker_pids(server, "shapes") == before


def test_grpc_requests_that_are_cancelled_leave_the_worker_alive(server: Server, bundle: Path) -> None:
    shapes, before = Endpoint(server, "shapes", bundle), worker_pids(server, "shapes")
    with GrpcClient(server.settings) as client:
        token = [("authorization", f"Bearer {read_key(server.settings.var, 'inference')}")]
        request = client.request(model_name="shapes", input={"data": shapes.bytes_of(0)})
        for call in [client.call.future(request, metadata=token) for _ in range(20)]:
            call.cancel()
        assert client.predict("shapes", shapes.bytes_of(0), "1")["status"] == 200
    assert worker_pids(server, "shapes") == before


@pytest.mark.parametrize("header", ["Content-Type: text/plain; charset=none", "Content-Transfer-Encoding: none"])
def test_broken_forms_take_no_memory_for_good(server: Server, bundle: Path, header: str) -> None:
    java = java_of(server.group or 0)
    assert java is not None
    before = java.memory_info().rss
    for _ in range(FORMS):
        assert post_form(server, broken_form(header)).startswith(b"HTTP/1.1 500 ")
    assert java.memory_info().rss - before < GROWTH_BYTES
    shapes = Endpoint(server, "shapes", bundle)
    body = json.dumps({"image_base64": shapes.text_of(0), "padding": "x" * FORM_BYTES}).encode()
    assert shapes.post(data=body, headers={"Content-Type": "application/json"}).status_code == 200


def broken_form(header: str) -> bytes:
    """A form with a large file, and a header that TorchServe does not take: it gives up before it searches the file."""
    start = f'--b\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n{header}\r\n\r\n'
    return start.encode() + bytes(FORM_BYTES) + b"\r\n--b--\r\n"


def post_form(server: Server, body: bytes) -> bytes:
    """The beginning of the answer, read from a socket: TorchServe closes the connection after it."""
    head = [
        "POST /predictions/shapes HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {read_key(server.settings.var, 'inference')}",
        "Content-Type: multipart/form-data; boundary=b",
        f"Content-Length: {len(body)}",
    ]
    with socket.create_connection((HOST, server.settings.ports["inference_address"]), timeout=30) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode() + body)
        return connection.recv(1000)
