"""The load generator against small servers that hang, close, refuse, or answer late or wrongly."""

import itertools
import json
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.harness.load import main
from common.files import write_json
from deploy.clients.generator import LOST, UNANSWERED, Sample
from deploy.clients.load import Load, Result

Reply = Callable[[socket.socket, int], None]
BODY = {"image_id": "1", "image_base64": "x" * 200_000, "detail": True}


def answer(sock: socket.socket, label: str = "disc", status: int = 200, version: str = "1.0") -> None:
    content = json.dumps({"result": label, "model_version": version}).encode()
    sock.sendall(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(content), content))


class Backend:
    """Reads requests of any number of connections, and calls `reply(socket, number of the request)` for every one."""

    def __init__(self, reply: Reply, var: Path) -> None:
        self.reply, self.var, self.received, self.opened = reply, var, 0, 0
        self.keys: list[str] = []
        self.new_key("first")
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/predictions/shapes"
        self.sockets: list[socket.socket] = []
        self.threads = [threading.Thread(target=self._accept)]
        self.threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.opened += 1
            self.sockets.append(sock)
            self.threads.append(threading.Thread(target=self._serve, args=(sock,)))
            self.threads[-1].start()

    def new_key(self, key: str) -> None:
        write_json(self.var / "key_file.json", {"inference": {"key": key}})

    def _serve(self, sock: socket.socket) -> None:
        try:
            while head := _read_request(sock):
                self.received += 1
                self.keys.append(head.partition(b"Bearer ")[2].partition(b"\r\n")[0].decode())
                self.reply(sock, self.received)
        except OSError:
            return

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        for sock in self.sockets:
            _end(sock)
        for thread in self.threads:
            thread.join(timeout=10)
        self.listener.close()


def _read_request(sock: socket.socket) -> bytes:
    """Its head; empty where the connection was closed."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more:
            return b""
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    length = int(next(line for line in head.split(b"\r\n") if line.startswith(b"Content-Length")).split()[1])
    while len(rest) < length:
        rest += sock.recv(65536)
    return head


def _end(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()


@contextmanager
def backend(reply: Reply) -> Iterator[Backend]:
    with tempfile.TemporaryDirectory() as var:
        running = Backend(reply, Path(var))
        try:
            yield running
        finally:
            running.close()


def offered(
    server: Backend, seconds: float = 1.0, rate: float | None = 20, limit_s: float = 30, **clients: Any
) -> Result:
    with Load(server.url, server.var, BODY, rate, expected="disc", limit_s=limit_s, **clients) as load:
        time.sleep(seconds)
        return load.stop()


def test_right_answers_over_kept_connections() -> None:
    with backend(lambda sock, _: answer(sock)) as server:
        result = offered(server)
    assert result.sent == server.received > 0
    assert result.statuses == {200: result.sent}
    assert (result.failed, result.unanswered, result.lost, result.wrong, result.stale) == (0, 0, 0, 0, 0)
    assert result.versions == {"1.0": result.sent}
    assert server.opened < 5
    assert result.rate == pytest.approx(20, abs=3)


def test_a_missing_answer_is_unanswered_and_not_repeated() -> None:
    with backend(lambda sock, number: None if number % 2 else answer(sock)) as server:
        result = offered(server, limit_s=3)
    assert result.unanswered == (result.sent + 1) // 2
    assert result.statuses == {200: result.sent // 2}
    assert server.received == result.sent
    assert result.percentile(0.99) == 3000  # it counts with the time limit


def test_a_connection_that_closes_early_is_lost_and_not_repeated() -> None:
    def break_off(sock: socket.socket, number: int) -> None:
        if number % 3:
            return answer(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhalf of it")
        return _end(sock)

    with backend(break_off) as server:
        result = offered(server)
    assert result.lost == result.sent // 3
    assert result.statuses == {200: result.sent - result.lost}
    assert server.received == result.sent


def test_a_connection_that_was_closed_between_two_requests_is_opened_again() -> None:
    def and_close(sock: socket.socket, _: int) -> None:
        answer(sock)
        _end(sock)

    with backend(and_close) as server:
        result = offered(server)
    assert result.statuses == {200: result.sent}
    assert server.opened == server.received == result.sent


def test_a_503_is_failed_and_its_connection_is_not_used_again() -> None:
    with backend(lambda sock, number: answer(sock, status=200 if number > 4 else 503)) as server:
        result = offered(server)
    assert result.statuses == {200: result.sent - 4, 503: 4}
    assert (result.failed, result.wrong) == (4, 0)
    assert server.opened >= 5


def test_a_wrong_label_is_wrong() -> None:
    with backend(lambda sock, number: answer(sock, label="disc" if number % 4 else "cross")) as server:
        result = offered(server)
    assert result.wrong == result.sent // 4 > 0
    assert result.failed == 0


def test_a_key_is_read_again_for_each_new_connection_and_only_then() -> None:
    """TorchServe writes new keys at every start, which also ends all connections."""

    def restart(sock: socket.socket, number: int) -> None:
        if number == 3:
            server.new_key("second")
        answer(sock)
        if number == 5:
            _end(sock)

    with backend(restart) as server:
        result = offered(server, rate=None, clients=1)  # at a rate, a request that is late gets a second connection
    assert result.statuses == {200: result.sent}
    assert server.keys == 5 * ["first"] + (result.sent - 5) * ["second"]
    assert server.opened == 2


def test_without_a_key_every_request_is_lost() -> None:
    with backend(lambda sock, _: answer(sock)) as server:
        (server.var / "key_file.json").unlink()
        result = offered(server, seconds=0.3)
    assert result.lost == result.sent > 0
    assert server.received == 0


def test_nothing_listens(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/predictions/shapes"
    with Load(url, tmp_path, BODY, rate=20) as load:
        time.sleep(0.3)
        result = load.stop()
    assert result.lost == result.sent > 0


def test_a_stall_counts_in_the_latency_of_all_requests_due_meanwhile() -> None:
    """From its tenth request the server answers nothing for 0.4 s; requests go on being due, and wait for its end."""
    release, begun, ended = threading.Event(), 0.0, 0.0

    def end() -> None:
        nonlocal ended
        ended = time.monotonic()
        release.set()

    def stall_once(sock: socket.socket, number: int) -> None:
        nonlocal begun
        if number == 10:
            begun = time.monotonic()
            threading.Timer(0.4, end).start()
        if number >= 10:
            release.wait()
        answer(sock)

    with backend(stall_once) as server:
        result = offered(server, rate=50)
    stalled = [s for s in result.samples if begun < result.begun + s.due < ended]
    assert len(stalled) >= 10  # of 20 in 0.4 s
    assert all(result.begun + s.answered > ended - 0.001 for s in stalled)  # rounded to 0.1 ms
    assert result.unanswered == 0


def test_a_client_pauses_after_each_answer() -> None:
    with backend(lambda sock, _: answer(sock)) as server:
        samples = offered(server, rate=None, clients=1, pause_s=0.1).samples
    assert len(samples) > 1
    assert all(later.sent - earlier.answered > 0.09 for earlier, later in itertools.pairwise(samples))


def test_each_client_sends_its_next_request_when_the_last_is_answered() -> None:
    lock, open_now, most = threading.Lock(), 0, 0

    def late(sock: socket.socket, _: int) -> None:
        nonlocal open_now, most
        with lock:
            open_now += 1
            most = max(most, open_now)
        time.sleep(0.05)
        with lock:
            open_now -= 1
        answer(sock)

    with backend(late) as server:
        result = offered(server, rate=None, clients=4)
    assert (most, server.opened) == (4, 4)
    assert 4 < result.rate <= 4 / 0.05 + 4


def sample(sent: float, ms: float, version: str | None, outcome: int | str = 200) -> Sample:
    return Sample(sent, sent, ms, outcome, "disc" if version else None, version)


def test_an_answer_of_the_old_version_after_one_of_the_new_is_stale() -> None:
    overtaken = sample(0.9, 300, "1.9")  # sent before the first answer of 1.10: the old one may still be draining
    good = [sample(0.0, 50, "1.9"), overtaken, sample(1.0, 50, "1.10"), sample(1.1, 50, "1.10")]
    assert Result(0, 2, 0, good).stale == 0
    assert Result(0, 2, 0, [*good, sample(1.2, 50, "1.9")]).stale == 1
    assert list(Result(0, 2, 0, good).versions) == ["1.9", "1.10"]


def test_percentiles_are_those_of_nearest_rank_and_loads_can_be_joined() -> None:
    first = Result(100, 10, 1, [sample(n, n + 1, "1.0") for n in range(50)])
    second = Result(160, 10, 1, [sample(n, n + 51, None, LOST if n else UNANSWERED) for n in range(50)])
    both = first.joined(second)
    assert [both.percentile(share) for share in (0.5, 0.95, 0.99, 1)] == [50, 95, 99, 100]
    assert (both.sent, both.rate, both.lost, both.unanswered) == (100, 5, 49, 1)
    assert both.samples[50].due == 60
    assert Result(0, 0, 0, []).percentile(0.99) == 0


@pytest.mark.parametrize("wrong", [{}, {"rate": 1, "clients": 1}, {"rate": -1}, {"clients": 0}, {"rate": float("nan")}])
def test_a_load_needs_either_a_rate_or_clients(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="rate"):
        Load("http://127.0.0.1:1/", Path(), BODY, **wrong)


def test_the_command_has_help_and_refuses_rate_and_clients_together(tmp_path_factory: pytest.TempPathFactory) -> None:
    assert "Example: " in CliRunner().invoke(main, ["--help"]).output
    done = CliRunner().invoke(main, [__file__, "--rate", "1", "--clients", "1"])
    assert done.exit_code != 0
    assert "either --rate or --clients" in done.output
