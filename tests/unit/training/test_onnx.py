"""Graphs with a given opset and given names, printed as text and drawn, and run with ONNX Runtime alone."""

import io
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import click
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from rich.console import Console

from common.errors import UserError
from config.recipe import Recipe, override, read_recipe
from tests.helpers.small import narrow_networks, narrow_scenes_net, random_bundle
from training.bundles.onnx_export import difference, opset, require_opset, store_as_fp16, to_onnx
from training.graph import graph
from training.models.classifier import Classifier
from training.models.networks import ScenesNet
from training.models.registry import build
from training.onnx_predict import _table, bar_chart, families, onnx_predict
from training.recipes import describe


def scenes(**export: Any) -> Recipe:
    """The recipe on photos of 32 x 32."""
    recipe = override(read_recipe("scenes11"), "export", **export)
    return override(recipe, "input", height=32, width=32, shorter=40)


def model_of(recipe: Recipe) -> Classifier:
    torch.manual_seed(0)
    with narrow_networks():
        return build(recipe.backbone, len(recipe.labels), recipe.input).eval()


@pytest.mark.slow
@pytest.mark.parametrize(("version", "output"), [(11, "output"), (13, "answers"), (18, "logits"), (20, "logits")])
def test_opset_and_names_are_those_of_the_recipe(version: int, output: str) -> None:
    recipe = scenes(opset=version, input="photo", output=output)
    model = model_of(recipe)
    exported = to_onnx(model, recipe)
    assert [(entry.domain, entry.version) for entry in exported.opset_import] == [("", version)]
    assert [value.name for value in (*exported.graph.input, *exported.graph.output)] == ["photo", output]
    assert difference(model, exported, recipe) < 1e-4
    assert difference(model, store_as_fp16(exported), recipe) < 1e-2
    session = onnxruntime.InferenceSession(store_as_fp16(exported).SerializeToString())
    for count in (1, 5):
        photos = np.zeros((count, 3, 32, 32), np.uint8)
        assert session.run(None, {"photo": photos})[0].shape == (count, 11)


def test_the_recipe_has_the_settings_of_the_scenes_document() -> None:
    recipe = read_recipe("scenes11")
    assert (recipe.export.opset, recipe.export.input, recipe.export.output) == (11, "input", "output")
    assert (recipe.input.shorter, recipe.input.height, recipe.input.width) == (300, 256, 256)
    assert len(recipe.labels) == 11


@pytest.mark.slow
def test_an_opset_that_the_exporter_silently_ignores_is_reported() -> None:
    recipe = scenes(opset=30)
    with pytest.raises(UserError, match=r"(came out at opset 18, not 30|cannot be written at opset 30)"):
        to_onnx(model_of(recipe), recipe)
    with pytest.raises(UserError, match=r"opset 18, not 11: set export\.opset to 18"):
        require_opset(onnx.helper.make_model(onnx.GraphProto(), opset_imports=[onnx.helper.make_opsetid("", 18)]), 11)


def test_a_graph_that_differs_from_the_model_is_refused() -> None:
    recipe = scenes()
    model = model_of(recipe)
    exported = to_onnx(model, recipe)
    with torch.no_grad():
        model.network.fc3[0].bias[4] += 0.5  # type: ignore[index, union-attr]
    with pytest.raises(UserError, match=r"differs from torch by 0\.5 "):
        difference(model, exported, recipe)


def test_two_tensors_have_two_names() -> None:
    with pytest.raises(UserError, match="input and output are both x"):
        scenes(input="x", output="x")


def test_the_network_is_the_documents_layer_by_layer() -> None:
    with torch.device("meta"):
        network = ScenesNet(11)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert shapes["layer1.0.weight"] == (64, 3, 3, 3)
    assert shapes["layer4.0.weight"] == (512, 256, 3, 3)
    assert shapes["layer4.1.running_mean"] == (512,)
    assert shapes["fc1.0.weight"] == (512, 512 * 16 * 16)
    assert shapes["fc2.0.weight"] == (256, 512)
    assert shapes["fc3.0.weight"] == (11, 256)
    assert len(shapes) == 4 * 7 + 3 * 2


def test_the_documents_state_dict_loads(tmp_path: Path) -> None:
    recipe = scenes()
    saved = narrow_scenes_net(11, False, (32, 32)).state_dict()
    torch.save(saved, tmp_path / "net.pth")
    with narrow_networks():
        loaded = build(override(recipe, "backbone", weights=str(tmp_path / "net.pth")).backbone, 11, recipe.input)
    assert torch.equal(loaded.network.state_dict()["layer3.0.weight"], saved["layer3.0.weight"])
    with pytest.raises(UserError, match="16 x 16 or more, not 8 x 32"):
        build(recipe.backbone, 11, override(recipe, "input", height=8).input)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    labels = ("苹果", "香蕉", "萨摩耶", "한국", "$e$", "f", "g", "h", "i", "j", "k")
    return random_bundle(scenes().model_copy(update={"labels": labels}), tmp_path_factory.mktemp("bundle"))


@pytest.mark.slow
def test_a_graph_as_text_and_as_picture(bundle: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(graph, [str(bundle), "--out", str(tmp_path)], standalone_mode=False)
    assert done.exception is None
    assert "in: input uint8 (batch, 3, 32, 32)" in done.output
    assert "opset 11" in done.output
    text = (tmp_path / "graph.txt").read_text()
    assert len(re.findall(r"= Conv\[", text)) == 4
    texts = [e.text for e in ElementTree.parse(tmp_path / "graph.svg").iter("{http://www.w3.org/2000/svg}text")]
    kinds = [str(line).split()[0] for line in texts]
    assert (kinds.count("Conv"), kinds.count("Gemm"), kinds.count("MaxPool")) == (4, 3, 4)
    assert kinds[0] == "input" and kinds[-1] == "output"
    assert "Conv (batch, 2, 32, 32)" in texts
    (tmp_path / "damaged.onnx").write_bytes((bundle / "model.onnx").read_bytes()[:500])
    with pytest.raises(click.ClickException, match="not a valid ONNX graph"):
        graph.main([str(tmp_path / "damaged.onnx")], standalone_mode=False)


def ask(*words: object) -> str:
    done = CliRunner().invoke(onnx_predict, [str(word) for word in words], standalone_mode=False)
    if done.exception:
        raise done.exception
    return done.output


@pytest.mark.slow
def test_a_bundle_and_its_parts_give_the_same_answer(bundle: Path, tmp_path: Path) -> None:
    photo = bundle / "goldens" / "pattern_0.jpg"
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    first = ask(photo, "--bundle", bundle, "--chart", one)
    model, labels = bundle / "model.onnx", bundle / "labels.npy"
    second = ask(photo, "--model", model, "--labels", labels, "--shorter", 40, "--chart", two)
    assert first.replace("one.png", "two.png") == second
    assert one.read_bytes() == two.read_bytes()
    assert one.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_graph_of_floats_is_given_imagenets_scaling(tmp_path: Path) -> None:
    net = narrow_scenes_net(11, False, (32, 32)).eval()
    path, labels = tmp_path / "net.onnx", tmp_path / "idx_to_labels.npy"
    torch.onnx.export(net, (torch.zeros(1, 3, 32, 32),), str(path), dynamo=False, opset_version=11)
    np.save(labels, {index: f"c{index}" for index in range(11)})  # type: ignore[arg-type]
    grey = np.full((40, 40, 3), 128, np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        expected = net(((torch.full((1, 3, 32, 32), 128 / 255)) - mean) / std).softmax(1)[0]
    printed = ask(
        tmp_path / "grey.png", "--model", path, "--labels", labels, "--top", 11, "--chart", tmp_path / "c.png"
    )
    percents = {int(index): float(percent) for index, percent in re.findall(r"c\d+ +│ (\d+) +│ ([\d.]+)", printed)}
    assert percents == pytest.approx({index: 100 * float(p) for index, p in enumerate(expected)}, abs=0.006)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give --bundle BUNDLE, or --model"),
        (("--model", "absent.onnx", "--labels", "absent.npy"), "absent.onnx does not exist"),
        (("--bundle", "absent"), "absent is not a bundle"),
    ],
)
def test_missing_arguments_and_files_are_reported_in_one_line(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(click.ClickException, match=message):
        ask("photo.jpg", *words)


@pytest.mark.slow
def test_labels_of_another_model_are_refused(bundle: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "few.npy", np.array(["a", "b"]))
    photo = bundle / "goldens" / "pattern_0.jpg"
    with pytest.raises(click.ClickException, match="11 classes, but there are 2 labels"):
        ask(photo, "--model", bundle / "model.onnx", "--labels", tmp_path / "few.npy")


@pytest.mark.slow
def test_every_script_has_a_font_and_missing_glyphs_are_reported() -> None:
    labels = ["苹果", "かな", "한국", "ไทย", "हिन्दी", "Ελλάδα", "Мир", "$x_1$"]
    picture, missing = bar_chart("photos/萨摩耶 1.jpg", labels, [0.1] * len(labels))
    assert missing == ""
    assert picture.startswith(b"\x89PNG")
    assert families()[1] == "Noto Sans SC"
    assert bar_chart("a", ["\U00012000"], [1.0])[1] == "\U00012000"  # cuneiform


def test_a_recipe_is_described_with_its_weights(tmp_path: Path) -> None:
    line = describe(read_recipe("scenes11"))
    assert (line.name, line.backbone, line.weights) == ("scenes11", "scenes_net", "random")
    assert line.input == "256 x 256, crop, shorter side 300"
    assert describe(read_recipe("classroom")).weights == "ImageNet, from a package"
    assert "resnet18-" in describe(read_recipe("classroom_document")).weights
    absent = override(read_recipe("scenes11"), "backbone", weights=str(tmp_path / "absent.pth"))
    assert describe(absent).weights == f"file {tmp_path / 'absent.pth'} (missing)"
    assert opset(onnx.helper.make_model(onnx.GraphProto(), opset_imports=[onnx.helper.make_opsetid("", 7)])) == 7


def test_the_table_fits_in_80_columns_with_any_labels() -> None:
    terminal = Console(width=80, file=io.StringIO())
    labels = ("a_label_without_spaces_" * 6, "[bold]", "b c " * 40)
    terminal.print(_table(labels, np.array([0.5, 0.3, 0.2], np.float32), [0, 1, 2]))
    text = terminal.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= 80
    assert "\u2026" not in text and "[bold]" in text
