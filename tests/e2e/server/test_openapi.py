"""docs/openapi.yaml against a running server: no undocumented status, and every answer has the documented shape."""

import base64
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as limits
from schemathesis.specs.openapi import checks

from deploy.settings import ROOT
from deploy.store import desired
from deploy.store.mar import served_version
from deploy.torchserve.keys import read_key
from deploy.torchserve.process import Server
from scripts.openapi import SHIPPED, TARGET

SCHEMA = schemathesis.openapi.from_path(TARGET)
PREDICT = SCHEMA["/predictions/classroom"]["POST"]
BY_VERSION = SCHEMA["/predictions/classroom/{version}"]["POST"]
CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
PHOTO = (SHIPPED / "goldens" / "1_0.jpg").read_bytes()
ENCODED = base64.b64encode(PHOTO).decode()
REQUESTS = 40  # per strategy
BOUNDED = limits(
    max_examples=REQUESTS,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)

JSON_BODIES: dict[str, tuple[Any, int]] = {
    "one photo": ({"image_id": "12345", "image_base64": ENCODED}, 200),
    "a number as id": ({"image_id": 7.5, "image_base64": ENCODED}, 200),
    "str of bytes": ({"image_base64": str(ENCODED.encode())}, 200),
    "a data URL": ({"image_base64": f"data:image/jpeg;base64,{ENCODED}"}, 200),
    "detail": ({"image_base64": ENCODED, "detail": True}, 200),
    "data": ({"data": [{"data": ENCODED, "content_type": "image/jpeg"}, {"data": "!"}]}, 200),
    "a list": ([{"image_base64": ENCODED}, {"image_base64": ENCODED, "detail": True}], 200),
    "every photo fails": ([{"image_base64": "!"}, {}], 400),
    "no photo": ({"image_id": "1"}, 400),
    "too many photos": ([{"image_base64": "!"}] * 17, 413),
    "another format": ({"image_base64": base64.b64encode(b"GIF89a").decode()}, 415),
}


def token(server: Server) -> dict[str, str]:
    return {"Authorization": f"Bearer {read_key(server.settings.var, 'inference')}"}


def check(case: Any, answer: Any) -> None:
    case.validate_response(answer, checks=CHECKS)


@pytest.mark.parametrize("name", JSON_BODIES)
def test_json(server: Server, name: str) -> None:
    body, status = JSON_BODIES[name]
    case = PREDICT.Case(body=body, media_type="application/json")
    answer = case.call(base_url=server.settings.url("inference"), headers=token(server))
    assert answer.status_code == status
    check(case, answer)


@pytest.mark.parametrize("kind", ["image/jpeg", "application/octet-stream"])
def test_bytes(server: Server, kind: str) -> None:
    headers = {"X-Image-Id": "a b", "X-Detail": "true", "X-Request-Id": "order 7"}
    case = BY_VERSION.Case(body=PHOTO, media_type=kind, headers=headers, path_parameters={"version": "1.0"})
    answer = case.call(base_url=server.settings.url("inference"), headers=token(server))
    assert answer.json()["model_version"] == "1.0"
    check(case, answer)


@pytest.mark.parametrize("names", [["photo"], ["front", "back"]])
def test_forms(server: Server, names: list[str]) -> None:
    case = PREDICT.Case(media_type="multipart/form-data")
    files = {name: (f"{name}.jpg", PHOTO, "image/jpeg") for name in names}
    answer = server.client.ask("inference", "POST", "/predictions/classroom", files=files, data={"image_id": "9"})
    assert answer.status_code == 200
    check(case, answer)


@pytest.mark.parametrize(
    ("version", "arguments", "status"),
    [
        ("9.9", {"data": PHOTO}, 404),
        ("1.0", {"data": PHOTO, "headers": {"Authorization": "Bearer wrong"}}, 400),
        ("1.0", {"data": bytes(16_000_001), "headers": {"Content-Type": "image/jpeg"}}, 413),
        ("1.0", {"data": PHOTO, "headers": {"Content-Type": "application/x-www-form-urlencoded"}}, 400),
    ],
)
def test_errors_match_the_schema(server: Server, version: str, arguments: dict[str, Any], status: int) -> None:
    case = BY_VERSION.Case(path_parameters={"version": version})
    answer = server.client.ask("inference", "POST", f"/predictions/classroom/{version}", **arguments)
    assert answer.status_code == status
    if answer.content or status != 413:  # the HTTP library below TorchServe sends 413 without a body
        check(case, answer)


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_generated_requests(server: Server, mode: schemathesis.GenerationMode) -> None:
    """Requests that follow the description, and requests that break it."""
    base, statuses = server.settings.url("inference"), set()

    def one(case: Any) -> None:
        answer = case.call(base_url=base, headers=token(server), timeout=60)
        statuses.add(answer.status_code)
        check(case, answer)

    seed(15)(BOUNDED(given(PREDICT.as_strategy(generation_mode=mode))(one)))()
    assert statuses & {400, 413, 415}


@pytest.fixture(scope="module")
def keeper(server: Server) -> Iterator[str]:
    """The keeper of the running server; its address."""
    var = server.settings.var
    ports = {"SERVE_INFERENCE_PORT": "inference_address", "SERVE_MANAGEMENT_PORT": "management_address"}
    env = {name: str(server.settings.ports[key]) for name, key in ports.items()}
    env |= {"SERVE_KEEPER_PORT": str(server.settings.ports["keeper_port"])}
    env |= {"SERVE_VAR": str(var), "SERVE_STORE": str(server.settings.store)}
    words = [sys.executable, "-m", "deploy.supervision.keeper"]
    with subprocess.Popen(words, cwd=ROOT, env={**os.environ, **env}) as process:
        try:
            yield server.settings.url("keeper")
        finally:
            process.terminate()
            (var / desired.FILE).unlink(missing_ok=True)


def ready(url: str, status: int) -> requests.Response:
    """The answer of /ready once it has the expected status."""
    deadline = time.monotonic() + 30
    while True:
        try:
            answer = requests.get(f"{url}/ready", timeout=10)
            if answer.status_code == status:
                return answer
        except requests.ConnectionError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_ready_and_metrics(server: Server, keeper: str) -> None:
    operation = SCHEMA["/ready"]["GET"].Case()
    check(operation, ready(keeper, 503))
    entry = replace(served_version(server.settings.store / "classroom-1.0.mar"), default=True)
    desired.write(server.settings.var, [entry])
    check(operation, ready(keeper, 200))
    scraped = requests.get(f"{keeper}/metrics", timeout=10)
    check(SCHEMA["/metrics"]["GET"].Case(), scraped)
    listed = SCHEMA.raw_schema["paths"]["/metrics"]["get"]["description"]
    for line in scraped.text.splitlines():
        if line.startswith("# TYPE classifier") and "_created" not in line:
            assert f"`{line.split()[2]}`" in listed


def test_ping(server: Server) -> None:
    for headers in (token(server), {"Authorization": "Bearer wrong"}):
        answer = requests.get(f"{server.settings.url('inference')}/ping", headers=headers, timeout=10)
        check(SCHEMA["/ping"]["GET"].Case(), answer)
    assert json.loads(answer.text)


PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```(bash|python)\n([^`]*?)```\s+```json\n(.*?)```", PAGE, re.DOTALL)


def environment(server: Server) -> dict[str, str]:
    """The environment of a shell in which the page's first block was run, for this server."""
    settings = server.settings
    ports = {"SERVE_INFERENCE_PORT": "inference_address", "SERVE_GRPC_INFERENCE_PORT": "grpc_inference_port"}
    return {
        **os.environ,
        **{name: str(settings.ports[key]) for name, key in ports.items()},
        "SERVE_VAR": str(settings.var),
        "SERVER": settings.url("inference"),
        "TOKEN": read_key(settings.var, "inference"),
        "PHOTO": "models/classroom/goldens/1_0.jpg",
    }


def alike(expected: Any, received: Any) -> bool:
    """Equal, except that the page shortens messages to "..." and rounds probabilities."""
    if isinstance(expected, dict) and isinstance(received, dict):
        return expected.keys() == received.keys() and all(alike(expected[key], received[key]) for key in expected)
    if isinstance(expected, list) and isinstance(received, list):
        return len(expected) == len(received) and all(map(alike, expected, received))
    if isinstance(expected, float):
        return bool(received == pytest.approx(expected, abs=0.05))
    return bool(expected == "..." or expected == received)


@pytest.mark.parametrize(("language", "code", "printed"), EXAMPLES)
def test_the_examples_of_the_page(server: Server, language: str, code: str, printed: str) -> None:
    words = ["bash", "-c", code] if language == "bash" else [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=ROOT, env=environment(server), capture_output=True, text=True, timeout=60)
    assert alike(json.loads(printed), json.loads(done.stdout)), done.stdout + done.stderr


def test_every_example_is_run() -> None:
    code_blocks = re.findall(r"^```(?:bash|python)$", PAGE, re.MULTILINE)
    assert len(EXAMPLES) == len(code_blocks) - 1 > 7  # the first block sets the variables
