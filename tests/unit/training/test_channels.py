"""Channel pruning: what is removed, that it loads again, that the budget decides, that a kill loses one step."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from common.errors import UserError
from config.recipe import Recipe, override, read_recipe
from dataset.photos import Photo
from handler import engine
from handler.spec import Runtime
from tests.helpers.commands import SHAPES
from tests.helpers.pictures import draw_small_set
from training.bundles.onnx_export import to_onnx
from training.compression import structured
from training.compression.cost import cost
from training.compression.gate import budget_used, compare
from training.compression.structured import feeding, ladder, prune_channels, remove, widths
from training.evaluation.inference import predict
from training.fitting import loop
from training.fitting.checkpoints import Recorder
from training.models import reshape
from training.models.classifier import Classifier
from training.models.registry import build
from training.records.folder import make_run
from training.records.run import Inputs, PrunedChannels, RunRecord
from training.records.weights import load_model, load_weights, save_model


@pytest.fixture
def recipe() -> Recipe:
    """Two steps of one epoch to half of the channels, with a budget that nothing exceeds."""
    changed = override(read_recipe(SHAPES), "prune", method="channel", amount=0.5, steps=2, epochs=1, most_flips=99)
    return override(changed, "gate", mean_accuracy=0, max_loss=1)


@pytest.fixture
def few(recipe: Recipe, tmp_path: Path) -> list[Photo]:
    draw_small_set(tmp_path / "few", recipe, 3, seed=1)
    return [Photo(p, recipe.labels.index(p.parent.name), p.name) for p in sorted((tmp_path / "few").rglob("*.*g"))]


def used(recipe: Recipe) -> Classifier:
    """A model with random weights whose batch norms have seen something, so that every channel matters."""
    torch.manual_seed(0)
    model = build(recipe.backbone, len(recipe.labels))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.running_mean, -0.1, 0.1)  # type: ignore[arg-type]
    return model.eval()


def photos(recipe: Recipe, count: int = 4) -> torch.Tensor:
    size = (count, 3, recipe.input.height, recipe.input.width)
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def same(first: Classifier, second: Classifier) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("smallnet", {"6"}),
        ("resnet18", {"layer4.0.conv2", "layer4.0.downsample.0", "layer4.1.conv2"}),
        ("efficientnet_lite0", {"conv_head"}),
    ],
)
def test_features_that_are_matched_keep_their_channels(recipe: Recipe, name: str, kept: set[str]) -> None:
    changed = override(recipe, "backbone", name=name, weights="none")
    model = build(changed.backbone, 3)
    assert feeding(model, changed) == kept
    full = widths(model)
    step = ladder(full, changed, kept)[-1]
    assert {name for name in full if step[name] == full[name] > 16} == {name for name in kept if full[name] > 16}
    assert widths(remove(model, step, changed)) == step


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smallnet", "resnet18", "efficientnet_lite0"])
def test_a_pruned_model_has_rounded_widths_and_loads_again(recipe: Recipe, tmp_path: Path, name: str) -> None:
    """Residuals and depthwise convolutions stay consistent; the last layer keeps its outputs; loading is exact."""
    recipe = override(recipe, "backbone", name=name)
    parent = used(recipe)
    child = remove(parent, ladder(widths(parent), recipe)[-1], recipe).eval()
    before, after = widths(parent), widths(child)
    assert all(after[layer] % 16 == 0 or after[layer] == before[layer] for layer in before)
    assert all(0 < after[layer] <= before[layer] for layer in before)
    assert 0.4 < 1 - sum(after.values()) / sum(before.values()) < 0.6
    assert cost(child, recipe)["parameters"] < 0.5 * cost(parent, recipe)["parameters"]
    assert child(photos(recipe)).shape == (4, 3)
    grouped = [m for m in child.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert bool(grouped) is (name == "efficientnet_lite0")
    assert all(m.groups == m.in_channels == m.out_channels for m in grouped)

    save_model(tmp_path, child)
    again = load_weights(tmp_path / "model.safetensors", recipe)
    with torch.no_grad():
        assert torch.equal(again(photos(recipe)), child(photos(recipe)))
        assert not torch.allclose(again(photos(recipe)), parent(photos(recipe)), atol=1e-3)
    assert widths(again) == after
    for mine, theirs in zip(again.modules(), child.modules(), strict=True):
        for key in ("in_channels", "out_channels", "groups", "num_features", "in_features", "out_features"):
            assert getattr(mine, key, None) == getattr(theirs, key, None)


def test_the_least_important_channels_go(recipe: Recipe) -> None:
    parent = used(recipe)
    first = parent.network.get_parameter("0.weight")
    with torch.no_grad():
        for name in ("6.weight", "7.weight"):
            parent.network.get_parameter(name)[7:55] *= 1e-3
        parent.network.get_parameter("11.weight")[:, 7:55] *= 1e-3
    remaining = {**widths(parent), "6": 16}
    child = remove(parent, remaining, recipe)
    kept = [*range(7), *range(55, 64)]
    assert torch.equal(child.network.get_parameter("6.weight"), parent.network.get_parameter("6.weight")[kept])
    assert torch.equal(child.network.get_parameter("0.weight"), first)


def test_steps_are_rounded_and_equal_ones_left_out(recipe: Recipe) -> None:
    full = {"a": 64, "b": 24, "c": 10}
    steps = ladder(full, override(recipe, "prune", amount=0.75, steps=3))
    assert steps == [{"a": 48, "b": 16, "c": 10}, {"a": 32, "b": 16, "c": 10}, {"a": 16, "b": 16, "c": 10}]
    assert len(ladder({"a": 32}, override(recipe, "prune", amount=0.5, steps=10))) == 1
    with pytest.raises(UserError, match="raise --amount"):
        ladder({"c": 10}, recipe)


def test_weights_of_another_task_are_refused(recipe: Recipe, tmp_path: Path) -> None:
    save_model(tmp_path, build(recipe.backbone, 5))
    with pytest.raises(UserError, match="has 5 outputs, but its recipe has 3 labels"):
        load_weights(tmp_path / "model.safetensors", recipe)
    save_model(tmp_path, used(override(recipe, "backbone", name="resnet18")))
    with pytest.raises(UserError, match="is not a run with a model"):
        load_weights(tmp_path / "model.safetensors", recipe)


def test_a_grouped_convolution_that_is_not_depthwise_keeps_its_groups() -> None:
    layer = nn.Conv2d(8, 12, 3, groups=4)
    model = nn.Sequential(layer)
    reshape.reshape(model, {"0.weight": [8, 1, 3, 3], "0.bias": [8]})
    assert (layer.groups, layer.in_channels, layer.out_channels) == (4, 4, 8)
    assert model(torch.zeros(1, 4, 3, 3)).shape == (1, 8, 1, 1)


def bound_at(limits: list[float]) -> Callable[..., float]:
    """A stand-in for `budget_used`: the unpruned model, then each step."""
    left = iter(limits)
    return lambda *_: next(left)


@pytest.mark.slow
@pytest.mark.parametrize(("shares", "chosen"), [([0.5, 2.0], 1), ([2.0, 1.0], 2), ([0.0, 0.1], 2), ([1.1, 9.0], 0)])
def test_the_largest_step_within_the_budget_is_chosen(
    recipe: Recipe, few: list[Photo], monkeypatch: pytest.MonkeyPatch, shares: list[float], chosen: int
) -> None:
    monkeypatch.setattr(structured, "budget_used", bound_at([*shares, 0.0]))
    recipe = override(recipe, "prune", epochs=0)
    parent = used(recipe)
    model, result = prune_channels(parent, recipe, few, few)
    expected = [widths(parent), *ladder(widths(parent), recipe)][chosen]
    assert (result.chosen_step, widths(model)) == (chosen, expected)
    assert [row.within_bound for row in result.steps] == [share <= 1 for share in shares]
    assert result.after.parameters == sum(p.numel() for p in model.parameters())
    assert set(result.before.as_json()) == set(result.after.as_json())


def test_an_impossible_budget_keeps_the_unpruned_model(recipe: Recipe, few: list[Photo]) -> None:
    parent = used(recipe)
    with torch.no_grad():  # no answer is clear, so a smaller network changes some of them
        parent.network.get_parameter("11.bias").sub_(predict(parent, few, recipe).mean(0))
    right = predict(parent, few, recipe).argmax(1)
    relabelled = [Photo(photo.path, int(label), photo.source) for photo, label in zip(few, right, strict=True)]
    strict = override(override(recipe, "gate", max_loss=0), "prune", most_flips=0, epochs=0)
    model, result = prune_channels(parent, strict, relabelled, relabelled)
    assert result.chosen_step == 0, "a network that was never trained again answered all as before"
    assert "the unpruned model is kept" in result.summary
    assert same(parent, model)
    assert result.gate is not None and result.gate.lost == 0


def test_the_budget_is_lost_points_and_net_flips(recipe: Recipe) -> None:
    held_out = [Photo(Path(str(index)), 0, str(index)) for index in range(10)]
    right, wrong = torch.tensor([[4.0, 0, 0]]), torch.tensor([[0, 4.0, 0]])
    before = torch.cat([right] * 8 + [wrong] * 2)
    after = torch.cat([wrong] * 3 + [right] * 6 + [wrong])
    paired = compare(before, after, held_out)
    assert (paired.regressions, paired.fixes, paired.net_flips, paired.photos) == (3, 1, 2, 10)
    p = float(right.softmax(1)[0, 0] - wrong.softmax(1)[0, 0])
    assert paired.mean_change == pytest.approx(4 * p / 10, abs=1e-5)
    for most_flips, max_loss, within in ((2, 0.2, True), (1, 1.0, False), (2, 0.1, False), (9, 0.0, False)):
        changed = override(override(recipe, "gate", max_loss=max_loss), "prune", most_flips=most_flips)
        assert (budget_used(before, after, held_out, changed) <= 1) is within
    strictest = override(override(recipe, "gate", max_loss=0), "prune", most_flips=0)
    assert budget_used(after, after, held_out, strictest) == 0


class Stop(BaseException):
    """An interruption that no code handles, like kill -9."""


@pytest.mark.slow
@pytest.mark.parametrize("place", ["in a step", "between steps"])
def test_an_interrupted_run_resumes_at_the_step(
    recipe: Recipe, few: list[Photo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    recipe = override(recipe, "prune", epochs=2)
    parent = used(recipe)
    expected = prune_channels(copy.deepcopy(parent), recipe, few, few)[0]
    channels: list[int] = []
    real, whole = loop.optimise, Recorder.epoch
    left = iter(range(99))

    def optimise(model: Any, *rest: Any) -> Any:
        channels.append(widths(model)["6"])
        if place == "between steps" and next(left) == 1:
            raise Stop
        return real(model, *rest)

    def epoch(recorder: Recorder, entry: dict[str, Any]) -> None:
        whole(recorder, entry)
        if place == "in a step" and next(left) == 2:
            raise Stop

    monkeypatch.setattr(structured, "optimise", optimise)
    monkeypatch.setattr(Recorder, "epoch", epoch)

    def work(folder: Path) -> PrunedChannels:
        model, result = prune_channels(parent, recipe, few, few, Recorder(folder))
        save_model(folder, model)
        return result

    def run() -> tuple[Path, RunRecord]:
        return make_run("prune", recipe, tmp_path, Inputs(), work)

    with pytest.raises(Stop):
        run()
    folder, record = run()
    assert channels == [48, 32, 32], "the first step ran once"
    _, model, read = load_model(folder)
    assert same(expected, model)
    assert read.as_json() == record.as_json()
    assert [entry["epoch"] for entry in record.epochs] == [1, 2, 3, 4]
    left_over = {"checkpoint.pt", "progress.json", "key", "step.safetensors"}
    assert not left_over & {path.name for path in folder.rglob("*")}
    assert {"milliseconds_torch", "milliseconds_onnxruntime"} <= set(record.as_json()["steps"][0])


@pytest.mark.slow
@pytest.mark.parametrize("pool", [1, 2, 3])
def test_pooled_pixels_are_means_and_both_engines_agree(recipe: Recipe, tmp_path: Path, pool: int) -> None:
    """64 x 96 is no multiple of 3: the rows beyond are dropped. The input of the graph stays 64 x 96."""
    recipe = override(recipe, "backbone", pool=pool)
    model = used(recipe)
    pooled = model.pixels(photos(recipe))
    assert pooled.shape == (4, 3, 64 // pool, 96 // pool)
    scaled = model.scale(photos(recipe))
    assert torch.allclose(pooled[..., 0, 1], scaled[..., :pool, pool : 2 * pool].mean((-1, -2)), atol=1e-5)
    graph = to_onnx(model, recipe)
    assert not {"Gather", "Range"} & {node.op_type for node in graph.graph.node}
    (tmp_path / "model.onnx").write_bytes(graph.SerializeToString())
    with torch.no_grad():
        expected = model(photos(recipe)).softmax(1).numpy()
    for name in ("onnxruntime", "openvino"):
        changed = recipe.model_copy(update={"runtime": Runtime(engine=name)})
        run = engine.load(tmp_path / "model.onnx", changed)
        actual = np.stack([run(photo.numpy()) for photo in photos(recipe)])
        assert np.abs(actual - expected).max() < 1e-5


def test_pooling_is_a_quarter_of_the_work(recipe: Recipe) -> None:
    whole, half = (cost(used(override(recipe, "backbone", pool=pool)), recipe) for pool in (1, 2))
    assert half["parameters"] == whole["parameters"]
    assert half["gigamacs"] == pytest.approx(whole["gigamacs"] / 4, abs=0.001)
