"""Every example of the --help of dataset and training runs, in an order in which a person could run them."""

import os
import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from deploy.settings import ROOT
from tests.helpers import pictures
from tests.helpers.commands import examples, newest
from tests.helpers.running.forked import run_forked
from tests.helpers.small import write_mnist

ORDER = {
    "dataset": ["fetch", "sample", "convert", "audit", "groups", "stats", "label", "split", "balance"],
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
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all examples run, one after the other; photos to convert lie there as if they had been downloaded."""
    folder = tmp_path_factory.mktemp("examples")
    write_mnist(folder / "var" / "downloads" / "MNIST" / "raw", 20)
    pictures.oxford(folder / "runs" / "oxford")
    return folder


@pytest.mark.parametrize("package", ORDER)
def test_every_command_is_in_the_order(package: str) -> None:
    assert set(examples(package)) == set(ORDER[package])


@pytest.mark.parametrize(("package", "name"), [(package, name) for package in ORDER for name in ORDER[package]])
def test_the_example_runs(package: str, name: str, folder: Path) -> None:
    text = examples(package)[name]
    for step in re.findall(r"ID-(\w+)", text):
        text = text.replace(f"ID-{step}", newest(folder / "runs" / "shapes", step).name)
    words = shlex.split(text)
    assert words[:4] == ["python", "-m", package, name]
    done = run_forked(words[2:], folder, {**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    assert done.stdout.strip(), text
    if name == "sample":
        for photo in (folder / "runs" / "drawn").rglob("*.*g"):
            shrink(photo)


def shrink(photo: Path) -> None:
    """A third of the size: the examples after this one decode each photo many times."""
    with Image.open(photo) as image:
        image.reduce(3).save(photo)
