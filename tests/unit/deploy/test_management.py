"""The HTTP client and `deploy predict`, against a small server that returns the request that it received."""

import base64
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from common.errors import NotFound, Unreachable, UserError
from deploy.clients import generator
from deploy.predict import predict
from deploy.settings import HOST, Settings, read_settings
from deploy.store import desired
from deploy.store.desired import ServedVersion
from deploy.torchserve import keys, load
from deploy.torchserve.management import PROBE, Client, content
from traffic.shadow import program


class Echo(BaseHTTPRequestHandler):
    """Answers with headers and body of the request; /slow after a second, /refused with 400, clasroom with 404."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        if self.path == "/slow":
            time.sleep(1)
        answer = json.dumps({"headers": dict(self.headers), "body": body, "message": "no such archive"}).encode()
        self.send_response(400 if self.path == "/refused" else 404 if "clasroom" in self.path else 200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer if self.path != "/text" else b"x" * len(answer))

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """Settings whose inference and management ports are those of an Echo server."""
    (tmp_path / keys.FILE).write_text(
        json.dumps({kind: {"key": f"{kind}-key"} for kind in ("inference", "management")})
    )
    server = ThreadingHTTPServer((HOST, 0), Echo)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    defaults = read_settings({})
    ports = {**defaults.ports, "inference_address": server.server_port, "management_address": server.server_port}
    yield replace(defaults, ports=ports, var=tmp_path)
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("address", ["inference", "management"])
def test_a_request_carries_the_key_of_its_address(settings: Settings, address: str) -> None:
    headers = content(Client(settings).ask(address, "POST", "/"))["headers"]
    assert headers["Authorization"] == f"Bearer {address}-key"


def test_a_prediction_of_the_project_itself_is_marked_as_a_probe(settings: Settings) -> None:
    headers = content(Client(settings).predict("classroom", {}))["headers"]
    assert headers["X-Request-Id"] == PROBE


def test_requests_of_loads_and_shadows_are_marked_as_probes(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []

    def ask(*_: object, headers: dict[str, str], **__: object) -> None:
        sent.append(headers["X-Request-Id"])
        raise Unreachable("stopped")

    client = Client(settings)
    monkeypatch.setattr(client, "ask", ask)
    load._milliseconds(client, "classroom", b"", "online")
    program.ask(client, "classroom/1.1", program.Copy("classroom", {}, b""))
    assert sent == [PROBE, PROBE]
    head = generator._head(generator.Plan("http://127.0.0.1/predictions/classroom", None, [{}], rate=1.0))
    assert f"X-Request-Id: {PROBE}\r\n".encode() in head


def test_a_given_key_is_not_replaced(settings: Settings) -> None:
    answer = Client(settings).ask("inference", "POST", "/", headers={"Authorization": "Bearer wrong"})
    assert content(answer)["headers"]["Authorization"] == "Bearer wrong"


def test_the_key_is_read_for_every_request(settings: Settings) -> None:
    client = Client(settings)
    client.ask("inference", "POST", "/")
    (settings.var / keys.FILE).write_text('{"inference": {"key": "after-a-restart"}}')
    assert content(client.ask("inference", "POST", "/"))["headers"]["Authorization"] == "Bearer after-a-restart"


def test_a_proxy_is_ignored(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://{HOST}:1")
    assert Client(settings).ask("inference", "POST", "/").ok


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"inference": "x"}'])
def test_a_missing_or_damaged_key_file_is_named(settings: Settings, text: str | None) -> None:
    path = settings.var / keys.FILE
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(NotFound, match=r"key_file\.json has no inference key: is the server running\?"):
        Client(settings).ask("inference", "POST", "/")


def test_a_server_that_does_not_listen_is_unreachable(settings: Settings) -> None:
    with socket.socket() as free:
        free.bind((HOST, 0))
        closed = replace(settings, ports={**settings.ports, "inference_address": free.getsockname()[1]})
        with pytest.raises(Unreachable, match=r"nothing answers at .*: start the server with make serve"):
            Client(closed).ask("inference", "POST", "/")


def test_a_slow_server_is_unreachable(settings: Settings) -> None:
    with pytest.raises(Unreachable, match=r"gave no answer within 0\.1 s: see var/logs/ts_log\.log"):
        Client(settings, timeout_s=0.1).ask("inference", "POST", "/slow")


def test_a_refused_management_request_quotes_torchserve(settings: Settings) -> None:
    with pytest.raises(UserError, match="TorchServe refused POST /refused: no such archive"):
        Client(settings).manage("POST", "/refused")


def test_an_answer_that_is_not_json_is_an_error(settings: Settings) -> None:
    with pytest.raises(UserError, match="which is not JSON"):
        content(Client(settings).ask("inference", "POST", "/text"))


@pytest.mark.parametrize("detail", [False, True])
def test_predict_prints_one_line_per_photo(settings: Settings, monkeypatch: pytest.MonkeyPatch, detail: bool) -> None:
    monkeypatch.setattr("deploy.predict.read_settings", lambda: settings)
    photo = settings.var / ("a photo with a long name [bold] :smile: " * 3 + ".jpg")
    photo.write_bytes(b"\xff\xd8photo")
    words = [str(photo), str(settings.var / "absent.jpg"), "--model", "demo", *(["--detail"] if detail else [])]
    done = CliRunner().invoke(predict, words)
    assert done.exit_code == 1
    answered, unreadable = (json.loads(line) for line in done.stdout.splitlines())
    assert (answered["photo"], answered["status"]) == (str(photo), 200)
    expected = {"image_id": photo.name, "image_base64": base64.b64encode(b"\xff\xd8photo").decode()}
    assert json.loads(answered["body"]) == expected | ({"detail": True} if detail else {})
    assert (unreadable["status"], unreadable["error"]["code"]) == (None, "unreadable_file")


def test_predict_names_what_is_served_instead_of_a_wrong_model(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.predict.read_settings", lambda: settings)
    (settings.var / "a.jpg").write_bytes(b"\xff\xd8photo")
    words = [str(settings.var / "a.jpg"), "--model", "clasroom"]
    done = CliRunner().invoke(predict, words)
    nothing = "clasroom is not served: nothing is served here; start the server with make serve"
    assert (done.exit_code, done.stdout, done.stderr) == (1, "", f"Error: {nothing}\n")
    desired.write(settings.var, [ServedVersion("classroom", "1.0", "classroom-1.0.mar", "0" * 64, default=True)])
    done = CliRunner().invoke(predict, words)
    assert done.stderr == (
        "Error: clasroom is not served: did you mean classroom? give --model with one of classroom/1.0\n"
    )
