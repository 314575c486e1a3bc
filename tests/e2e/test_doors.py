"""Which doors a running server has, and what opens them."""

import re
from typing import Any

import grpc
import psutil
import pytest
import requests

from deploy.keys import read_key
from deploy.settings import HOST


def test_everything_listens_on_loopback_alone(server: Any) -> None:
    ours = set(server.settings.ports.values()) - {server.settings.ports["keeper_port"]}
    listening = (c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr)
    found = {c.laddr.port: c.laddr.ip for c in listening if c.laddr}
    assert ours <= set(found)
    assert {found[port].removeprefix("::ffff:") for port in ours} == {HOST}


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
def test_management_opens_with_its_own_key_alone(server: Any, method: str, path: str, key: str | None) -> None:
    known = {"inference": lambda: read_key(server.settings.var, "inference"), "wrong": lambda: "x" * 8}
    headers = {"Authorization": f"Bearer {known[key]()}"} if key else {}
    answer = requests.request(method, server.settings.url("management") + path, headers=headers, timeout=30)
    assert answer.status_code == 400
    assert re.search(r"Token Auth\w+ failed", answer.json()["message"])
    assert server.client.ready("shapes", "1.0") == 1
    assert server.client.describe("other") is None


@pytest.mark.parametrize("key", [None, "inference", "wrong"])
def test_grpc_management_opens_with_its_own_key_alone(server: Any, key: str | None) -> None:
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


def test_keys_are_in_no_process_list_and_in_no_log(server: Any) -> None:
    keys = [read_key(server.settings.var, kind) for kind in ("inference", "management")]
    lines = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    logs = [path.read_text(errors="replace") for path in server.logs.rglob("*") if path.is_file()]
    assert logs
    for key in keys:
        assert not any(key in text for text in [*lines, *logs])
