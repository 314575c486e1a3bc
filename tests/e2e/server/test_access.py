"""Access to a running server: addresses, keys, and gRPC."""

import json
import re
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
import requests
from click.testing import CliRunner

from deploy.predict import predict
from deploy.settings import DEFAULTS, HOST, Settings
from deploy.torchserve import keys
from deploy.torchserve.grpc import GrpcClient
from deploy.torchserve.keys import read_key
from handler import goldens


def test_every_port_listens_on_loopback_only(server: Any) -> None:
    ours = {port for key, port in server.settings.ports.items() if key not in DEFAULTS}
    listening = (c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr)
    addresses = {c.laddr.port: c.laddr.ip for c in listening if c.laddr}
    assert ours <= set(addresses)
    assert {addresses[port].removeprefix("::ffff:") for port in ours} == {HOST}


CALLS = [
    ("GET", "/models"),
    ("GET", "/models/shapes"),
    ("POST", "/models?url=shapes-1.0.mar&model_name=other"),
    ("PUT", "/models/shapes/1.0/set-default"),
    ("PUT", "/models/shapes?min_worker=0"),
    ("DELETE", "/models/shapes"),
    ("GET", "/token?type=management"),
]


@pytest.mark.parametrize(("method", "path"), CALLS)
@pytest.mark.parametrize("key", [None, "inference", "wrong"])
def test_management_needs_the_management_key(server: Any, method: str, path: str, key: str | None) -> None:
    known = {"inference": lambda: read_key(server.settings.var, "inference"), "wrong": lambda: "x" * 8}
    headers = {"Authorization": f"Bearer {known[key]()}"} if key else {}
    answer = requests.request(method, server.settings.url("management") + path, headers=headers, timeout=30)
    assert answer.status_code == 400
    assert re.search(r"Token Auth\w+ failed", answer.json()["message"])
    assert server.client.ready("shapes", "1.0") == 1
    assert server.client.describe("other") is None


@pytest.mark.parametrize("key", [None, "inference", "wrong"])
def test_grpc_management_needs_the_management_key(server: Any, key: str | None) -> None:
    known = {"inference": lambda: read_key(server.settings.var, "inference"), "wrong": lambda: "x" * 8}
    with pytest.raises(grpc.RpcError, match="Token Auth"):
        list_models_by_grpc(server, known[key]() if key else None)
    assert b"classroom" in list_models_by_grpc(server, read_key(server.settings.var, "management"))


def list_models_by_grpc(server: Any, key: str | None) -> bytes:
    """`ListModels` of at most 100, its request and its answer as bytes: no stubs needed."""
    with grpc.insecure_channel(f"{HOST}:{server.settings.ports['grpc_management_port']}") as channel:
        call = channel.unary_unary("/org.pytorch.serve.grpc.management.ManagementAPIsService/ListModels")
        answer: bytes = call(b"\x08\x64", metadata=[("authorization", f"Bearer {key}")] if key else None, timeout=30)
        return answer


def test_keys_appear_in_no_command_line_and_no_log(server: Any) -> None:
    secrets = [read_key(server.settings.var, kind) for kind in ("inference", "management")]
    lines = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    logs = [path.read_text(errors="replace") for path in server.logs.rglob("*") if path.is_file()]
    assert logs
    for secret in secrets:
        assert not any(secret in text for text in [*lines, *logs])


def test_grpc_gives_the_same_answers_as_http(
    server: Any, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.predict.read_settings", lambda: server.settings)
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no photo")
    photos = [str(bundle / golden.photo) for golden in goldens.read(bundle)[:2]]
    for model in ("shapes", "shapes/1.0"):
        words = [*photos, str(bad), str(tmp_path / "absent.jpg"), "--model", model, "--detail"]
        by_http, by_grpc = (CliRunner().invoke(predict, [*words, *flag]) for flag in ([], ["--grpc"]))
        assert by_http.exit_code == by_grpc.exit_code == 1
        assert by_grpc.stdout == by_http.stdout
        lines = [json.loads(line) for line in by_grpc.stdout.splitlines()]
        assert [line["status"] for line in lines] == [200, 200, 415, None]
        assert lines[0]["result"] == goldens.read(bundle)[0].label


def test_grpc_inference_needs_the_inference_key(server: Any, bundle: Path, tmp_path: Path) -> None:
    var = tmp_path / "var"
    var.mkdir()
    (var / keys.FILE).write_text(json.dumps({"inference": {"key": "x" * 8}}))
    settings = server.settings
    wrong = Settings(settings.ports, settings.store, var, settings.properties)
    photo = (bundle / goldens.read(bundle)[0].photo).read_bytes()
    with GrpcClient(wrong) as client:
        answer = client.predict("shapes", photo, "1")
    assert answer["status"] is None
    assert "Token Auth" in answer["error"]["message"]
    with GrpcClient(settings) as client:
        assert client.predict("shapes", photo, "1")["status"] == 200
        unknown = client.predict("nothing", photo, "1")
    assert unknown["status"] is None
    assert "nothing" in unknown["error"]["message"]
