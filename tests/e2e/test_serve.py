"""`make serve` as a new user runs it: start, paste the curl, predict, interrupt."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import click.testing
import psutil
import pytest

from common.errors import UserError
from deploy.archive import pack
from deploy.host.locks import server_lock
from deploy.host.processes import cmdline
from deploy.serve import choose
from deploy.settings import ROOT, read_settings, separate_environment
from deploy.store.mar import digests, identity
from deploy.supervision.lifecycle import ask_keeper
from handler import goldens
from tests.helpers.commands import SHIPPED, command
from tests.helpers.light import pack_quickly
from tests.helpers.waiting import default_signals, eventually


class Serving:
    """A running `make serve` and what it printed."""

    def __init__(self, process: subprocess.Popen[str], env: dict[str, str], text: str) -> None:
        self.process, self.env, self.text = process, env, text

    def stop(self, number: int = signal.SIGINT) -> None:
        """Send a signal as a terminal does at Ctrl-C: to make and all its children."""
        os.killpg(self.process.pid, number)
        self.process.wait(timeout=60)
        self.close()

    def close(self) -> None:
        assert self.process.stdout is not None
        self.process.stdout.close()

    def members(self) -> list[psutil.Process]:
        """Every process below make: serve, supervisord, its programs, the launcher, Java, the worker."""
        return psutil.Process(self.process.pid).children(recursive=True)


def start(env: dict[str, str], bundle: Path) -> Serving:
    process = subprocess.Popen(
        ["make", "--no-print-directory", "serve", f"BUNDLE={bundle}"],
        cwd=ROOT,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=default_signals,
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "Ctrl-C" in line:
            return Serving(process, env, "".join(lines))
    raise AssertionError("".join(lines))


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    env = separate_environment(tmp_path_factory.mktemp("serve") / "var", tmp_path_factory.mktemp("serve-store"))
    running = start(env, SHIPPED)
    yield running
    if running.process.poll() is None:
        running.stop()


def test_it_packs_starts_and_prints_a_curl_that_works(serving: Serving) -> None:
    pasted = serving.text[serving.text.index("  curl") : serving.text.index("Ctrl-C")]
    label = re.search(r"this one is (\w+)", serving.text)
    done = subprocess.run(["bash", "-c", pasted], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert label is not None
    assert json.loads(done.stdout) == {"image_id": "12345", "result": label[1]}
    assert re.search(r"ready after [0-9.]+ s: classroom-1.0", serving.text)


def test_the_front_end_uses_few_threads(serving: Serving) -> None:
    """The serial collector works on the thread that needed it; the second compiler is off; no heap, no front end."""
    (java,) = (process for process in serving.members() if "org.pytorch.serve.ModelServer" in cmdline(process))
    threads = {path.read_text().strip() for path in Path(f"/proc/{java.pid}/task").glob("*/comm")}
    assert "C1 CompilerThre" in threads
    assert not [name for name in threads if name.startswith(("C2 Compiler", "G1 ", "GC Thread"))]
    assert {"-Xmx2g", "-XX:+ExitOnOutOfMemoryError"} <= set(cmdline(java))


def test_models_lists_what_is_served(serving: Serving) -> None:
    (row,) = json.loads(command("deploy", "models", "--json", env=serving.env).stdout)
    assert (row["name"], row["version"], row["default"], row["workers_ready"]) == ("classroom", "1.0", True, 1)
    manifest = json.loads((Path(serving.env["SERVE_STORE"]) / "classroom-1.0.json").read_text())
    assert (row["digest"], row["run"]) == (manifest["digest"], manifest["run"])


def test_predict_answers_every_photo_in_order(serving: Serving, tmp_path: Path) -> None:
    good = sorted((SHIPPED / "goldens").glob("*.jpg"))
    bad = tmp_path / "page.jpg"
    bad.write_text("<html>")
    photos = [good[0], bad, tmp_path / "absent.jpg", good[-1]]
    done = command("deploy", "predict", *photos, env=serving.env, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert [line["photo"] for line in lines] == [str(path) for path in photos]
    assert [line["status"] for line in lines] == [200, 415, None, 200]
    labels = json.loads((SHIPPED / "recipe.json").read_text())["labels"]
    assert [lines[0]["result"], lines[3]["result"]] == [labels[0], labels[-1]]
    assert [line["error"]["code"] for line in lines[1:3]] == ["unsupported_format", "unreadable_file"]
    assert set(lines[0]) == {"image_id", "result", "photo", "status"}


def test_predict_exits_0_when_all_are_good(serving: Serving) -> None:
    done = command("deploy", "predict", "--detail", next((SHIPPED / "goldens").glob("*.jpg")), env=serving.env)
    assert json.loads(done.stdout)["model_version"] == "1.0"


def test_a_second_server_is_refused(serving: Serving) -> None:
    done = command("make", "serve", env=serving.env, check=False)
    assert done.returncode != 0
    assert "a server is running already (make serve, process" in done.stderr
    assert "Ctrl-C in its terminal, or make down" in done.stderr


def test_a_taken_port_is_named(serving: Serving, tmp_path: Path) -> None:
    done = command("deploy", "serve", env={**serving.env, "SERVE_VAR": str(tmp_path)}, check=False)
    assert done.returncode == 1
    assert re.search(rf"port {serving.env['SERVE_INFERENCE_PORT']} is taken", done.stderr)
    assert "SERVE_INFERENCE_PORT=PORT" in done.stderr


def test_only_their_owner_can_read_the_runtime_files(serving: Serving) -> None:
    var = Path(serving.env["SERVE_VAR"])
    assert var.stat().st_mode & 0o077 == 0
    assert (var / "key_file.json").stat().st_mode & 0o077 == 0
    assert {"logs", "tmp", "key_file.json"} <= {path.name for path in var.iterdir()}


def test_ctrl_c_leaves_no_process_and_no_key(serving: Serving) -> None:
    members = serving.members()
    assert any("java" in process.name() for process in members)
    serving.stop()
    _, alive = psutil.wait_procs(members, timeout=30)
    assert not alive
    assert not (Path(serving.env["SERVE_VAR"]) / "key_file.json").exists()
    assert command("deploy", "models", env=serving.env, check=False).returncode == 1


@pytest.fixture(scope="module")
def light_store(light: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the archive of a light model, for tests of what is around the worker (tests/helpers/light.py)."""
    return pack_quickly(light, "1.0", tmp_path_factory.mktemp("light-store")).parent


def test_a_killed_supervisord_is_replaced_and_a_killed_serve_leaves_no_process(
    light_store: Path, light: Path, tmp_path: Path
) -> None:
    env = separate_environment(tmp_path / "var", light_store)
    first = start(env, light)
    members = first.members()
    (java,) = [process for process in members if process.name() == "java"]
    lock = server_lock(tmp_path / "var")
    owner = lock.owner()
    assert owner is not None
    os.kill(owner.pid, signal.SIGKILL)
    eventually(lambda: lock.owner() not in (None, owner))
    eventually(lambda: ask_keeper(read_settings({**os.environ, **env})).get("ready"))
    eventually(lambda: "attached" in (tmp_path / "var" / "logs" / "torchserve.log").read_text())
    assert java.is_running()
    members += first.members()
    first.stop(signal.SIGKILL)
    assert not psutil.wait_procs(members, timeout=30)[1]
    assert lock.owner() is None


def test_down_stops_it_even_if_its_path_is_too_long_for_sockets(light_store: Path, light: Path, tmp_path: Path) -> None:
    env = separate_environment(tmp_path / ("deep" * 30) / "var", light_store)
    running = start(env, light)
    assert "ready after" in running.text
    members = running.members()
    assert command("make", "--no-print-directory", "down", env=env).stdout == "stopped: no process is left\n"
    assert running.process.wait(timeout=60) == 0
    assert not [process for process in members if process.is_running()]
    running.close()
    shutil.rmtree(tmp_path / ("deep" * 30))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_it_stops_cleanly_while_it_starts(light_store: Path, light: Path, tmp_path: Path, number: int) -> None:
    words = [sys.executable, "-m", "deploy", "serve", "--bundle", str(light)]
    env = {**os.environ, **separate_environment(tmp_path / "var", light_store)}
    process = subprocess.Popen(words, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True, preexec_fn=default_signals)
    assert process.stderr is not None
    eventually(lambda: (tmp_path / "var" / "torchserve.pgid").exists() or process.poll() is not None)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert errors.strip().endswith("stopped")
    assert not [p for p in psutil.process_iter() if str(tmp_path) in " ".join(cmdline(p))]


def test_a_note_names_a_stored_archive_of_another_run(packed_shapes: Path, copy_of_bundle: Path) -> None:
    run = json.loads((copy_of_bundle / "run.json").read_text())
    (copy_of_bundle / "run.json").write_text(json.dumps(run | {"id": "another"}))
    runner = click.testing.CliRunner()
    with runner.isolation() as (_, errors, _):
        assert choose(copy_of_bundle, None, packed_shapes.parent) == packed_shapes
        assert b"note: shapes-1.0.mar is of run" in errors.getvalue()
    assert choose(copy_of_bundle, "1.0", packed_shapes.parent) == packed_shapes
    with pytest.raises(UserError, match=r"scripts/archive.sh .* 7.7"):
        choose(copy_of_bundle, "7.7", packed_shapes.parent)


def test_a_worker_that_refuses_to_start_is_explained(bundle: Path, tmp_path: Path) -> None:
    """An archive whose golden answers are not this machine's: both values are named, and nothing is left running."""
    mar = pack(bundle, "1.0", tmp_path / "store")
    edited = tmp_path / "edited.zip"
    with zipfile.ZipFile(mar) as before, zipfile.ZipFile(edited, "w") as after:
        for name in before.namelist():
            content = before.read(name)
            if name == goldens.FILE:
                rows = json.loads(content)
                rows[0]["probabilities"] = [0.123, 0.456, 0.421]
                content = json.dumps(rows).encode()
            after.writestr(name, content)
    edited.replace(mar)
    known = mar.with_suffix(".json")
    known.write_text(json.dumps(json.loads(known.read_text()) | {"digest": identity(digests(mar))}))
    env = separate_environment(tmp_path / "var", tmp_path / "store")
    done = command("deploy", "serve", "--bundle", bundle, env=env, check=False)
    assert done.returncode == 1
    assert "GoldenMismatch: goldens/0_0.jpg" in done.stderr
    assert "[0.123, 0.456, 0.421]" in done.stderr
    assert not [p for p in psutil.process_iter() if str(tmp_path) in " ".join(cmdline(p))]
