"""Every example of every --help runs, in an order in which a person could run them."""

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.settings import ROOT, separate_environment
from tests.helpers import pictures
from tests.helpers.commands import command, newest
from tests.helpers.forked import run_forked
from tests.helpers.small import write_mnist


def examples(package: str) -> dict[str, str]:
    """The example of each command's --help, in the order in which the package lists its commands."""
    group, texts = importlib.import_module(f"{package}.__main__").main, {}
    for name in group.summaries:
        shown = CliRunner().invoke(group, [name, "--help"], prog_name=f"python -m {package}").output
        texts[name] = " ".join(shown.partition("Example: ")[2].split())
        assert texts[name], f"python -m {package} {name} --help has no example"
    return texts


ORDER = {
    "dataset": ["fetch", "sample", "convert", "audit", "stats", "label", "split", "balance"],
    "training": [
        "sanity",
        "summary",
        "train",
        "prune",
        "evaluate",
        "analyse",
        "predict",
        "export",
        "crossvalidate",
        "job",
        "graph",
        "onnx-predict",
        "recipes",
        "runs",
    ],
    "deploy": [
        "up",
        "archive",
        "tune",
        "rollout",
        "status",
        "models",
        "predict",
        "token",
        "rollback",
        "history",
        "retire",
        "down",
    ],
}


@pytest.mark.parametrize("packages", [("dataset", "training")])
def test_every_example_of_dataset_and_training_runs(packages: tuple[str, ...], tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    write_mnist(tmp_path / "var" / "downloads" / "MNIST" / "raw", 20)  # as if downloaded
    pictures.oxford(tmp_path / "runs" / "oxford")
    for package in packages:
        texts = examples(package)
        assert set(texts) == set(ORDER[package])
        for name in ORDER[package]:
            text = texts[name]
            for step in re.findall(r"ID-(\w+)", text):
                text = text.replace(f"ID-{step}", newest(tmp_path / "runs" / "shapes", step).name)
            words = shlex.split(text)
            assert words[:4] == ["python", "-m", package, name]
            done = run_forked(words[2:], tmp_path, env)
            assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
            assert done.stdout.strip(), text


def test_every_example_of_deploy_runs(tmp_path: Path) -> None:
    """The shipped model is started, replaced, queried, rolled back and stopped. `serve` is in test_serve.py."""
    env = {**os.environ, **separate_environment(tmp_path / "var", tmp_path / "store")}
    texts = examples("deploy")
    assert set(texts) == {*ORDER["deploy"], "serve"}
    try:
        for name in ORDER["deploy"]:
            inner = re.search(r"\$\((python .*?)\)", texts[name])
            words = shlex.split(inner[1] if inner else texts[name])
            assert words[:4] == ["python", "-m", "deploy", name]
            done = subprocess.run(
                [sys.executable, *words[1:]], cwd=ROOT, env=env, capture_output=True, text=True, timeout=300
            )
            assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
            assert done.stdout.strip(), words
    finally:
        command("deploy", "down", "--now", env=env)
    assert shutil.which("curl") is None or "curl" in texts["token"]
