"""Out of scope: the fit on features, the second output of a graph, and the figures by kind."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper

from common.errors import UserError
from config.recipe import NO_CLASS, read_recipe
from dataset.draw import draw
from dataset.photos import Photo
from dataset.tables import write_rows
from tests.helpers.commands import SHAPES
from training.bundles.onnx_export import to_onnx
from training.bundles.scope_output import with_scope
from training.data.cache import Pictures
from training.data.outside import LEAST, kind_of, read_outside, trained_on
from training.evaluation.inference import Answer, answer_for_scope
from training.evaluation.scope import Scoped, scored
from training.fitting.scope import KEPT, _features, _fit, _folds, _mixed, _out_of_fold, _scope, _Side, threshold_of
from training.models.registry import build
from training.models.scope import COLOUR_STEP, COLOUR_WEIGHT, LEVELS, Scope, colours_of, features_of
from training.records.weights import WEIGHTS, load_weights, save_model

CHANNELS = 16
GREY = torch.zeros(1, LEVELS)
FLOAT = onnx.TensorProto.FLOAT


def side(centres: list[int], seed: int, count: int = 60) -> _Side:
    """Features around some axes, of ten sources."""
    random = torch.Generator().manual_seed(seed)
    rows = 0.3 * torch.rand(count, CHANNELS, generator=random)
    for number in range(count):
        rows[number, centres[number % len(centres)]] += 2
    return _Side(
        features_of(rows, (), GREY.expand(count, -1))[None], [f"{seed}-{number % 10}" for number in range(count)]
    )


def fitted() -> tuple[Scope, torch.Tensor]:
    inner, outer = side([0, 1], 0), side([2, 3], 1)
    parts = _fit(inner.features[0], outer.features[0])
    seen, unseen = _out_of_fold(inner, outer)
    mix = _mixed(seen, unseen)
    return _scope(parts, mix, threshold_of(mix.probability(seen))), inner.features[0]


@pytest.mark.slow
def test_kinds_that_were_seen_and_kinds_that_were_not_are_out_of_scope() -> None:
    scope, inside = fitted()
    threshold = float(scope.threshold)
    assert float((scope(inside) >= threshold).float().mean()) >= KEPT - 0.02
    for centres in ([2, 3], [8, 9], [14]):  # the linear head has seen the first only
        assert float((scope(side(centres, 5).features[0]) >= threshold).float().mean()) <= 0.05


def test_the_threshold_is_the_quantile_and_one_photo_hardly_moves_it() -> None:
    many = torch.linspace(-3, 3, 3001).sigmoid()
    assert float(threshold_of(many)) == pytest.approx(float(many.quantile(1 - KEPT)), abs=0.002)
    few = torch.cat([torch.tensor([-3.0, -2.8, -2.6, -2.4]), torch.linspace(0, 3, 153)]).sigmoid()
    without = torch.cat([few[:1], few[2:]])
    order = [float(rows.quantile(1 - KEPT, interpolation="lower")) for rows in (few, without)]
    smooth = [float(threshold_of(rows)) for rows in (few, without)]
    assert abs(smooth[0] - smooth[1]) < 0.25 * abs(order[0] - order[1])
    assert float(few.min()) < smooth[0] < float(few.median())


def test_a_photo_that_looks_like_no_class_at_all_moves_the_threshold_no_further_than_one_that_looks_a_bit_so() -> None:
    usual = torch.linspace(0, 3, 153).sigmoid()
    little, much = (float(threshold_of(torch.cat([torch.full((2,), low), usual]))) for low in (1e-2, 1e-9))
    assert little == pytest.approx(much, abs=0.01)


def test_without_the_distance_an_unseen_kind_would_pass() -> None:
    """Shows that the test above does test the distance."""
    scope, _ = fitted()
    unseen = side([8, 9], 5).features[0]
    scope.bias += float((scope.scale * 0.5).mean())
    scope.scale.zero_()
    assert float((scope(unseen) >= scope.threshold).float().mean()) > 0.5


def tiny_graph(opset: int, quantised: bool = False) -> onnx.ModelProto:
    """Two linear layers over the pixels of photos of 6 x 6; the features are those between them."""
    random = np.random.default_rng(0)
    weights = {
        "first": random.normal(size=(108, CHANNELS)).astype(np.float32),
        "last": random.normal(size=(CHANNELS, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["input"], ["floats"], to=FLOAT),
        helper.make_node("Flatten", ["floats"], ["pixels"]),
        helper.make_node("MatMul", ["pixels", "first"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["features"]),
    ]
    entry = "features"
    if quantised:
        weights |= {"scale": np.array(0.05, np.float32), "zero": np.array(0, np.uint8)}
        nodes.append(helper.make_node("QuantizeLinear", ["features", "scale", "zero"], ["q"]))
        nodes.append(helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dq"]))
        entry = "dq"
    nodes.append(helper.make_node("MatMul", [entry, "last"], ["logits"]))
    values = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    photos = helper.make_tensor_value_info("input", onnx.TensorProto.UINT8, ["batch", 3, 6, 6])
    logits = helper.make_tensor_value_info("logits", FLOAT, ["batch", 3])
    graph = helper.make_graph(nodes, "tiny", [photos], [logits], values)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.mark.parametrize(("opset", "quantised"), [(9, False), (18, False), (18, True)])
def test_the_graph_computes_what_torch_does_and_the_logits_stay(opset: int, quantised: bool) -> None:
    scope, _ = fitted()
    scope.weight[-LEVELS:] = torch.linspace(-3, 3, LEVELS)[:, None]
    before = tiny_graph(opset, quantised)
    photos = np.random.default_rng(1).integers(0, 256, (5, 3, 6, 6), np.uint8)
    photos[0] = photos[0, :1]  # grey
    photos[1, 0, :2] = photos[1, 2, :2]
    after = with_scope(before, scope, 1)
    (expected,) = onnxruntime.InferenceSession(before.SerializeToString()).run(None, {"input": photos})
    logits, in_scope = onnxruntime.InferenceSession(after.SerializeToString()).run(None, {"input": photos})
    assert np.array_equal(logits, expected)
    first = numpy_helper.to_array(before.graph.initializer[0])
    features = torch.from_numpy(np.maximum(photos.reshape(5, -1).astype(np.float32) @ first, 0))
    colours = colours_of(torch.from_numpy(photos), COLOUR_STEP)
    assert float(colours[0].abs().max()) == 0
    assert [output.name for output in after.graph.output] == ["logits", "in_scope"]
    assert in_scope == pytest.approx(scope(features_of(features, (), colours)).numpy(), abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("opset", [17, 18])
def test_the_graph_sees_the_layer_in_the_middle_as_torch_does(opset: int) -> None:
    recipe = read_recipe(SHAPES)
    recipe = recipe.model_copy(update={"export": recipe.export.model_copy(update={"opset": opset})})
    torch.manual_seed(0)
    backbone = recipe.backbone.model_copy(update={"name": "efficientnet_lite0", "weights": "none"})
    model = build(backbone, len(recipe.labels), recipe.input).eval()
    photos = torch.randint(0, 256, (3, *recipe.input.shape), dtype=torch.uint8)
    photos[1], photos[2, :, ::2] = 40, 200
    with torch.no_grad():
        output = answer_for_scope(model, photos)
    last = model.network.get_submodule(model.head).in_features
    channels = output.features.shape[1]
    assert channels > int(last)  # type: ignore[arg-type]
    model.scope = Scope(channels, 2)
    random = torch.Generator().manual_seed(1)
    for name in ("weight", "mean", "basis"):
        getattr(model.scope, name).normal_(generator=random)
    model.scope.weight[:last] = 0  # only the middle tells
    model.scope.bias -= model.scope.logit(output.features).mean()
    graph = to_onnx(model, recipe)
    assert [output.name for output in graph.graph.output] == [recipe.export.output]
    session = onnxruntime.InferenceSession(with_scope(graph, model.scope, model.pool).SerializeToString())
    logits, in_scope = session.run(None, {recipe.export.input: photos.numpy()})
    expected = model.scope(output.features).detach().numpy()
    assert np.ptp(expected) > 1e-3
    assert in_scope == pytest.approx(expected, abs=1e-4)
    assert logits == pytest.approx(output.logits.numpy(), abs=1e-4)


def test_colours_tell_pure_ones_from_pale_ones_and_leave_grey_out() -> None:
    photos = torch.full((4, 3, 12, 12), 250, dtype=torch.uint8)
    photos[0, :, :3] = torch.tensor([230, 20, 20], dtype=torch.uint8)[:, None, None]  # a pure colour on white
    photos[1] = torch.tensor([110, 100, 96], dtype=torch.uint8)[:, None, None]
    photos[2, :, :3] = photos[1, :, :3]  # pale on white: as if the photo were nothing else
    colours = colours_of(photos, 3)
    assert colours.shape == (4, LEVELS)
    assert colours[:3].norm(dim=1).tolist() == pytest.approx([COLOUR_WEIGHT] * 3, abs=0.01)
    assert colours.argmax(1).tolist()[:3] == [7, 3, 3]
    assert torch.allclose(colours[1], colours[2], atol=0.01)
    assert float(colours[3].abs().max()) == 0


def test_each_photo_is_seen_unchanged_augmented_and_in_grey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []

    def answer(model: torch.nn.Module, pixels: torch.Tensor) -> Answer:
        seen.append(pixels)
        return Answer(torch.zeros(len(pixels), 1), torch.zeros(len(pixels), 2))

    monkeypatch.setattr("training.fitting.scope.answer_for_scope", answer)
    recipe = read_recipe(SHAPES)
    draw("discs", 0).save(tmp_path / "disc.png")
    photo = Photo(tmp_path / "disc.png", 0, "", "", {})
    assert _features(torch.nn.Identity(), [photo], recipe, Pictures(recipe)).shape == (3, 1, 2)  # type: ignore[arg-type]
    unchanged, augmented, grey = (pixels.float() for pixels in seen)
    assert not torch.equal(unchanged, augmented)
    assert not torch.equal(unchanged, unchanged[:, :1].expand_as(unchanged))
    assert torch.equal(grey, grey[:, :1].expand_as(grey))
    assert float((grey.mean(1) - unchanged.mean(1)).abs().max()) <= 0.5


def test_few_photos_get_more_folds_and_few_sources_fewer() -> None:
    def folds(photos: int, sources: int) -> int:
        names = [f"{number % sources}" for number in range(photos)]
        return len(np.unique(_folds(names, [f"no class {name}" for name in names])))

    assert (folds(100, 50), folds(100, 7), folds(2500, 50), folds(100, 2)) == (20, 7, 5, 20)


def test_figures_by_kind_have_wilson_intervals() -> None:
    inside = torch.tensor([0.9] * 9 + [0.1])
    outside = torch.tensor([0.05, 0.2, 0.95])
    scores = scored(Scoped(["a"] * 10, inside, ["logo", "logo", "flower"], outside), 0.5)
    assert scores.kept["a"].passed == 9
    assert {kind: (row.passed, row.photos) for kind, row in scores.passed.items()} == {
        "flower": (1, 1),
        "logo": (0, 2),
        "all": (1, 3),
    }
    assert scores.passed["logo"].share_95 == pytest.approx((0, 0.65761), abs=1e-4)
    assert scores.auroc == pytest.approx((9 * 2 + 1) / 30, abs=1e-4)
    assert str(scores).endswith("9 of 10 photos of the classes are in scope, 1 of 3 of no class pass")


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def test_photos_of_no_class_come_from_folders_tables_and_labels(tmp_path: Path) -> None:
    recipe = read_recipe(SHAPES)
    logos = write(tmp_path / "logos", "a.png", "sub/b.png")
    write_rows(tmp_path / "logos" / "SOURCES.tsv", ("path", "source"), [{"path": "a.png", "source": "shop"}])
    names = [f"{label}/0.png" for label in (*recipe.labels, NO_CLASS)]
    data = write(tmp_path / "data", *names, f"{NO_CLASS}/flower/1.png")
    table = tmp_path / "more.tsv"
    rows = [{"path": "logos/a.png", "kind": "sign", "split": "test"}, {"path": "data/disc/0.png", "label": NO_CLASS}]
    write_rows(table, ("path", "label", "kind", "split"), rows)
    photos = read_outside((logos,), (), (data,), (), recipe)
    assert [(p.path.name, kind_of(p), p.source == "shop") for p in photos] == [
        ("a.png", "logos", True),
        ("b.png", "sub", False),
        ("0.png", "data", False),
        ("1.png", "flower", False),
    ]
    photos = read_outside((table,), (), (), (), recipe)
    assert [(kind_of(p), p.part) for p in photos] == [("sign", "test"), ("data", "")]
    assert len(trained_on([*photos] * LEAST)) == LEAST
    table = tmp_path / "runs" / "one" / "split.tsv"
    paths = ("../../logos/sub/b.png", "../../logos/a.png", f"../../data/{NO_CLASS}/0.png")
    write_rows(table, ("path", "label"), [{"path": path, "label": NO_CLASS} for path in paths])
    assert [kind_of(photo) for photo in read_outside((table,), (), (), (), recipe)] == ["sub", "logos", "data"]


def test_a_table_of_photos_of_no_class_must_not_name_a_class(tmp_path: Path) -> None:
    write(tmp_path, "a.png")
    write_rows(tmp_path / "t.tsv", ("path", "label"), [{"path": "a.png", "label": "disc"}])
    with pytest.raises(UserError, match=r"a\.png has the label disc: leave it out, or give it the label no_class"):
        read_outside((tmp_path / "t.tsv",), (), (), (), read_recipe(SHAPES))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no photo"):
        read_outside((tmp_path / "empty",), (), (), (), read_recipe(SHAPES))


@pytest.mark.slow
def test_a_scope_of_an_earlier_version_is_left_out_and_the_fix_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = read_recipe(SHAPES)
    backbone = recipe.backbone.model_copy(update={"name": "efficientnet_lite0", "weights": "none"})
    recipe = recipe.model_copy(update={"backbone": backbone})
    model = build(backbone, len(recipe.labels), recipe.input)
    middle = 2 * (80 + 112 + 192)
    for channels, kept in ((1280, False), (1280 + middle, False), (1280 + middle + LEVELS, True)):
        model.scope = Scope(channels, 2)
        save_model(tmp_path, model)
        loaded = load_weights(tmp_path / WEIGHTS, recipe)
        assert (loaded.scope is not None) is kept
        assert ("training export --outside" in " ".join(capsys.readouterr().err.split())) is not kept
