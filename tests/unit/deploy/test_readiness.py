"""The readiness probe survives every error and reports it as not ready."""

import json
import socket
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deploy.settings import HOST, Settings, read_settings, separate_environment
from deploy.store.desired import ServedVersion
from deploy.supervision import keeper, readiness
from deploy.supervision.keeper import Keeper
from deploy.supervision.readiness import Readiness
from deploy.torchserve import probes

ENTRY = ServedVersion("demo", "1.0", "demo-1.0.mar", "d", default=True)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return read_settings(separate_environment(tmp_path / "var", tmp_path / "store"))


def probed(settings: Settings) -> Readiness:
    reconciler: Any = SimpleNamespace(entries=[ENTRY], missing=[], repairing=False, warnings={})
    ready = Readiness(settings, reconciler)
    ready.note("")
    return ready


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
