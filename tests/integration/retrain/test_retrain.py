"""The walk from photos to a rollout command: by following the next: lines, and with one command that is killed."""

import fcntl
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config.recipe import read_recipe
from deploy.settings import ROOT
from deploy.store import desired
from deploy.store.mar import served_version
from retrain.walk.steps import Plan, Request
from tests.helpers.commands import command, newest
from tests.helpers.running.forked import PYTHON, python_that_forks, run_forked, start_forked
from tests.helpers.small import label_folders, small_recipe


@pytest.fixture
def photos(drawn: Path, tmp_path: Path) -> Path:
    """Photos in label folders, with junk between them."""
    folder = tmp_path / "my photos"
    shutil.copytree(drawn, folder)
    (folder / "disc" / "page.jpg").write_bytes(b"<!doctype html><title>gone</title>")
    (folder / "disc" / "half.jpg").write_bytes((folder / "disc" / "0001.jpg").read_bytes()[:700])
    (folder / "Thumbs.db").write_bytes(b"x")
    return folder


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    export = {"int8": "never", "opset": 17}  # torch's older exporter starts in a tenth of the time
    return small_recipe("shapes", tmp_path, train={}, prune={"epochs": 1}, export=export)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"SERVE_STORE": str(tmp_path / "store"), "SERVE_VAR": str(tmp_path / "var")}


def forked(*words: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    done = run_forked(list(words), ROOT, {**os.environ, **env})
    assert done.returncode == 0, done.stderr
    return done


def next_words(output: str, python: str = sys.executable) -> list[str]:
    """The command of the next: line, without the interpreter, which must be the one that ran the command."""
    lines = re.findall(r"^next: (.*)$", output, re.MULTILINE)
    assert len(lines) == 1, output
    interpreter, dash, *words = shlex.split(lines[0])
    assert (ROOT / interpreter).absolute() == Path(python).absolute() or interpreter == "python"
    assert dash == "-m"
    return words


def test_the_next_lines_lead_from_photos_to_a_rollout(
    photos: Path, recipe: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """Only the folders of this test are added: a person who pastes keeps the defaults."""
    added: dict[str, list[object]] = {
        "split": ["--out", tmp_path / "split.tsv"],
        "train": ["--runs", tmp_path / "runs"],
    }
    added |= {"stats": ["--out", tmp_path / "stats"], "evaluate": ["--no-changes"]}
    words: list[str] = ["dataset", "audit", str(photos), "--recipe", str(recipe)]
    steps = []
    while words[:2] != ["deploy", "rollout"]:
        steps.append(words[1])
        words += map(str, added.get(words[1], []))
        run = command if words[0] == "deploy" else forked
        done = run(*words, env=environment)
        words = next_words(done.stdout)
    assert steps == ["audit", "stats", "split", "train", "prune", "evaluate", "export", "archive"]
    assert Path(words[2]).name == "shapes-1.0.mar" and (tmp_path / "store" / "shapes-1.0.mar").is_file()
    table = (tmp_path / "split.tsv").read_text()
    assert "half.jpg" not in table and "page.jpg" not in table
    assert (photos / "disc" / "half.jpg").is_file(), "a step moved a photo"


def test_a_run_is_called_latest(tmp_path: Path) -> None:
    recipe = small_recipe("shapes", tmp_path, prune={"epochs": 0})
    runs, data = tmp_path / "runs", label_folders(tmp_path / "few", ("disc", "stripe", "cross"))
    none = command("training", "prune", "latest", "--data", data, "--runs", runs, check=False)
    assert none.returncode == 1
    assert f"latest: there is no complete run of train in {runs}" in none.stderr
    for _ in range(2):
        command("training", "train", recipe, "--data", data, "--runs", runs)
    first, second = sorted((runs / "shapes").glob("*-train*"))
    (second / "run.json").rename(second / "lost.json")
    command("training", "prune", "shapes/latest", "--data", data, "--runs", runs)
    pruned = newest(runs / "shapes", "prune")
    assert json.loads((pruned / "run.json").read_text())["parent"] == first.name
    done = command("training", "evaluate", runs / "shapes" / "latest", "--data", data, "--no-changes")
    assert str(pruned) in done.stdout
    listed = command("training", "runs", "--runs", runs, "--compare", "latest", first.name, "--json").stdout
    assert json.loads(listed)["runs"] == [pruned.name, first.name]


def until(condition: Callable[[], bool], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_one_command_survives_a_kill(photos: Path, recipe: Path, environment: dict[str, str], tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    given = ("retrain", photos, "--recipe", recipe, "--runs", runs, "--skip", "prune", "--against", ROOT / "missing")
    python = python_that_forks(tmp_path)
    words, env = [*map(str, given)], {**os.environ, **environment, PYTHON: python}

    def steps() -> dict[str, Any]:
        found = list(runs.glob("shapes/retrain/*/walk.json"))
        return dict(json.loads(found[0].read_text())["steps"]) if found else {}

    def unfinished() -> bool:
        with next(runs.glob("shapes/retrain/*/.lock")).open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    with start_forked(words, ROOT, env) as process:
        until(lambda: "train" in steps())
        second = run_forked(words, ROOT, env)
        assert second.returncode == 1 and "is being retrained already" in second.stderr
        process.kill()
    third = run_forked(words, ROOT, env)
    assert "at the step train" in third.stderr, "the training goes on alone, and holds the lock"
    until(lambda: not unfinished())

    fourth = run_forked(words, ROOT, env)
    assert fourth.returncode == 1 and "step 6 of 8: evaluate failed" in fourth.stderr
    assert len(list((runs / "shapes").glob("*-train*"))) == 1, "the training that had gone on alone was not used"
    assert "split" in steps() and steps()["train"]["output"]

    done = run_forked([*words[:-2], "--skip", "evaluate"], ROOT, env)
    assert done.returncode == 0, done.stderr
    assert "step 3 of 8: split: done before" in done.stderr and "step 8 of 8: archive" in done.stderr
    first = next_words(done.stdout, python)
    assert "no version of shapes is served yet: the server starts with the newest one, shapes-1.0.mar" in done.stdout
    assert first[:3] == ["deploy", "up", "--bundle"] and (Path(first[3]) / "model.onnx").is_file()

    desired.write(tmp_path / "var", [served_version(tmp_path / "store" / "shapes-1.0.mar")])
    again = run_forked([*words[:-2], "--skip", "evaluate"], ROOT, env)
    assert again.returncode == 0, again.stderr
    rollout = next_words(again.stdout, python)
    assert rollout[:2] == ["deploy", "rollout"] and rollout[3] == "--photos" and Path(rollout[4]).is_file()


def test_without_a_served_version_the_shipped_model_is_the_rival(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVE_VAR", str(tmp_path / "var"))
    monkeypatch.setenv("SERVE_STORE", str(tmp_path / "store"))
    known, other = read_recipe("classroom"), read_recipe("shapes")
    assert Plan(Request(tmp_path, "classroom", known, tmp_path)).rival() == os.path.relpath(ROOT / "models/classroom")
    assert Plan(Request(tmp_path, "shapes", other, tmp_path)).rival() is None
    renamed = known.model_copy(update={"labels": ("room", "screen")})
    assert Plan(Request(tmp_path, "classroom", renamed, tmp_path)).rival() is None
