"""A new task needs a recipe and photos, but no code: the worked example of docs/recipes.md, command by command."""

import json
import re
import shlex
from pathlib import Path

import pytest

from deploy.settings import ROOT
from handler import engine, goldens
from handler.image import preprocess
from handler.spec import read_spec
from tests.helpers.commands import command, newest
from tests.helpers.small import label_folders, unpacked

PAGE = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## Your own task in ten minutes")[2].partition("\n## ")[0]


def block(kind: str) -> str:
    match = re.search(rf"```{kind}\n(.*?)```", SECTION, re.DOTALL)
    assert match, f"the worked example has no {kind}"
    return match[1]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's file and photos in a folder, and its commands run there."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "fruit.yaml").write_text(block("yaml"), encoding="utf-8")
    label_folders(folder / "photos", ("苹果", "香蕉", "樱桃"), 10)
    env = {"SERVE_STORE": str(folder / "store")}
    for line in block("bash").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] != ["python"] or words[2:4] == ["deploy", "rollout"]:
            continue
        if any("ID-train" in word for word in words):
            run = newest(folder / "runs" / "fruit", "train").name
            words = [word.replace("ID-train", run) for word in words]
        inside = [folder / word if (folder / word).exists() else word for word in words[1:]]
        inside = [folder / "runs" if word == "runs" else word for word in inside]
        inside = [folder / word if str(word).startswith(("runs/", "fruit.png")) else word for word in inside]
        command(*inside[1:], env=env)  # without python -m
    return folder


def test_its_model_knows_its_photos(finished: Path) -> None:
    run = newest(finished / "runs" / "fruit", "train")
    facts = json.loads((run / "bundle" / "run.json").read_text())
    assert facts["gate"]["passed"] is True
    spec = read_spec(run / "bundle" / "recipe.json")
    ask = engine.load(run / "bundle" / "model.onnx", spec)
    for index, label in enumerate(spec.labels):
        data = (finished / "photos" / label / "3.jpg").read_bytes()
        assert int(ask(preprocess(data, spec.input, spec.limits)).argmax()) == index


def test_its_archive_is_packed_and_starts(finished: Path, tmp_path: Path) -> None:
    folder = unpacked(finished / "store" / "fruit-1.0.mar", tmp_path / "unpacked")
    spec = read_spec(folder / "recipe.json")
    assert spec.labels == ("苹果", "香蕉", "樱桃")
    assert len(goldens.read(folder)) == spec.goldens.count
    run = engine.load(folder / "model.onnx", spec)
    assert goldens.check(folder, spec, engine.from_bytes(run, spec)) < spec.goldens.tolerance


def test_the_project_was_not_touched() -> None:
    assert not (ROOT / "config" / "recipes" / "fruit.yaml").exists()
    for package in ("config", "handler", "dataset", "training", "deploy"):
        for path in (ROOT / package).rglob("*.py"):
            assert "fruit" not in path.read_text(encoding="utf-8"), path
