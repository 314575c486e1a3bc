"""The front's configuration: nginx accepts it, a linter finds nothing, and a node's key is followed."""

import contextlib
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from common.errors import UserError
from deploy.host.locks import OwnerKind, deployment_lock
from deploy.settings import HOST, ROOT, FrontSettings, Settings, read_settings
from deploy.supervision.front import answers, text
from deploy.torchserve import keys
from tests.helpers.traffic.front import bearer, needs_nginx, running_front
from tests.helpers.traffic.node import standin
from tests.helpers.waiting import eventually
from traffic.front import route, tokens
from traffic.front.config import render
from traffic.front.errors import ERRORS
from traffic.front.folder import SOCKET_PATH, folder, sockets
from traffic.front.gate import Gate, closed_nodes
from traffic.front.nginx import Nginx
from traffic.front.nodes import Node, nodes
from traffic.front.program import GATE_S, Front

GIXY = Path(sys.executable).with_name("gixy")
# It takes `set` in an `if` for dangerous, which it is not: another test looks for other directives there.
EXCUSED = "if_is_evil"


def text_of(settings: Settings, **options: object) -> str:
    chosen = replace(settings, front=FrontSettings(on=True, **options))  # type: ignore[arg-type]
    two = (*nodes(chosen), Node("node2", f"{HOST}:1", f"{HOST}:2", settings.var / "second"))
    return render(chosen, two, {"default": "a" * 48, "data-team": "b" * 48})


@pytest.mark.slow
@needs_nginx
@pytest.mark.parametrize("options", [{}, {"tokenless": False, "host": "0.0.0.0", "model": "other"}])
def test_nginx_and_the_linter_accept_the_configuration(settings: Settings, options: dict[str, object]) -> None:
    nginx = Nginx(settings.var)
    nginx.prepare()
    assert nginx.write(text_of(settings, **options))
    assert not nginx.write(text_of(settings, **options)), "an unchanged configuration is not a new one"
    linted = settings.var / "linted.conf"  # the linter takes any port with 443 in it, such as 44321, for one of TLS
    linted.write_text(nginx.conf.read_text().replace("443", "553"))
    done = subprocess.run(
        [GIXY, "-f", "json", "-l", "--skips", EXCUSED, linted], capture_output=True, text=True, check=False
    )
    assert json.loads(done.stdout) == [], done.stdout
    assert nginx.conf.stat().st_mode & 0o777 == 0o600


@needs_nginx
def test_a_configuration_that_nginx_refuses_leaves_the_former_one(settings: Settings) -> None:
    nginx = Nginx(settings.var)
    nginx.prepare()
    nginx.write(text := text_of(settings))
    with pytest.raises(UserError, match=r"nginx does not accept .*nonsense"):
        nginx.write(text + "nonsense;\n")
    assert nginx.conf.read_text() == text


def test_only_set_and_return_are_inside_if(settings: Settings) -> None:
    """https://github.com/nginxinc/nginx-wiki, If is Evil: other directives make a location lose its own."""
    inside = re.findall(r"\bif \([^{]*\) \{([^}]*)\}", text_of(settings))
    assert len(inside) > 10
    words = {statement.split()[0] for block in inside for statement in block.split(";") if statement.strip()}
    assert words == {"set", "return"}


def test_the_tokenless_client_is_a_setting(settings: Settings) -> None:
    assert "$loopback_client" in text_of(settings)
    assert "$loopback_client" not in text_of(settings, tokenless=False)


def test_every_error_of_the_front_is_documented() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8").partition("## The front")[2]
    table = re.findall(r"^\| (\d{3}) \| `(\w+)` \|", page, re.MULTILINE)
    assert table == [(str(int(error.status)), error.code) for error in ERRORS]


def test_tokens_are_added_printed_and_removed(tmp_path: Path) -> None:
    first = tokens.ensure(tmp_path)[tokens.FIRST]
    added = tokens.add(tmp_path, "data-team")
    assert tokens.ensure(tmp_path) == {tokens.FIRST: first, "data-team": added}
    with pytest.raises(UserError, match="data-team has a token already: print it"):
        tokens.add(tmp_path, "data-team")
    tokens.remove(tmp_path, "data-team")
    with pytest.raises(UserError, match=r"data-team has no token \(clients: default\)"):
        tokens.remove(tmp_path, "data-team")
    with pytest.raises(UserError, match="is not a client's name"):
        tokens.add(tmp_path, 'a"b')
    (folder(tmp_path) / "tokens.json").write_text('{"default": "x\\";"}')
    with pytest.raises(UserError, match=r"tokens\.json is damaged: remove it"):
        tokens.read(tmp_path)


def test_a_path_that_is_too_long_for_a_socket_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    long = tmp_path / ("x" * SOCKET_PATH)
    assert sockets(Path("/srv/var")) == Path("/srv/var/front")
    assert sockets(long) == sockets(long) != sockets(tmp_path / ("y" * SOCKET_PATH))
    assert len(str(sockets(long))) <= SOCKET_PATH
    with pytest.raises(UserError, match="nginx reads as syntax"):
        folder(Path("/srv/$HOME"))


@contextmanager
def asking(session: requests.Session, url: str) -> Iterator[list[requests.Response]]:
    """The answers to a client that asks all the time."""
    answers: list[requests.Response] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            answers.append(session.post(url, data=b"photo", timeout=10))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        over.set()
        thread.join()


def answered_by(answers: list[requests.Response]) -> set[str]:
    """The nodes of answers."""
    return {answer.json().get("node", "") for answer in answers}


@pytest.mark.slow
@needs_nginx
def test_nodes_that_restart_with_new_keys_cost_no_client_an_error(settings: Settings) -> None:
    """One of two nodes restarts while a client asks; with both away the answer is a 503 that says so."""
    (first,) = nodes(settings)
    ports = settings.ports
    second = Node("node2", f"{HOST}:{ports['metrics_address']}", f"{HOST}:1", settings.var / "second")
    with running_front(settings, (first, second), rate=10_000) as front, requests.Session() as session:
        url = front.settings.url("front") + "/predictions/shapes"
        session.headers.update(bearer(front))
        with ExitStack() as stack:
            stack.enter_context(standin(first, "first-0"))
            eventually(lambda: session.post(url, timeout=10).ok)
            answers = stack.enter_context(asking(session, url))
            for number in range(3):
                with standin(second, f"second-{number}"):
                    before = len(answers)
                    eventually(lambda: answered_by(answers[before:]) == {"node1", "node2"})  # noqa: B023
                    absent = requests.post(url + "absent", headers=bearer(front), timeout=10)
                    with deployment_lock(second.var).hold(OwnerKind.DOWN):  # make down lets it answer what it has
                        stopping = len(answers) + 20
                        eventually(lambda: len(answers) > stopping and answered_by(answers[-10:]) == {"node1"})  # noqa: B023
                time.sleep(5 * GATE_S)  # Java takes longer
        assert {answer.status_code for answer in answers} == {200}
        assert (absent.status_code, absent.json()["error"]["code"]) == (404, "not_found")
        away = session.post(url, timeout=10)
        assert (away.status_code, away.json()["error"]["code"]) == (503, "unavailable")
        assert away.headers["Retry-After"] == "1"


@needs_nginx
@pytest.mark.parametrize(("proxies", "address"), [((), HOST), ((f"{HOST}/32",), "192.0.2.7")])
def test_the_address_is_that_of_the_client_of_a_trusted_proxy(
    settings: Settings, proxies: tuple[str, ...], address: str
) -> None:
    """Nobody becomes a program of this machine by that: /api/v1/get_pm still needs a token."""
    with running_front(settings, proxies=proxies, model="shapes") as front:
        url = front.settings.url("front") + "/api/v1/get_pm"
        for origin in ("192.0.2.7", HOST):
            assert (
                requests.post(url, headers={"X-Forwarded-For": f"198.51.100.1, {origin}"}, timeout=10).status_code
                == 401
            )
        log = front.settings.var / "logs" / "front.log"
        line = json.loads(eventually(lambda: log.read_text().splitlines())[0])
    assert (line["address"], line["forwarded_for"]) == (address, "198.51.100.1, 192.0.2.7")


def test_only_networks_are_proxies(settings: Settings) -> None:
    found = read_settings({"SERVE_FRONT_PROXIES": "10.0.0.5, 10.1.0.0/16"}).front.proxies
    assert found == ("10.0.0.5/32", "10.1.0.0/16")
    with pytest.raises(UserError, match=r"SERVE_FRONT_PROXIES: .* give addresses or networks"):
        read_settings({"SERVE_FRONT_PROXIES": "10.0.0.5;"})


@needs_nginx
def test_a_killed_nginx_is_started_again_and_a_running_one_is_kept(settings: Settings) -> None:
    with running_front(settings) as front:
        master = front.nginx.master()
        assert master is not None
        again = Nginx(settings.var)
        assert again.running() and again.master() == master
        master.kill()
        master.wait(10)

        def answers() -> bool:
            front.once()
            with contextlib.suppress(requests.ConnectionError):
                return requests.get(front.settings.url("front") + "/", timeout=5).status_code == 404
            return False

        eventually(lambda: front.nginx.master() != master)
        eventually(answers)
        workers = eventually(lambda: (new := front.nginx.master()) and new.children())
    assert workers and not any(worker.is_running() for worker in workers)


@needs_nginx
def test_who_connects_while_nginx_is_dead_waits_and_is_answered(settings: Settings) -> None:
    with running_front(settings) as front:
        master = front.nginx.master()
        assert master is not None
        for process in (master, *master.children()):
            process.kill()
            process.wait(10)
        with socket.create_connection((HOST, settings.ports["front_port"]), timeout=30) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            front.once()
            assert client.recv(100).startswith(b"HTTP/1.1 404")


@needs_nginx
def test_a_taken_port_is_named_and_waited_for(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    port = settings.ports["front_port"]
    chosen = replace(settings, front=FrontSettings(on=True))
    with socket.create_server((HOST, port)), Front(chosen) as front:
        front.once()
        assert f"port {port}: Address already in use: waiting for it" in capsys.readouterr().out
        assert not front.nginx.running()


@needs_nginx
def test_a_new_token_is_followed_and_a_removed_one_refused(settings: Settings) -> None:
    with running_front(settings) as front:
        url = front.settings.url("front") + "/predictions/shapes"

        def status(token: str) -> int:
            front.once()
            return requests.post(url, headers={"Authorization": f"Bearer {token}"}, timeout=5).status_code

        assert status("x") == 401
        added = tokens.add(settings.var, "data-team")
        assert eventually(lambda: status(added) == 503)
        tokens.remove(settings.var, "data-team")
        assert eventually(lambda: status(added) == 401)


def test_a_restarted_node_waits_for_the_candidate_unless_it_is_alone(settings: Settings) -> None:
    """Its keeper is ready as soon as the default answers, and registers the candidate then."""
    (first,) = nodes(settings)
    second = replace(first, name="node2", var=settings.var / "second")
    route.begin(settings.var, "shapes", "1.1", (5, 100))
    with keeper_that_stands_in(settings.ports["keeper_port"]) as keeper:
        with Front(settings, behind=(first, second)):
            write_key(first, "one")
            write_key(second, "two")
            eventually(lambda: keeper.asked > 4)
            assert closed_nodes(settings.var) == {"node1", "node2"}
            keeper.repairing = False
            eventually(lambda: not closed_nodes(settings.var))
        keeper.repairing = True
        with Front(settings, behind=(first,)):
            write_key(first, "three")
            eventually(lambda: Gate(settings.var, first).key == "three")


@needs_nginx
def test_the_front_is_ready_when_a_node_gets_requests(settings: Settings) -> None:
    """Not as soon as a keeper is: a request right after /ready would get a 503."""
    (node,) = nodes(settings)
    url = settings.url("front") + "/ready"
    with keeper_that_stands_in(settings.ports["keeper_port"]), running_front(settings) as front:
        eventually(lambda: requests.get(url, timeout=5).status_code == 503)
        assert not answers(front.settings, 0.2)
        assert text(front.settings, False).endswith(f"yet: see {settings.var}/logs/front_program.log")
        with standin(node, "key"):
            assert answers(front.settings, 10)
            assert requests.get(url, timeout=5).json()["ready"]
            predictions = settings.url("front") + "/predictions/shapes"
            assert requests.post(predictions, headers=bearer(front), timeout=10).ok
            assert "token: python -m traffic token" in text(front.settings, True)


class StandinKeeper(BaseHTTPRequestHandler):
    """Answers /ready with 200."""

    asked, repairing = 0, True

    def do_GET(self) -> None:
        type(self).asked += 1
        body = json.dumps({"ready": True, "repairing": self.repairing}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def keeper_that_stands_in(port: int) -> Iterator[type[StandinKeeper]]:
    kind = type("Keeper", (StandinKeeper,), {})
    with ThreadingHTTPServer((HOST, port), kind) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield kind
        server.shutdown()
        thread.join()


def write_key(node: Node, key: str) -> None:
    node.var.mkdir(exist_ok=True)
    (node.var / keys.FILE).write_text(json.dumps({"inference": {"key": key}}))


@needs_nginx
def test_a_request_that_is_being_sent_when_the_front_stops_is_answered(settings: Settings) -> None:
    (node,) = nodes(settings)
    url, body = settings.url("front") + "/predictions/shapes", b"x" * 20_000
    with standin(node, "key"), running_front(settings) as front:
        eventually(lambda: requests.post(url, headers=bearer(front), timeout=10).ok)
        with socket.create_connection((HOST, settings.ports["front_port"]), timeout=30) as client:
            authorization = f"Authorization: {bearer(front)['Authorization']}"
            lines = (
                "POST /predictions/shapes HTTP/1.1",
                "Host: x",
                authorization,
                f"Content-Length: {len(body)}",
                "",
                "",
            )
            head = "\r\n".join(lines)
            client.sendall(head.encode() + body[:5000])
            stopping = threading.Thread(target=front.nginx.stop)
            stopping.start()
            eventually(lambda: not listens(settings.ports["front_port"]))
            client.sendall(body[5000:])
            assert client.recv(100).startswith(b"HTTP/1.1 200")
        stopping.join()
        assert not front.nginx.running()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
