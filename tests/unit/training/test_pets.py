"""The recipe pets: VGG-16, its scaling, its crops and the settings of its document."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn
from torchvision import models

from common.errors import UserError
from config.recipe import Augment, Backbone, from_saved, override, read_recipe, validated
from handler.spec import Input
from tests.helpers import pictures
from training.__main__ import main
from training.data.augment import Augmenter
from training.models.registry import BACKBONES, Architecture, NoWeights, build
from training.records.run import read_recipe_of


def test_the_settings_are_those_of_the_document() -> None:
    recipe = read_recipe("pets")
    train = recipe.train
    assert len(recipe.labels) == 37
    assert (train.max_steps, train.batch_size, train.optimizer, train.learning_rate) == (3000, 64, "adam", 0.001)
    assert (train.schedule, train.decay, train.every, train.freeze) == ("decay", 0.9, 250, True)
    assert (train.report_every, train.evaluate_every, train.save_every) == (10, 20, 200)
    assert (train.evaluate_batches, train.keep_checkpoints, train.rounds) == (5, 3, 15)
    assert (recipe.augment.sides, recipe.augment.contrast, recipe.augment.flip) == ((256, 312), (0.2, 2.0), 0.5)
    assert (recipe.backbone.mean, recipe.backbone.std) == ((123.68, 116.779, 103.939), (1, 1, 1))
    assert (recipe.backbone.dropout, recipe.answer.format, recipe.answer.top) == (0.5, "top", 3)


def test_vgg16_takes_torchvisions_weights_and_only_the_recipe_adds_dropout() -> None:
    with torch.device("meta"):
        network = build(Backbone(name="vgg16", weights="none"), 1000).network
        original = models.vgg16()
    shapes = {name: tensor.shape for name, tensor in original.state_dict().items()}
    assert {name: tensor.shape for name, tensor in network.state_dict().items()} == shapes
    assert [module.p for module in network.modules() if isinstance(module, nn.Dropout)] == [0.0, 0.0]


def test_a_width_is_an_unknown_key_but_runs_of_former_versions_are_read(tmp_path: Path) -> None:
    recipe = read_recipe("pets")
    content = recipe.model_dump(mode="json")
    content["backbone"]["width"] = 1.0
    with pytest.raises(UserError, match=r"backbone\.width: unknown key; legal are dropout, mean, name"):
        validated(content, "mine.yaml")
    assert from_saved(json.dumps(content)) == recipe
    (tmp_path / "recipe.json").write_text(json.dumps(content))
    assert read_recipe_of(tmp_path) == recipe
    content["backbone"]["width"] = 0.5
    with pytest.raises(ValueError, match="width"):
        from_saved(json.dumps(content))


def test_the_recipes_scaling_is_in_the_model() -> None:
    model = build(Backbone(name="smallnet", weights="none", mean=(10.0, 20.0, 30.0), std=(1.0, 1.0, 2.0)), 3)
    scaled = model.scale(torch.full((1, 3, 1, 1), 50, dtype=torch.uint8)).flatten()
    assert scaled.tolist() == pytest.approx([40, 30, 10], abs=1e-4)
    with pytest.raises(UserError, match="3 values each"):
        build(Backbone(name="smallnet", weights="none", mean=(1.0,)), 3)


def test_imagenet_weights_give_the_same_logits_under_the_recipes_scaling(monkeypatch: pytest.MonkeyPatch) -> None:
    def construct(classes: Any, pretrained: bool, size: Any) -> nn.Module:
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes)]
        return nn.Sequential(*layers)

    monkeypatch.setitem(BACKBONES, "vgg16", Architecture(construct, "4"))
    photo = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    unscaled = build(Backbone(name="vgg16"), 3)(photo)
    moved = build(Backbone(name="vgg16", mean=(123.0, 110.0, 100.0), std=(1.0, 1.0, 1.0)), 3)(photo)
    assert torch.allclose(unscaled, moved, atol=1e-4)
    random = build(Backbone(name="vgg16", weights="none", mean=(123.0, 110.0, 100.0), std=(1.0, 1.0, 1.0)), 3)(photo)
    assert not torch.allclose(unscaled, random, atol=1e-2)


def test_a_crop_of_sides_shows_a_share_of_the_shorter_side() -> None:
    cropper = Augmenter(Augment(sides=(256, 312)), Input(height=224, width=224, resize="crop"))
    photo = Image.new("RGB", (1000, 600))
    boxes = [cropper.crop(photo) for _ in range(300)]
    sizes = {(right - left, bottom - top) for left, top, right, bottom in boxes}
    assert all(width == height for width, height in sizes)
    sides = [224 * 600 / width for width, _ in sizes]
    assert 255 < min(sides) < 262
    assert 306 < max(sides) < 313
    assert all(left >= 0 and top >= 0 and right <= 1000 and bottom <= 600 for left, top, right, bottom in boxes)
    assert min(left for left, *_ in boxes) < 60
    assert max(right for *_, right, _ in boxes) > 940


def test_small_photos_are_cropped_too() -> None:
    cropper = Augmenter(Augment(sides=(256, 312)), Input(height=224, width=224, resize="crop"))
    assert cropper(Image.new("RGB", (3, 40))).shape == (3, 224, 224)


def test_a_crop_must_fit_into_the_sides() -> None:
    with pytest.raises(UserError, match="below the crop of 224"):
        override(read_recipe("pets"), "augment", sides=(200, 312))


def test_contrast_may_be_a_range() -> None:
    low = Augmenter(Augment(sides=(64, 64), contrast=(0.2, 0.2)), Input(height=64, width=64))
    photo = pictures.photo()
    torch.manual_seed(0)
    flat = low(photo).astype(float)
    torch.manual_seed(0)
    plain = Augmenter(Augment(sides=(64, 64)), Input(height=64, width=64))(photo).astype(float)
    assert flat.std() < 0.5 * plain.std()


def test_the_error_of_missing_weights_says_where_to_put_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def unreachable(*_: Any, **__: Any) -> Any:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", unreachable)
    with pytest.raises(NoWeights, match=r"vgg16.*put vgg16-\w+\.pth into .*checkpoints"), torch.device("meta"):
        build(Backbone(name="vgg16"), 37)


def test_the_sanity_check_names_imagenet_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(pictures.encode(pictures.photo(), "JPEG"))
    tables: list[Any] = []
    monkeypatch.setattr("training.sanity.console.print", tables.append)
    words = ["sanity", "--backbone", "efficientnet_lite0", "--top", "5", str(path)]
    assert CliRunner().invoke(main, words, catch_exceptions=False).exit_code == 0
    names = list(tables[0].columns[0].cells)
    assert len(names) == 5
    assert set(names) <= set(models.ResNet18_Weights.IMAGENET1K_V1.meta["categories"])
    assert CliRunner().invoke(main, ["sanity", str(path)]).exit_code == 1
