"""The cloud's package takes scaling and labels from the model and the recipe, not from the registry."""

import json
from pathlib import Path

import pytest
import torch

from config.recipe import Recipe, override, read_recipe
from training.cloud.package import build_package
from training.job import _is_needed
from training.models.registry import build

METRICS = {"f1": 0.5, "recall": 0.5, "precision": 0.5, "accuracy": 0.5}
OWN_SCALING = {"mean": (123.68, 116.779, 103.939), "std": (1.0, 1.0, 1.0)}


def recipe_of(backbone: str, **settings: object) -> Recipe:
    recipe = override(read_recipe("shapes"), "input", height=64, width=64)
    return override(recipe, "backbone", name=backbone, weights="none", **settings)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "file"),
    [
        (recipe_of("resnet18"), "weights.pth"),
        (recipe_of("resnet18", **OWN_SCALING), "weights.pth"),
        (recipe_of("resnet18", dropout=0.5, pool=2), "weights.pth"),
        (recipe_of("smallnet", **OWN_SCALING), "network.pt2"),
        (override(read_recipe("mnist"), "backbone", mean=(33.0,), std=(78.0,)), "network.pt2"),
    ],
    ids=["its scaling", "the recipe's scaling", "pooled", "a program", "one channel"],
)
def test_a_package_is_built_with_the_models_scaling(recipe: Recipe, file: str, tmp_path: Path) -> None:
    """`build_package` itself compares the package's logits with the model's."""
    torch.manual_seed(0)
    model = build(recipe.backbone, len(recipe.labels), recipe.input).eval()
    build_package(tmp_path, recipe, model, METRICS)
    assert (tmp_path / file).is_file()
    if file == "weights.pth":
        network = json.loads((tmp_path / "network.json").read_text())
        mean = model.scale.mean.flatten() / 255
        assert network["mean"] == pytest.approx(mean.tolist(), abs=1e-6)


def test_a_job_fetches_folders_that_the_recipe_reads_under_another_name() -> None:
    recipe = read_recipe("cifar10")
    assert recipe.aliases["airplane"] == "plane"
    for path in ("airplane/1.png", "plane/1.png", "train/airplane/1.png", "cifar_net-pre.pth"):
        assert _is_needed(path, recipe), path
    assert not _is_needed("notes/1.png", recipe)
