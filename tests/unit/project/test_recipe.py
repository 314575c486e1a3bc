"""The message about a wrong recipe names its file, key, value and the legal values."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from common.errors import UserError
from config.recipe import names, read_recipe
from tests.helpers.commands import SHAPES
from training.models.registry import BACKBONES


def write(tmp_path: Path, **changes: Any) -> Path:
    content = yaml.safe_load(SHAPES.read_text())
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            content.setdefault(section, {})[name] = value
        else:
            content[section] = value
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def refusal(path: Path | str) -> str:
    with pytest.raises(UserError) as caught:
        read_recipe(path)
    return caught.value.message


def test_the_classroom_contract() -> None:
    recipe = read_recipe("classroom")
    assert recipe.labels == ("offline", "online")
    assert (recipe.input.height, recipe.input.width, recipe.input.resize) == (700, 500, "stretch")
    assert recipe.prune.amount == 0.45
    assert (recipe.gate.mean_accuracy, recipe.gate.max_loss) == (0.95, 0.01)


@pytest.mark.parametrize("name", names())
def test_every_recipe_of_the_project_is_valid(name: str) -> None:
    assert read_recipe(name).name == name


def test_defaults_are_the_documents(tmp_path: Path) -> None:
    path = write(tmp_path)
    content = yaml.safe_load(path.read_text())
    for section in ("train", "prune", "gate", "augment", "backbone"):
        del content[section]
    path.write_text(yaml.safe_dump(content))
    recipe = read_recipe(path)
    train = recipe.train
    assert (train.epochs, train.batch_size, train.optimizer, train.learning_rate, train.momentum) == (
        5,
        8,
        "sgd",
        0.001,
        0.9,
    )
    assert (train.schedule, train.step_size, train.gamma, train.keep) == ("step", 7, 0.1, "best")
    assert (recipe.backbone.name, recipe.augment.scale, recipe.prune.amount) == ("resnet18", (0.08, 1.0), 0.45)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"input__height": 0}, ["input.height", "0 given", "greater than or equal to 8"]),
        ({"input__resize": "squash"}, ["input.resize", "'squash'", "'stretch', 'crop' or 'pad'"]),
        ({"labels": ["one"]}, ["labels", "at least 2"]),
        ({"labels": ["a", "a"], "drawn": {}}, ["labels: the label a is listed twice: list every label once"]),
        ({"backbone__name": "resnet19"}, ["backbone.name", "'resnet18'", "'efficientnet_lite0'"]),
        ({"train__epoch": 3}, ["train.epoch", "unknown key", "did you mean epochs?", "batch_size"]),
        ({"pruning": {}}, ["pruning: unknown key", "did you mean prune?"]),
        ({"drawn": {"circle": "discs"}}, ["'circle'", "legal are ['disc', 'stripe', 'cross']"]),
        ({"name": "Not A Name"}, ["name", "'Not A Name'"]),
        ({"augment__jpeg": [95, 30]}, ["augment.jpeg", "lower end of the range first"]),
        ({"runtime": {"engine": "onnxruntime", "precision": "bf16"}}, ["runtime: onnxruntime has no bf16"]),
        ({"goldens__count": 1}, ["goldens.count", "greater than or equal to 8"]),
        ({"runtime__precision": "f8"}, ["runtime.precision", "'f32', 'bf16' or 'f16'"]),
        ({"runtime__precision": "f16"}, ["runtime", "f16 needs a GPU"]),
        ({"runtime": {"engine": "openvino", "device": "cuda"}}, ["runtime", "openvino runs only on CPUs here"]),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, changes: dict[str, Any], words: list[str]) -> None:
    path = write(tmp_path, **changes)
    message = refusal(path)
    assert message.startswith(str(path))
    for word in words:
        assert word in message


def test_invalid_yaml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: [1")
    assert refusal(path).startswith(str(path))
    assert "No such file" in refusal(tmp_path / "absent.yaml")


def test_an_unknown_name_is_met_with_the_nearest() -> None:
    assert "did you mean classroom?" in refusal("clasroom")


def test_every_backbone_of_the_schema_can_be_built() -> None:
    from typing import get_args

    from config.recipe import BackboneName

    assert set(get_args(BackboneName)) == set(BACKBONES)
