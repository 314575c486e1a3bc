"""`train --sweep` of all backbones: every one is trained, or is in the table as skipped with its reason."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from config.recipe import INPUTS, names, read_recipe
from tests.helpers.commands import SHAPES, newest
from tests.helpers.pictures import draw_small_set
from training.__main__ import main
from training.experiments import sweep
from training.experiments.sweep import make_plan
from training.models import registry
from training.models.registry import BACKBONES, NoWeights
from training.records.run import read_record


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """ImageNet weights are neither on this machine nor can they be downloaded."""

    def unavailable(*_: Any) -> Any:
        raise NoWeights("not here")

    monkeypatch.setattr(registry, "_download", unavailable)
    monkeypatch.setattr(registry, "_lite0_weights", unavailable)


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("name", names())
def test_every_backbone_is_trained_or_skipped_with_a_reason(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKBONES, "resnet152", BACKBONES["resnet18"])  # the large ones build alike, but take seconds
    monkeypatch.setitem(BACKBONES, "resnet101", BACKBONES["resnet18"])
    recipe = read_recipe(name)
    plan = make_plan("all", recipe)
    trained = dict(plan.backbones)
    assert set(trained) | set(plan.skipped) == set(BACKBONES)
    assert not set(trained) & set(plan.skipped)
    assert set(trained.values()) == {"none"}
    assert all(plan.skipped.values())
    size = (recipe.input.channels, recipe.input.height, recipe.input.width)
    for backbone, takes in INPUTS.items():
        assert (backbone in trained) == (size == takes) or backbone in plan.skipped
    assert ("scenes_net" in trained) == (recipe.input.channels == 3 and min(size[1:]) >= 16)


@pytest.mark.slow
def test_a_sweep_of_all_backbones_shows_the_skipped_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """scenes_net, which has no ImageNet weights, once stopped the whole sweep."""
    few = {name: BACKBONES[name] for name in ("smallnet", "scenes_net", "mnist_net")}
    monkeypatch.setattr(sweep, "BACKBONES", few)
    draw_small_set(tmp_path / "drawn", read_recipe(SHAPES), 4, seed=1)
    words = ["train", SHAPES, "--data", tmp_path / "drawn", "--runs", tmp_path, "--epochs", 1, "--sweep"]
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    folder = newest(tmp_path / "shapes", "sweep")
    content = read_record(folder).as_json()
    assert [(row["backbone"], row["mode"]) for row in content["rows"]] == [
        ("smallnet", "full"), ("smallnet", "frozen"), ("scenes_net", "full"), ("scenes_net", "frozen")
    ]  # fmt: skip
    reason = content["skipped"]["mnist_net"]
    assert reason.endswith("mnist_net requires an input of 1 x 28 x 28: change input, or use another backbone")
    assert f"| mnist_net |  | skipped: {reason} |" in (folder / "table.md").read_text()
    assert "skipped" in done.stdout and "mnist_net" in done.stdout


def test_a_named_backbone_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    draw_small_set(tmp_path / "drawn", read_recipe(SHAPES), 2, seed=1)
    words = [
        "train",
        SHAPES,
        "--data",
        tmp_path / "drawn",
        "--runs",
        tmp_path / "runs",
        "--sweep",
        "smallnet,mnist_net",
    ]
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == 1
    assert "mnist_net requires an input of 1 x 28 x 28" in done.stderr
    assert not (tmp_path / "runs").exists()
