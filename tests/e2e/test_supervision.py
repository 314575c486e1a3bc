"""`make up`: after kills, damaged files and taken ports the same versions serve again. With a real TorchServe."""

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from deploy.host.locks import OwnerKind, deployment_lock, server_lock
from deploy.host.processes import alive, cmdline, group_of_server, java_of, members
from deploy.settings import HOST, ROOT, Settings, read_settings, separate_environment
from deploy.store import copies, desired
from deploy.store.desired import ServedVersion
from deploy.store.journal import entries
from deploy.store.mar import served_version
from deploy.torchserve.management import Client
from tests.helpers.commands import command
from tests.helpers.light import pack_quickly
from tests.helpers.nodes import begun, damage, suspended, wait_for_step
from tests.helpers.waiting import eventually

DEFAULT, KEPT = "1.1", "1.0"


class Up:
    """A server of `make up` with a default and a kept version."""

    def __init__(self, env: dict[str, str], photo: Path) -> None:
        self.env = env
        self.settings: Settings = read_settings({**os.environ, **env})
        self.client = Client(self.settings, timeout_s=20)  # a killed worker may never answer the request that it had
        self.body = {"image_id": "1", "image_base64": base64.b64encode(photo.read_bytes()).decode(), "detail": True}
        self.text = ""

    def start(self, light: Path) -> None:
        self.text = command("deploy", "up", "--bundle", light, env=self.env).stdout
        self.wait()

    def wait(self) -> None:
        """Wait until the same versions serve again."""
        eventually(self.same, context=self.last_logs)

    def wait_until_nothing_changes(self, seconds: float = 3) -> None:
        """Wait until nobody, the keeper included, has changed versions for so many seconds."""
        deadline = time.monotonic() + 60
        since = time.monotonic()
        while time.monotonic() < since + seconds:
            assert time.monotonic() < deadline, self.last_logs()
            if deployment_lock(self.settings.var).owner() or not self.same():
                since = time.monotonic()
            time.sleep(0.1)

    def same(self) -> bool:
        """Whether both versions answer, and the default is the default."""
        try:
            rows = {row["modelVersion"]: row for row in self.client.models()}
            answers = [self.answer(model) for model in ("shapes", f"shapes/{DEFAULT}", f"shapes/{KEPT}")]
            ready = self.ready()[0]
        except Exception:  # nothing, half a server, a worker that was just killed
            return False
        return set(rows) >= {DEFAULT, KEPT} and answers == [DEFAULT, DEFAULT, KEPT] and ready == 200

    def answer(self, model: str) -> str:
        answer = self.client.ask("inference", "POST", f"/predictions/{model}", json=self.body)
        return str(answer.json()["model_version"])

    def ready(self) -> tuple[int, dict[str, Any]]:
        answer = requests.get(self.settings.url("keeper") + "/ready", timeout=20)
        return answer.status_code, answer.json()

    def last_logs(self) -> str:
        logs = [self.settings.var / "logs" / f"{name}.log" for name in ("supervisord", "torchserve", "keeper")]
        return "\n".join(path.read_text()[-3000:] for path in logs if path.exists())

    def supervisor(self) -> int:
        owner = server_lock(self.settings.var).owner()
        assert owner is not None
        return owner.pid

    def program(self, module: str) -> psutil.Process:
        eventually(lambda: self.programs(module))
        return self.programs(module)[0]

    def programs(self, module: str = "-m") -> list[psutil.Process]:
        children = psutil.Process(self.supervisor()).children()
        return [child for child in children if alive(child) and module in cmdline(child)]

    def java(self) -> psutil.Process:
        group = group_of_server(self.settings.var)
        assert group is not None
        java = java_of(group)
        assert java is not None
        return java

    def workers(self) -> list[psutil.Process]:
        group = group_of_server(self.settings.var)
        assert group is not None
        return [p for p in members(group) if any("model_service_worker" in word for word in cmdline(p))]

    def processes(self) -> list[psutil.Process]:
        group = group_of_server(self.settings.var)
        supervisor = psutil.Process(self.supervisor())
        return [supervisor, *supervisor.children(recursive=True), *(members(group) if group else [])]

    def attached(self) -> int:
        """How often a program has attached to a running TorchServe."""
        return (self.settings.var / "logs" / "torchserve.log").read_text().count('"event": "attached to')

    def more(self, outcomes: list[int | str]) -> None:
        """Wait for twenty more requests."""
        count = len(outcomes)
        eventually(lambda: len(outcomes) > count + 20)

    @contextlib.contextmanager
    def trickle(self) -> Iterator[list[int | str]]:
        """Twenty requests a second from another thread while the block runs; their outcomes."""
        outcomes: list[int | str] = []
        over = threading.Event()

        def ask() -> None:
            while not over.wait(0.05):
                try:
                    outcomes.append(self.client.predict("shapes", self.body).status_code)
                except Exception as error:
                    outcomes.append(repr(error))

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield outcomes
        finally:
            over.set()
            thread.join()


def prepared(light: Path, folder: Path) -> Up:
    """A store with two versions, and a manifest that has one of them kept."""
    env = separate_environment(folder / "var", folder / "store")
    archives = [pack_quickly(light, version, folder / "store") for version in (DEFAULT, KEPT)]
    for mar in archives:
        copies.keep_copy(folder / "var", mar)
    default, kept = (served_version(mar) for mar in archives)
    desired.write(folder / "var", [default, ServedVersion(kept.name, kept.version, kept.archive, kept.digest)])
    return Up(env, next((light / "goldens").iterdir()))


@pytest.fixture(scope="module")
def up(light: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    running = prepared(light, tmp_path_factory.mktemp("up"))
    running.start(light)
    yield running
    command("deploy", "down", "--now", env=running.env)


def test_up_prints_a_curl_that_works_and_how_to_stop(up: Up) -> None:
    pasted = up.text[up.text.index("  curl") : up.text.index("make down")]
    done = subprocess.run(["bash", "-c", pasted], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout)["result"] in ("disc", "cross", "stripe")
    assert up.text.endswith("make down stops it.\n")


def test_the_keeper_serves_only_ready_and_metrics(up: Up) -> None:
    status, answer = up.ready()
    assert (status, answer["ready"], answer["missing"], answer["warnings"]) == (200, True, [], [])
    assert answer["models"] == [{"name": "shapes", "version": DEFAULT}]
    url = up.settings.url("keeper")
    assert requests.get(url + "/metrics", timeout=20).headers["Content-Type"].startswith("text/plain")
    assert [requests.get(url + path, timeout=20).status_code for path in ("/", "/docs", "/models")] == [404] * 3
    assert requests.post(url + "/ready", timeout=20).status_code == 405


def test_the_keeper_listens_on_the_loopback_address_only(up: Up) -> None:
    listening = (c.laddr for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr)
    assert {place.ip for place in listening if place.port == up.settings.ports["keeper_port"]} == {HOST}


def test_a_second_server_is_refused_and_the_message_names_the_first(up: Up, light: Path) -> None:
    for mode in ("up", "serve"):
        done = command("deploy", mode, "--bundle", light, env=up.env, check=False)
        assert done.returncode == 1
        message = (
            rf"a server is running already \(make up, process {up.supervisor()} of .*, since .*\): stop it with make d"
        )
        assert re.search(message, done.stderr), done.stderr
    assert up.same()


def test_only_supervisord_holds_the_lock(up: Up) -> None:
    lock = str(server_lock(up.settings.var).path)
    holding = [p.pid for p in up.processes() if lock in [file.path for file in p.open_files()]]
    assert holding == [up.supervisor()]


def test_only_their_owner_can_read_the_files(up: Up) -> None:
    assert up.settings.var.stat().st_mode & 0o777 == 0o700
    logs = [path for path in (up.settings.var / "logs").iterdir() if path.is_file()]
    assert {"supervisord.log", "torchserve.log", "keeper.log", "ts_log.log"} <= {path.name for path in logs}
    assert not [path for path in (*logs, up.settings.var / "key_file.json") if path.stat().st_mode & 0o077]


def test_no_key_is_in_a_process_list_or_a_log(up: Up) -> None:
    up.answer("shapes")
    rows = json.loads((up.settings.var / "key_file.json").read_text())
    keys = [row["key"] for row in rows.values()]
    assert len(keys) == 3
    logs = "".join(path.read_text(errors="replace") for path in (up.settings.var / "logs").rglob("*") if path.is_file())
    lists = " ".join(" ".join(cmdline(process)) for process in psutil.process_iter())
    environments = " ".join(str(process.environ()) for process in up.processes())
    assert not [key for key in keys if key in logs + lists + environments]


def test_a_killed_worker_is_back(up: Up) -> None:
    for worker in up.workers():
        worker.kill()
    up.wait()


def test_a_killed_java_is_back_with_its_versions_even_if_archives_are_missing_or_damaged(up: Up) -> None:
    store, before = up.settings.store, up.java()
    (store / f"shapes-{DEFAULT}.mar").unlink()
    damaged = damage(store / f"shapes-{KEPT}.mar")
    before.kill()
    eventually(lambda: not alive(before))
    up.wait()
    assert [entry.action for entry in entries(up.settings.var)][-2:] == ["restore", "restore"]
    assert (store / f"shapes-{DEFAULT}.mar").is_file()
    assert (store / f"shapes-{KEPT}.mar.damaged").read_bytes() == damaged


def test_killing_the_keeper_loses_no_request(up: Up) -> None:
    keeper, java = up.program("deploy.supervision.keeper"), up.java()
    with up.trickle() as outcomes:
        keeper.kill()
        eventually(lambda: not alive(keeper))
        up.wait()
    assert set(outcomes) == {200}
    assert up.java() == java


def test_killing_supervisord_loses_no_request_and_it_is_replaced(up: Up) -> None:
    supervisor, java, keeper = up.supervisor(), up.java(), up.program("deploy.supervision.keeper")
    attached = up.attached()
    with up.trickle() as outcomes:
        os.kill(supervisor, signal.SIGKILL)
        eventually(lambda: server_lock(up.settings.var).owner() is not None)
        eventually(lambda: not alive(keeper))
        up.wait()
        eventually(lambda: up.attached() == attached + 1)
        up.more(outcomes)
    assert set(outcomes) == {200}
    assert up.java() == java
    assert up.supervisor() != supervisor
    assert len(up.programs()) == 2


def test_killing_the_torchserve_program_loses_no_request(up: Up) -> None:
    watcher, java = up.program("deploy.supervision.torchserve_program"), up.java()
    attached = up.attached()
    with up.trickle() as outcomes:
        watcher.kill()
        eventually(lambda: not alive(watcher))
        assert up.program("deploy.supervision.torchserve_program") != watcher
        eventually(lambda: up.attached() == attached + 1)
        up.more(outcomes)
    assert set(outcomes) == {200}
    assert up.java() == java


def test_workers_that_torchserve_gave_up_are_revived(up: Up) -> None:
    up.wait_until_nothing_changes(1.5)  # a repair that is still running would start the workers at once
    up.client.scale("shapes", KEPT, 0)
    assert up.client.ready("shapes", KEPT) == 0
    up.wait()
    assert entries(up.settings.var)[-1].action == "revive"
    sample = r'^classifier_keeper_actions_total\{action="revive"\} [1-9]'
    url = up.settings.url("keeper") + "/metrics"
    eventually(lambda: re.search(sample, requests.get(url, timeout=20).text, re.MULTILINE))


def test_during_a_rollout_nothing_is_repaired_and_down_is_refused(up: Up) -> None:
    with deployment_lock(up.settings.var).hold(OwnerKind.ROLLOUT, "shapes 9.9"):
        up.client.unregister("shapes", KEPT)
        eventually(lambda: any("rollout of shapes 9.9" in text for text in up.ready()[1]["warnings"]))
        assert up.client.describe("shapes", KEPT) is None
        done = command("deploy", "down", env=up.env, check=False)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert "rollout of shapes 9.9 (process" in done.stderr and "--now" in done.stderr
    up.wait()


def test_a_version_that_is_not_in_the_manifest_stays_but_not_as_the_default(up: Up, light: Path) -> None:
    pack_quickly(light, "1.2", up.settings.store)
    up.client.register("shapes-1.2.mar", "shapes")
    up.client.set_default("shapes", "1.2")
    up.wait()
    assert up.client.ready("shapes", "1.2") == 1
    up.client.unregister("shapes", "1.2")


def test_a_port_that_is_taken_at_a_restart_is_waited_for(up: Up) -> None:
    before = up.java()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        before.kill()
        eventually(lambda: takes(other, up.settings.ports["management_address"]))
        log = up.settings.var / "logs" / "torchserve.log"
        taken = f"port {up.settings.ports['management_address']} is taken by process {os.getpid()}"
        eventually(lambda: taken in log.read_text())
        assert up.ready()[0] == 503
    up.wait()


def takes(other: socket.socket, port: int) -> bool:
    try:
        other.bind(("127.0.0.1", port))
    except OSError:
        return False
    other.listen()
    return True


def test_a_damaged_manifest_is_a_warning_and_changes_nothing(up: Up) -> None:
    path = up.settings.var / desired.FILE
    content = path.read_bytes()
    try:
        path.write_text("{")
        eventually(lambda: any("is damaged" in text for text in up.ready()[1]["warnings"]))
        assert up.same()
    finally:
        path.write_bytes(content)
    eventually(lambda: up.ready()[1]["warnings"] == [])


def test_sighup_restarts_the_programs_and_keeps_the_lock(up: Up) -> None:
    supervisor, keeper = up.supervisor(), up.program("deploy.supervision.keeper")
    os.kill(supervisor, signal.SIGHUP)
    eventually(lambda: not alive(keeper))
    up.wait()
    assert up.supervisor() == supervisor


def test_down_leaves_no_process_and_what_was_served_is_served_again(up: Up, light: Path) -> None:
    processes = up.processes()
    assert command("deploy", "down", env=up.env).stdout == "stopped: no process is left\n"
    assert not [process for process in processes if alive(process)]
    assert not (up.settings.var / "key_file.json").exists()
    again = command("deploy", "down", env=up.env)
    assert (again.returncode, again.stdout) == (0, f"nothing is running in {up.settings.var}\n")
    pack_quickly(light, "2.0", up.settings.store)
    done = command("deploy", "up", "--bundle", light, env=up.env)
    assert "shapes-2.0.mar is newer than the served version (shapes 1.1): python -m deploy rollout" in done.stderr
    up.wait()


def test_down_now_in_the_middle_of_a_rollout_and_up_serve_what_was_served(up: Up, light: Path) -> None:
    if not (up.settings.store / "shapes-2.0.mar").is_file():
        pack_quickly(light, "2.0", up.settings.store)
    up.wait_until_nothing_changes()
    with begun(up.env, "rollout", "shapes-2.0.mar", stderr=2) as rollout:  # pytest shows it if the test fails
        wait_for_step(up.settings.var, "register")
        with suspended(rollout):
            command("deploy", "down", "--now", env=up.env)
        assert rollout.wait(timeout=60) == 1
    command("deploy", "up", "--bundle", light, env=up.env)
    up.wait()
    assert up.client.describe("shapes", "2.0") is None


def test_after_supervisord_and_keeper_are_killed_down_stops_what_is_left(up: Up, light: Path) -> None:
    """Another `up` attaches to it instead: no request is lost even then."""
    keeper, supervisor, java = up.program("deploy.supervision.keeper"), up.supervisor(), up.java()
    keeper.suspend()
    os.kill(supervisor, signal.SIGKILL)
    keeper.kill()
    with up.trickle() as outcomes:
        command("deploy", "up", "--bundle", light, env=up.env)
    assert up.java() == java and set(outcomes) == {200}
    keeper, supervisor = up.program("deploy.supervision.keeper"), up.supervisor()
    keeper.suspend()
    os.kill(supervisor, signal.SIGKILL)
    keeper.kill()
    assert "stopped: no process is left" in command("deploy", "down", env=up.env).stdout
    assert not alive(java)
    assert server_lock(up.settings.var).dead_owner() is None


def test_the_kept_version_serves_if_the_default_is_gone(light: Path, tmp_path: Path) -> None:
    up = prepared(light, tmp_path)
    lose(up, DEFAULT)
    try:
        done = command("deploy", "up", "--bundle", light, env=up.env)
        assert f"shapes-{DEFAULT}.mar is missing, and there is no good copy" in done.stderr
        assert f"shapes-{KEPT} on http" in done.stdout
        status, answer = up.ready()
        assert (status, [row["version"] for row in answer["missing"]]) == (200, [DEFAULT])
        assert answer["models"] == [{"name": "shapes", "version": KEPT}]
    finally:
        command("deploy", "down", env=up.env)
    lose(up, KEPT)
    done = command("deploy", "up", "--bundle", light, env=up.env, check=False)
    assert done.returncode == 1
    assert f"shapes-{DEFAULT}.mar is missing, and there is no good copy" in done.stderr.splitlines()[-1]
    assert group_of_server(up.settings.var) is None
    assert server_lock(up.settings.var).owner() is None


def lose(up: Up, version: str) -> None:
    for folder in (up.settings.store, up.settings.var / copies.FOLDER):
        (folder / f"shapes-{version}.mar").unlink()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 40 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=40m", "none", str(folder)]
    if os.getuid() or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("only root may mount a small file system; tests/unit/deploy/test_keeper.py has the journal's part")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_on_a_full_disk_it_continues_to_serve_with_a_warning(light: Path, small_disk: Path, tmp_path: Path) -> None:
    up = prepared(light, tmp_path)
    shutil.copytree(tmp_path / "var", small_disk / "var")
    up = Up({**up.env, "SERVE_VAR": str(small_disk / "var")}, next((light / "goldens").iterdir()))
    up.start(light)
    try:
        fill(small_disk / "full")
        with up.trickle() as outcomes:
            eventually(lambda: any("full" in text for text in up.ready()[1]["warnings"]))
            up.program(
                "deploy.supervision.keeper"
            ).kill()  # first, so that the next one does the repair and warns about what it cannot write
            up.client.unregister("shapes", KEPT)
            up.wait()
        assert set(outcomes) == {200}
        eventually(lambda: any("cannot be written" in text for text in up.ready()[1]["warnings"]))
        assert psutil.pid_exists(up.supervisor())
    finally:
        command("deploy", "down", "--now", env=up.env)


def fill(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(b"\0" * 65536):
            pass
    with contextlib.suppress(OSError), path.with_name("rest").open("wb", buffering=0) as file:
        while file.write(b"\0" * 512):
            pass
