"""The gRPC client, against a small server that reads the messages by their field numbers."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from deploy.settings import HOST, Settings, read_settings
from deploy.torchserve.grpc import METHOD, GrpcClient

ANSWERS = {
    "good": b'{"image_id": "7", "result": "disc"}',
    "bad": b'{"image_id": "7", "error": {"code": "unsupported_format", "message": "no photo"}}',
    "odd": b"<html>",
}


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[tuple[Settings, list[Any]]]:
    """Settings of a server that answers ANSWERS[model], and the requests that it received."""
    received: list[Any] = []

    def answer(request: bytes, context: Any) -> bytes:
        received.append((request, dict(context.invocation_metadata())["authorization"]))
        name = request[2 : 2 + request[1]].decode()  # field 1, a string: tag, length, text
        if name not in ANSWERS:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Model not found: {name}")
        return bytes([0x0A, len(ANSWERS[name])]) + ANSWERS[name]

    service, method = METHOD[1:].split("/")
    handler = grpc.method_handlers_generic_handler(service, {method: grpc.unary_unary_rpc_method_handler(answer)})
    server = grpc.server(ThreadPoolExecutor(1), handlers=[handler])
    port = server.add_insecure_port(f"{HOST}:0")
    server.start()
    (tmp_path / "key_file.json").write_text(json.dumps({"inference": {"key": "secret"}}))
    defaults = read_settings({})
    yield replace(defaults, ports={**defaults.ports, "grpc_inference_port": port}, var=tmp_path), received
    server.stop(None).wait()


def test_requests_on_the_wire_and_the_meaning_of_answers(settings: tuple[Settings, list[Any]]) -> None:
    with GrpcClient(settings[0]) as client:
        good = client.predict("good/1.0", b"\xff\xd8photo", "7", detail=True)
        bad, odd, unknown = (client.predict(name, b"photo", "7") for name in ("bad", "odd", "unknown"))
    assert good == {"image_id": "7", "result": "disc", "status": 200}
    assert (bad["status"], bad["error"]["code"]) == (415, "unsupported_format")
    assert (odd["status"], odd["error"]["code"]) == (None, "no_json")
    assert (unknown["status"], unknown["error"]) == (
        None,
        {"code": "not_found", "message": "Model not found: unknown"},
    )
    request, token = settings[1][0]
    assert token == "Bearer secret"
    assert request.startswith(b"\x0a\x04good\x12\x031.0\x1a")
    sent = [b"\x0a\x04data\x12\x07\xff\xd8photo", b"\x0a\x08image_id\x12\x017", b"\x0a\x06detail\x12\x04true"]
    assert sorted(_entries(request[11:])) == sorted(sent)


def test_an_unreachable_server_is_an_error(settings: tuple[Settings, list[Any]]) -> None:
    closed = replace(settings[0], ports={**settings[0].ports, "grpc_inference_port": 1})
    with GrpcClient(closed) as client:
        answer = client.predict("good", b"photo", "7")
    assert answer["error"]["code"] == "unreachable"
    assert "make serve" in answer["error"]["message"]


def _entries(rest: bytes) -> Iterator[bytes]:
    """The entries of the map: field 3, tag, length and content."""
    while rest:
        assert rest[0] == 0x1A
        yield rest[2 : 2 + rest[1]]
        rest = rest[2 + rest[1] :]
