"""One model trained by two processes of torchrun: the weights of one process, one writer, and resuming."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from config.recipe import read_recipe
from deploy.settings import ROOT
from tests.helpers.commands import SHAPES, command, newest
from tests.helpers.pictures import draw_small_set
from tests.helpers.running.forked import run_forked
from tests.helpers.s3 import free_port
from training.fitting import parallel

EPOCHS = 3
DYING = "tests.helpers.running.dying"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without chance: no augmentation, and batch norms that do not depend on how a batch is divided."""
    content = yaml.safe_load(SHAPES.read_text())
    content["augment"] = {"scale": [1.0, 1.0], "ratio": [1.5, 1.5], "flip": 0}
    content["train"] |= {
        "epochs": EPOCHS,
        "norms": "frozen",
        "precision": "f32",
        "batch_size": 8,
        "class_weights": True,
    }
    path = tmp_path_factory.mktemp("recipe") / "plain.yaml"
    path.write_text(yaml.safe_dump(content | {"name": "plain"}))
    return path


@pytest.fixture(scope="module")
def photos(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """18 photos are trained on: the last batch of an epoch has two."""
    folder = tmp_path_factory.mktemp("photos")
    draw_small_set(folder, read_recipe(str(recipe)), 8, seed=3)
    return folder


@pytest.fixture(scope="module")
def alone(recipe: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("alone")
    command("training", "train", recipe, "--data", photos, "--runs", root)
    return newest(root / "plain", "train")


def words(recipe: Path, photos: Path, root: Path) -> list[str]:
    return ["training", "train", str(recipe), "--data", str(photos), "--runs", str(root)]


def two(arguments: list[str], first: str = "training") -> list[subprocess.CompletedProcess[str]]:
    """What torchrun does, with forked processes, which need not import torch again.

    Args:
        first: the module that the first process runs.
    """
    done: dict[int, subprocess.CompletedProcess[str]] = {}
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}

    def run(rank: int) -> None:
        own = {**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        module = first if rank == 0 else arguments[0]
        done[rank] = run_forked([module, *arguments[1:]], ROOT, own)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [done[0], done[1]]


def difference(first: Path, second: Path) -> float:
    """The largest difference of a weight."""
    a, b = (load_file(run / "model.safetensors") for run in (first, second))
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a if a[name].is_floating_point())


def test_torchrun_gives_the_weights_of_one_process(alone: Path, recipe: Path, photos: Path, tmp_path: Path) -> None:
    run = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    done = subprocess.run(
        [*run, "-m", *words(recipe, photos, tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "plain").iterdir()
    assert difference(alone, folder) < 1e-4
    weights = load_file(alone / "model.safetensors")
    assert max(float(tensor.abs().max()) for tensor in weights.values()) > 0.1, "the weights are no trifles"
    one, two_ = (json.loads((run / "curves.json").read_text()) for run in (alone, folder))
    assert [entry["epoch"] for entry in two_] == [1, 2, 3]
    for entry, other in zip(one, two_, strict=True):
        assert entry["validation_loss"] == pytest.approx(other["validation_loss"], abs=1e-3)
        assert entry["training_accuracy"] == pytest.approx(other["training_accuracy"], abs=0.03)
    assert done.stdout.count("next:") == 1, "one process prints"
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in alone.iterdir())


def test_a_killed_training_is_resumed_to_the_same_weights(recipe: Path, photos: Path, tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert [done.returncode for done in two(words(recipe, photos, whole))] == [0, 0]
    dying = two(words(recipe, photos, stopped), DYING)
    assert dying[0].returncode == 9 and dying[1].returncode not in (0, 9)
    resumed = two(words(recipe, photos, stopped))
    assert [done.returncode for done in resumed] == [0, 0], resumed[0].stderr
    assert "resuming after epoch" in resumed[0].stderr and "resuming" not in resumed[1].stderr
    assert difference(newest(whole / "plain", "train"), newest(stopped / "plain", "train")) < 1e-6


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (["--freeze"], "a frozen network is trained by one process only"),
        (["--sweep"], "a sweep is trained by one process only"),
    ],
)
def test_what_only_one_process_can_do_is_refused(
    recipe: Path, photos: Path, tmp_path: Path, more: list[str], why: str
) -> None:
    for done in two([*words(recipe, photos, tmp_path), *more]):
        assert done.returncode == 1
    assert why in done.stderr or why in done.stdout


def test_without_torchrun_nothing_is_divided() -> None:
    assert (parallel.size(), parallel.rank(), list(parallel.own(3))) == (1, 0, [0, 1, 2])
    model, rows = torch.nn.Linear(1, 1), torch.ones(2, 2)
    assert parallel.wrapped(model) is model and parallel.gathered(rows, 2) is rows
    assert parallel.share(torch.tensor([0, -1]), None, -1) == 1
