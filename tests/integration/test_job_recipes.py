"""A cloud job, without training, over recipes that differ in scaling, folder names, channels and input size."""

import json
from pathlib import Path

import pytest
import yaml

from config.recipe import read_recipe
from tests.helpers import siblings
from tests.helpers.small import label_folders, narrow_networks, small_recipe
from training.__main__ import main


def prepare(name: str, folder: Path) -> tuple[Path, Path]:
    """A small recipe and its photos."""
    if name in ("cifar10", "mnist"):
        return small_recipe(name, folder), siblings.draw_bars(folder / "photos", name, 2)
    recipe = small_recipe(name, folder)
    if name == "pets":
        content = yaml.safe_load(siblings.pets_recipe(folder).read_text())
        content["train"] |= {"max_steps": None, "validation": 0.5}
        recipe = siblings.write_recipe(folder, name, content)
    return recipe, label_folders(folder / "photos", read_recipe(recipe).labels, 2)


@pytest.mark.parametrize("name", ["pets", "cifar10", "mnist", "scenes11"])
@narrow_networks()
def test_a_job_packages_the_model_of_every_recipe(name: str, tmp_path: Path) -> None:
    recipe, photos = prepare(name, tmp_path)
    urls = ["--data_url", photos, "--train_url", tmp_path / "train", "--eval_url", tmp_path / "eval"]
    siblings.run(main, "job", *urls, "--recipe", recipe, "--runs", tmp_path / "runs", "--epochs", 0)
    written = json.loads((tmp_path / "eval" / "analysis-val" / "model_analysis_results.json").read_text())
    assert written["labels"] == list(read_recipe(recipe).labels)
    spec = json.loads((tmp_path / "train" / "model" / "recipe.json").read_text())
    assert spec["labels"] == written["labels"]
    assert (tmp_path / "train" / "model" / "network.json").is_file()
