"""The probe of readiness survives whatever it meets, and counts it as not ready."""

import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deploy.settings import Settings, own_environment, read_settings
from deploy.store.desired import ServedVersion
from deploy.supervision import keeper, readiness
from deploy.supervision.keeper import Keeper
from deploy.supervision.readiness import Readiness

ENTRY = ServedVersion("demo", "1.0", "demo-1.0.mar", "d", default=True)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return read_settings(own_environment(tmp_path / "var", tmp_path / "store"))


def probed(settings: Settings) -> Readiness:
    repairs: Any = SimpleNamespace(entries=[ENTRY], missing=[], repairing=False, warnings={})
    found = Readiness(settings, repairs)
    found.note("")
    return found


@pytest.mark.parametrize("error", [zlib.error("incorrect header"), IndexError("list index"), NotImplementedError()])
def test_an_archive_that_cannot_be_read_is_not_ready(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def example(mar: Path) -> None:
        raise error

    monkeypatch.setattr(readiness, "example", example)
    answer = probed(settings).answer()
    assert (answer["ready"], answer["models"]) == (False, [])
    assert answer["reason"] == "demo: demo-1.0.mar cannot be read, nor its copy in var/archives"


@pytest.mark.parametrize("content", [[], None, 3])
def test_an_answer_that_is_no_object_is_not_ready_and_logged(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], content: Any
) -> None:
    monkeypatch.setattr(readiness, "example", lambda mar: (SimpleNamespace(label="yes", own=True), {}))
    monkeypatch.setattr(readiness, "read_key", lambda *_: "key")
    found = probed(settings)
    monkeypatch.setattr(found.session, "post", lambda *_, **__: SimpleNamespace(ok=True, json=lambda: content))
    answer = found.answer()
    assert not answer["ready"]
    assert answer["reason"].startswith("demo: AttributeError")
    assert "the probe of demo failed" in capsys.readouterr().out


def test_the_probes_go_on_after_one_that_failed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    over, told = threading.Event(), list[bool]()
    answers: Iterator[dict[str, Any] | Exception] = iter([{"ready": True}, KeyError("ready"), {"ready": True}])

    def answer() -> dict[str, Any]:
        found = next(answers)
        if isinstance(found, Exception):
            raise found
        return found

    def ready(value: bool) -> None:
        told.append(value)
        if len(told) == 3:
            over.set()
            threading.Event().wait()

    watched = Keeper(settings)
    monkeypatch.setattr(keeper, "PROBE_EVERY_S", 0.01)
    monkeypatch.setattr(watched.readiness, "answer", answer)
    monkeypatch.setattr(watched.metrics, "ready", ready)
    threading.Thread(target=watched._probe, daemon=True).start()
    assert over.wait(10)
    assert told == [True, False, True]
    assert "the probe failed: KeyError('ready')" in capsys.readouterr().out
