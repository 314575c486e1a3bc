"""Readiness: busy is not dead, all who ask share one golden photo, and every error is reported as not ready."""

import json
import socket
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from deploy.settings import HOST, Settings, read_settings, separate_environment
from deploy.store.desired import ServedVersion
from deploy.supervision import keeper, readiness
from deploy.supervision.keeper import Keeper
from deploy.supervision.readiness import Readiness
from deploy.supervision.repair_plan import ModelState
from deploy.torchserve import probes
from tests.helpers.waiting import eventually

BUSY_S = 1.0
ENTRY = ServedVersion("demo", "1.0", "demo-1.0.mar", "d", default=True)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return read_settings(separate_environment(tmp_path / "var", tmp_path / "store"))


def probed(settings: Settings) -> Readiness:
    models = {"demo": ModelState(ready={"1.0": 1}, default="1.0")}
    reconciler: Any = SimpleNamespace(entries=[ENTRY], models=models, missing=[], repairing=False, warnings={})
    ready = Readiness(settings, reconciler, busy_s=BUSY_S)
    ready.note("")
    return ready


class Model:
    """Answers golden photos when a test lets it, and counts them."""

    def __init__(self, running: Readiness, monkeypatch: pytest.MonkeyPatch) -> None:
        question = SimpleNamespace(golden=SimpleNamespace(label="yes", shows_label=True), body={})
        monkeypatch.setattr(readiness, "first_question", lambda *_: question)
        monkeypatch.setattr(readiness, "CACHE_S", 0.0)  # every question is asked again
        monkeypatch.setattr(readiness, "WAIT_S", 0.2)
        monkeypatch.setattr(running.client, "ask", self.ask)
        self.photos = 0
        self.free = threading.Event()
        self.free.set()

    def ask(self, *_: Any, **__: Any) -> Any:
        self.photos += 1
        self.free.wait(30)
        return SimpleNamespace(ok=True, json=lambda: {"result": "yes", "model_version": "1.0"})


def test_a_server_that_does_not_answer_is_named(settings: Settings) -> None:
    url = settings.url("inference")
    settings.var.mkdir()
    key = {"key": "k", "expiration time": "never"}
    (settings.var / "key_file.json").write_text(json.dumps({"inference": key, "management": key, "API": key}))
    question: Any = SimpleNamespace(golden=SimpleNamespace(label="yes", shows_label=True), body={})
    running = probed(settings)
    running._questions[ENTRY.digest] = question
    assert running.answer()["reason"] == f"demo: nothing answers at {url}"


@pytest.mark.parametrize("error", [zlib.error("incorrect header"), IndexError("list index"), NotImplementedError()])
def test_an_archive_that_cannot_be_read_is_not_ready(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def questions(mar: Path) -> None:
        raise error

    monkeypatch.setattr(probes, "questions", questions)
    answer = probed(settings).answer()
    assert (answer["ready"], answer["models"]) == (False, [])
    assert answer["reason"] == "demo: neither demo-1.0.mar nor its copy in var/archives can be read"


@pytest.mark.parametrize("content", [[], None, 3])
def test_an_answer_that_is_not_an_object_is_not_ready_and_logged(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], content: Any
) -> None:
    question = SimpleNamespace(golden=SimpleNamespace(label="yes", shows_label=True), body={})
    monkeypatch.setattr(readiness, "first_question", lambda *_: question)
    running = probed(settings)
    monkeypatch.setattr(running.client, "ask", lambda *_, **__: SimpleNamespace(ok=True, json=lambda: content))
    answer = running.answer()
    assert not answer["ready"]
    assert answer["reason"].startswith("demo: AttributeError")
    assert "the probe of demo failed" in capsys.readouterr().out


def test_the_probes_continue_after_one_that_failed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers: Iterator[dict[str, Any] | Exception] = iter([{"ready": True}, KeyError("ready"), {"ready": True}])
    values: list[bool] = []
    running = Keeper(settings)

    def answer() -> dict[str, Any]:
        content = next(answers)
        if isinstance(content, Exception):
            raise content
        return content

    def ready(value: bool) -> None:
        values.append(value)
        if len(values) == 3:
            running.stop()

    monkeypatch.setattr(keeper, "PROBE_EVERY_S", 0.01)
    monkeypatch.setattr(running.readiness, "answer", answer)
    monkeypatch.setattr(running.metrics, "ready", ready)
    probing = running.threads[1]
    probing.start()
    probing.join(10)
    assert not probing.is_alive()
    assert values == [True, False, True]
    assert "the probe failed: KeyError('ready')" in capsys.readouterr().out


def test_a_busy_model_stays_ready_with_one_golden_photo_in_flight_until_it_is_silent_for_too_long(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = probed(settings)
    model = Model(running, monkeypatch)
    assert running.answer()["busy"] == []
    model.free.clear()
    answer = running.answer()
    assert (answer["ready"], answer["busy"]) == (True, ["demo"])
    assert answer["models"] == [{"name": "demo", "version": "1.0"}]
    eventually(lambda: not running.answer()["ready"], 10)
    assert running.answer()["reason"].startswith("demo: no golden photo was answered for ")
    assert model.photos == 2
    model.free.set()
    assert eventually(lambda: running.answer()["ready"], 10)


def test_a_model_without_a_worker_is_not_ready_although_it_was_a_moment_ago(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = probed(settings)
    model = Model(running, monkeypatch)
    assert running.answer()["ready"]
    model.free.clear()
    running.reconciler.models = {"demo": ModelState(ready={"1.0": 0, "0.9": 1}, default="1.0")}
    assert running.answer()["reason"] == "demo: no worker of its default version is ready"
    model.free.set()


def test_a_model_that_never_answered_is_not_busy(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    running = probed(settings)
    Model(running, monkeypatch).free.clear()
    assert running.answer()["reason"] == "demo: no golden photo was answered yet"


def test_clients_share_one_golden_photo_and_metrics_never_wait_for_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = Keeper(settings)
    running.readiness = probed(settings)
    model = Model(running.readiness, monkeypatch)
    monkeypatch.setattr(readiness, "CACHE_S", 60.0)
    monkeypatch.setattr(readiness, "WAIT_S", 60.0)  # all clients wait until the model is free
    model.free.clear()
    answering = running.threads[0]
    answering.start()
    url = settings.url("keeper")
    eventually(lambda: _listens(settings))
    with ThreadPoolExecutor(50) as pool:
        answers = [pool.submit(requests.get, url + "/ready", timeout=60) for _ in range(50)]
        eventually(lambda: model.photos)
        assert requests.get(url + "/metrics", timeout=30).status_code == 200
        assert not any(answer.done() for answer in answers)
        model.free.set()
        assert {answer.result().status_code for answer in answers} == {200}
    assert model.photos == 1
    running.stop()
    answering.join(10)


def _listens(settings: Settings) -> bool:
    with socket.socket() as client:
        return client.connect_ex((HOST, settings.ports["keeper_port"])) == 0


@pytest.mark.parametrize("taken", [False, True])
def test_stop_ends_every_loop_of_the_keeper(settings: Settings, taken: bool) -> None:
    """Also while the keeper's port is taken and it waits for it."""
    running = Keeper(settings)
    with socket.socket() as other:
        if taken:
            other.bind((HOST, settings.ports["keeper_port"]))
            other.listen()
        main = threading.Thread(target=running.run)
        main.start()
        running.stop()
        for thread in (main, *running.threads):
            thread.join(10)
            assert not thread.is_alive()
    running.metrics.stop()
