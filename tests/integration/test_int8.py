"""What int8 may cost: the budget decides which graph is chosen, and both engines run the same file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from config.recipe import Recipe, override, read_recipe
from dataset.photos import Photo
from handler import engine
from handler.image import preprocess
from handler.spec import Runtime
from tests.helpers.commands import SHAPES
from tests.helpers.pictures import draw_small_set
from training.bundles.onnx_export import store_as_fp16, to_onnx
from training.bundles.scope_output import with_scope
from training.compression import export
from training.compression.export import FP16, INT8, MIXED, export_model
from training.compression.quantise import quantise, quantise_within
from training.fitting.loop import optimise
from training.models.classifier import Classifier
from training.models.scope import LEVELS, Scope


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return override(override(read_recipe(SHAPES), "gate", mean_accuracy=0, max_loss=1), "prune", most_flips=99)


@pytest.fixture(scope="module")
def few(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> list[Photo]:
    folder = tmp_path_factory.mktemp("few")
    draw_small_set(folder, recipe, 6, seed=1)
    return [Photo(p, recipe.labels.index(p.parent.name), p.name) for p in sorted(folder.rglob("*.*g"))]


@pytest.fixture(scope="module")
def model(recipe: Recipe, few: list[Photo]) -> Classifier:
    from training.models.registry import build

    torch.manual_seed(0)
    trained = build(recipe.backbone, 3)
    optimise(trained, few, few, recipe, recipe.train.model_copy(update={"epochs": 3}))
    return trained


def quantised_layers(graph: Any) -> int:
    return sum(node.op_type == "QuantizeLinear" for node in graph.graph.node)


def test_openvino_computes_every_convolution_in_int8(recipe: Recipe, few: list[Photo]) -> None:
    """Linear bottlenecks too, whose activations are signed: with an offset they would stay in float.

    The scope reads the output of three layers in the middle, in float, and changes nothing of that.
    """
    from openvino import Core

    from training.models.registry import build

    changed = override(recipe, "backbone", name="efficientnet_lite0", weights="none")
    model = build(changed.backbone, 3)
    model.scope = Scope(1280 + 2 * (80 + 112 + 192) + LEVELS, 2)
    graph = with_scope(quantise(to_onnx(model, changed), changed, few), model.scope, model.pool)
    compiled = Core().compile_model(Core().read_model(graph.SerializeToString()), "CPU")
    kinds = {
        node.get_friendly_name(): node.get_rt_info()["primitiveType"].astype(str)
        for node in compiled.get_runtime_model().get_ordered_ops()
        if "Convolution" in node.get_rt_info()["layerType"].astype(str)
    }
    assert len(kinds) == 49
    assert {f"scope/maps{number}/unit" for number in range(3)} <= {
        name for node in graph.graph.node for name in node.output
    }
    assert [name for name, kind in kinds.items() if not kind.lower().endswith("i8")] == []


@pytest.mark.parametrize("name", [FP16, INT8])
def test_both_engines_run_the_same_file_alike(
    recipe: Recipe, few: list[Photo], model: Classifier, tmp_path: Path, name: str
) -> None:
    """Log-probabilities within 0.05 in int8, where engines may round otherwise; p within 1e-5 in float."""
    plain = to_onnx(model, recipe)
    graph = store_as_fp16(plain) if name == FP16 else quantise(plain, recipe, few)
    (tmp_path / "model.onnx").write_bytes(graph.SerializeToString())
    answers = []
    for runtime in (Runtime(engine="onnxruntime", threads=1), Runtime(engine="openvino", threads=1)):
        run = engine.load(tmp_path / "model.onnx", recipe.model_copy(update={"runtime": runtime}))
        answers.append(np.stack([run(preprocess(p.path.read_bytes(), recipe.input, recipe.limits)) for p in few]))
    assert answers[0].std(0).max() > 0.01, "every photo is answered alike"
    if name == FP16:
        assert np.abs(answers[0] - answers[1]).max() < 1e-5
    else:
        logs = np.log(np.clip(answers, 1e-6, 1))
        assert np.abs(logs[0] - logs[1]).max() < 0.05


@pytest.mark.parametrize(("int8", "mixed", "chosen"), [(0.9, None, INT8), (1.5, 0.9, MIXED), (1.5, 1.5, FP16)])
def test_the_fastest_graph_within_the_budget_is_chosen(
    recipe: Recipe,
    few: list[Photo],
    model: Classifier,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    int8: float,
    mixed: float | None,
    chosen: str,
) -> None:
    """The used budget and NNCF's graphs are replaced by stand-ins; everything else is real."""
    used = {INT8: int8, MIXED: mixed, FP16: 0.0}
    names: list[str] = []
    real = export._candidate

    def candidate(name: str, *rest: Any) -> Any:
        names.append(name)
        return real(name, *rest)

    monkeypatch.setattr(export, "_candidate", candidate)
    monkeypatch.setattr(export, "quantise", lambda graph, *_: graph)
    monkeypatch.setattr(export, "quantise_within", lambda graph, *_: graph)
    monkeypatch.setattr(export, "budget_used", lambda before, after, *_: 0.0 if before is after else used[names[-1]])
    exported = export_model(model, recipe, few, few, tmp_path, 1.0)
    assert exported.precision == chosen
    assert set(exported.variants) == {FP16, INT8} | ({MIXED} if mixed else set())
    assert {"lost", "won", "net_flips", "mean_change"} <= set(exported.as_json()["variants"][chosen])
    assert exported.shapes == {}


def test_layers_are_put_back_to_float_until_the_budget_holds(
    recipe: Recipe, few: list[Photo], model: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The budget is a mean |dp| that int8 in all layers exceeds; with fewer quantised layers it holds."""
    from training.compression import quantise as module
    from training.compression.gate import compare

    plain = to_onnx(model, recipe)
    expected = export._candidate(FP16, plain, recipe, few).logits
    whole = quantise(plain, recipe, few)
    moved = compare(expected, export._candidate(INT8, whole, recipe, few).logits, few).mean_change
    assert moved > 0

    def budget_used(before: torch.Tensor, after: torch.Tensor, photos: list[Photo], _: Recipe) -> float:
        return compare(before, after, photos).mean_change / (0.8 * moved)

    monkeypatch.setattr(module, "budget_used", budget_used)
    mixed = quantise_within(plain, recipe, few, few, expected)
    assert 0 < quantised_layers(mixed) < quantised_layers(whole)
    logits = export._candidate(MIXED, mixed, recipe, few).logits
    assert compare(expected, logits, few).mean_change <= 0.8 * moved * (1 + 1e-2)
