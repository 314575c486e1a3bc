"""The recipe scenes11 end to end on small pictures: train, export at opset 11, the handler, predict without torch."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from config.recipe import read_recipe
from deploy.archive import pack
from deploy.settings import ROOT
from handler import engine, goldens
from handler.spec import read_spec
from tests.helpers.siblings import bundle_of
from tests.helpers.small import invoke, label_folders, narrow_networks, small_recipe, trained_bundle, unpacked
from training.predict import predict


@pytest.fixture(scope="module")
def bundle(sibling: Callable[[str], Path]) -> Path:
    return bundle_of(sibling("scenes11"), "scenes11")


def test_the_graph_has_the_opset_and_names_of_the_scenes_document(bundle: Path) -> None:
    graph = onnx.load(bundle / "model.onnx")
    onnx.checker.check_model(graph)
    assert [(entry.domain, entry.version) for entry in graph.opset_import] == [("", 11)]
    assert [value.name for value in (*graph.graph.input, *graph.graph.output)] == ["input", "output"]
    shape = graph.graph.input[0].type.tensor_type.shape.dim
    assert (shape[0].dim_param, *(side.dim_value for side in shape[1:])) == ("batch", 3, 256, 256)
    facts = json.loads((bundle / "run.json").read_text())
    assert facts["opset"] == 11
    assert 0 <= facts["torch_difference"] < 1e-3
    assert facts["int8"] == "int8 is skipped: its scales per channel need export.opset 13 or more"
    assert list(facts["variants"]) == ["fp16 weights, f32 arithmetic"]


def test_the_bundle_contains_the_labels_as_a_numpy_file(bundle: Path) -> None:
    assert tuple(np.load(bundle / "labels.npy", allow_pickle=False)) == read_spec(bundle / "recipe.json").labels


def test_its_archive_starts_and_answers_its_goldens(bundle: Path, tmp_path: Path) -> None:
    folder = unpacked(pack(bundle, "1.0", tmp_path), tmp_path / "unpacked")
    spec = read_spec(folder / "recipe.json")
    run = engine.load(folder / "model.onnx", spec)
    assert goldens.check(folder, spec, engine.from_bytes(run, spec)) < 1e-3
    assert not any(golden.shows_label for golden in goldens.read(folder))


PROGRAM = """
import sys
from training.__main__ import main
try:
    main(sys.argv[1:])
finally:
    heavy = sorted({"torch", "torchvision", "onnx", "nncf"} & set(sys.modules))
    print("imported:", heavy)
"""


def test_onnx_predict_needs_no_torch_and_gives_the_bundles_answer(bundle: Path, tmp_path: Path) -> None:
    photo, chart = bundle / "goldens" / "pattern_0.jpg", tmp_path / "chart.png"
    words = ["onnx-predict", photo, "--bundle", bundle, "--top", "11", "--chart", chart]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, words)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "imported: []" in done.stdout
    assert chart.read_bytes().startswith(b"\x89PNG")
    printed = CliRunner().invoke(predict, [str(bundle), str(photo)], standalone_mode=False).output
    first = json.loads(printed)["result"]
    assert next(line for line in done.stdout.splitlines() if "│" in line).split("│")[1].strip() == first


def test_a_run_of_it_can_be_exported_at_another_opset_with_int8(tmp_path: Path) -> None:
    recipe = small_recipe(
        "scenes11",
        tmp_path,
        export={"opset": 18, "output": "logits", "calibration": 8},
        input={"height": 64, "width": 64, "shorter": 75},
    )
    photos = label_folders(tmp_path / "photos", read_recipe(recipe).labels)
    with narrow_networks():
        bundle = trained_bundle(recipe, photos, tmp_path)
    facts = json.loads((bundle / "run.json").read_text())
    assert facts["opset"] == 18
    assert "int8" in facts["variants"]
    assert "int8" not in facts


@narrow_networks()
def test_export_refuses_an_existing_bundle(bundle: Path) -> None:
    from training.export import export

    with pytest.raises(Exception, match="exists: remove it"):
        invoke(export, bundle.parent, "--data", bundle.parent.parent.parent.parent / "photos")
