"""Training's commands on drawn photos: what they write, what they refuse, and that the graph is the model."""

import json
import shutil
from pathlib import Path
from typing import Any

import click.testing
import numpy as np
import onnx
import pytest
import torch
import yaml

from dataset.photos import Photo, hold_out, read_photos
from deploy.settings import ROOT
from handler import engine
from handler.spec import Runtime
from tests.conftest import SHAPES, SHIPPED, command, newest
from training import crossvalidate as crossvalidation
from training.data import PhotoSet
from training.export import spread, store_as_fp16, to_onnx
from training.loop import predict
from training.runs import load_model


def test_a_run_explains_itself(runs: Path, drawn: Path) -> None:
    train, prune = (json.loads((newest(runs, step) / "run.json").read_text()) for step in ("train", "prune"))
    assert prune["parent"] == train["id"]
    assert train["data"]["photos"] == {"disc": 30, "stripe": 30, "cross": 30}
    assert len(train["epochs"]) == 15
    assert {"arguments", "commit", "packages", "seconds", "metrics", "validation", "trained_parameters"} <= set(train)
    assert not [word for word in train["arguments"] if word.startswith("/")]
    assert prune["after"]["sparsity"] == pytest.approx(0.3, abs=0.001)
    assert prune["after"]["gigamacs"] == prune["before"]["gigamacs"] > 0
    assert prune["gate"]["passed"]


def test_no_partial_run_is_left(runs: Path) -> None:
    assert not list(runs.glob("*.partial"))


def test_the_exported_graph_is_the_model(runs: Path, drawn: Path, tmp_path: Path) -> None:
    recipe, model, _ = load_model(newest(runs, "prune"))
    _, held = hold_out(read_photos(drawn, recipe.labels), recipe.train.validation, recipe.train.seed)
    wanted = predict(model, held, recipe).softmax(1).numpy()
    plain = to_onnx(model, recipe)
    for graph, tolerance in ((plain, 1e-4), (store_as_fp16(plain), 5e-3)):
        (tmp_path / "model.onnx").write_bytes(graph.SerializeToString())
        run = engine.load(tmp_path / "model.onnx", recipe)
        photos = PhotoSet(held, recipe, augment=False)
        found = np.stack([run(photos[index][0].numpy()) for index in range(len(photos))])
        assert np.abs(found - wanted).max() < tolerance


def test_the_precision_is_pinned(runs: Path, tmp_path: Path) -> None:
    """OpenVINO left alone computes in bf16 where a CPU can: its answers would then differ in the third decimal."""
    recipe, model, _ = load_model(newest(runs, "prune"))
    (tmp_path / "model.onnx").write_bytes(to_onnx(model, recipe).SerializeToString())
    photo = np.random.default_rng(0).integers(0, 256, (3, recipe.input.height, recipe.input.width), np.uint8)
    answers = []
    for runtime in (Runtime(engine="onnxruntime"), Runtime(engine="openvino")):
        changed = recipe.model_copy(update={"runtime": runtime})
        answers.append(engine.load(tmp_path / "model.onnx", changed)(photo))
    assert np.abs(answers[0] - answers[1]).max() < 1e-5


def test_the_bundles_graph_is_one_file_that_takes_uint8(bundle: Path) -> None:
    graph = onnx.load(bundle / "model.onnx", load_external_data=False)
    assert not any(tensor.external_data for tensor in graph.graph.initializer)
    (entry,) = graph.graph.input
    assert entry.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    sizes = [dim.dim_value for dim in entry.type.tensor_type.shape.dim]
    assert sizes == [0, 3, 64, 96]
    assert [entry.name for entry in graph.graph.output] == ["logits"]


def test_a_graph_tells_no_path_of_this_machine(bundle: Path) -> None:
    for folder in (bundle, SHIPPED):
        content = (folder / "model.onnx").read_bytes()
        assert b".py" not in content
        assert str(ROOT).encode() not in content


def test_the_bundle_says_what_was_measured(bundle: Path) -> None:
    run = json.loads((bundle / "run.json").read_text())
    assert set(run["variants"]) == {"int8", "fp16 weights, f32 arithmetic"}
    assert run["precision"] in run["variants"]
    assert 0.25 <= run["temperature"] <= 10
    rows = json.loads((bundle / "goldens.json").read_text())
    assert len(rows) >= 8
    for row in rows:
        first, second = sorted(row["probabilities"])[-1:-3:-1]
        assert first - second >= 0.3


@pytest.mark.parametrize("what", ["run", "bundle"])
def test_evaluate_splits_accuracy_by_class_and_time_by_stage(
    runs: Path, bundle: Path, drawn: Path, tmp_path: Path, what: str
) -> None:
    folder = bundle if what == "bundle" else newest(runs, "prune")
    out = tmp_path / "evaluation"
    done = command("training", "evaluate", folder, "--data", drawn, "--out", out)
    result = json.loads((out / "report.json").read_text())
    assert set(result["milliseconds"]) == {"decode", "resize", "inference", "together"}
    assert sum(map(sum, result["metrics"]["confusion"])) == 90
    assert result["metrics"]["mean_accuracy"] > 0.85
    assert "mean of classes (95 %:" in done.stdout
    assert "answered" in done.stderr


@pytest.fixture
def short(tmp_path: Path) -> Path:
    """The drawn recipe with as little training as possible, and no gate."""
    content = yaml.safe_load(SHAPES.read_text())
    content |= {"folds": 2, "gate": {"mean_accuracy": 0, "max_loss": 1}}
    content["train"]["epochs"] = content["prune"]["epochs"] = 1
    content["export"] = {"int8": "never"}
    path = tmp_path / "short.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_crossvalidation_tests_each_photo_once_and_goes_on_after_an_interruption(
    short: Path, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    interruption = iter([True])

    def fold(recipe: Any, photos: Any, added: Any, tested: Any) -> dict[str, Any]:
        if len(calls) == 1 and next(interruption, False):
            raise KeyboardInterrupt
        calls.append(len(tested))
        assert not {p.source for p in photos} & {p.source for p in tested}
        rows = [[0.0 if index == photo.label else -5.0 for index in range(3)] for photo in tested]
        return {"answers": dict.fromkeys(crossvalidation.WAYS, rows)}

    monkeypatch.setattr(crossvalidation, "run_fold", fold)
    arguments = [str(short), "--data", str(drawn), "--runs", str(tmp_path / "runs")]
    runner = click.testing.CliRunner()
    assert runner.invoke(crossvalidation.crossvalidate, arguments).exit_code == 1
    done = runner.invoke(crossvalidation.crossvalidate, arguments)
    assert done.exit_code == 0, done.output
    assert len(calls) == 2
    assert sum(calls) == 90
    run = json.loads((newest(tmp_path / "runs" / "shapes", "crossvalidate") / "run.json").read_text())
    assert run["metrics"]["as they are"]["mean_accuracy"] == 1.0
    assert not list((tmp_path / "runs" / "shapes").glob("*.folds.json"))


def test_a_real_fold_walks_the_whole_way(short: Path, drawn: Path) -> None:
    from config.recipe import read_recipe

    recipe = read_recipe(short)
    photos = read_photos(drawn, recipe.labels)
    result = crossvalidation.run_fold(recipe, photos[::2], [], photos[1::6])
    for way in crossvalidation.WAYS:
        assert np.exp(result["answers"][way]).sum(axis=1) == pytest.approx(1, abs=1e-3)
    assert torch.isfinite(torch.tensor(result["answers"][crossvalidation.WAYS[1]])).all()


def refused(*arguments: object) -> str:
    done = command(*arguments, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith("Error: ")
    assert "Traceback" not in done.stderr
    return message


def test_prune_and_export_insist_on_the_photos_of_the_run(runs: Path, drawn: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    command("dataset", "sample", other, "--recipe", SHAPES, "--count", 6, "--seed", 9)
    assert "held out other photos" in refused("training", "prune", newest(runs, "train"), "--data", other)
    assert "held out other photos" in refused(
        "training", "export", newest(runs, "prune"), "--data", other, "--out", tmp_path / "x"
    )
    assert not (tmp_path / "x").exists()


def test_a_pruned_run_is_not_pruned_again(runs: Path, drawn: Path) -> None:
    assert "is pruned already" in refused("training", "prune", newest(runs, "prune"), "--data", drawn)


def test_calibration_sees_every_label() -> None:
    photos = [Photo(Path(str(index)), int(index >= 130), "s") for index in range(174)]
    chosen = spread(photos, 128)
    assert len(chosen) == len(set(chosen)) == 128
    assert {photo.label for photo in chosen} == {0, 1}
    assert spread(photos[:5], 128) == photos[:5]


def test_a_bundle_is_not_overwritten(runs: Path, drawn: Path, bundle: Path) -> None:
    assert "exists: remove it, or give another --out" in refused(
        "training", "export", newest(runs, "prune"), "--data", drawn
    )


@pytest.mark.parametrize("step", ["evaluate", "crossvalidate"])
def test_a_photo_that_cannot_be_measured_is_named(runs: Path, drawn: Path, tmp_path: Path, step: str) -> None:
    photos = Path(shutil.copytree(drawn, tmp_path / "photos"))
    (photos / "disc" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    first = newest(runs, "prune") if step == "evaluate" else SHAPES
    assert "broken.jpg" in refused("training", step, first, "--data", photos)


def test_a_photo_that_cannot_be_read_is_named_and_no_run_is_left(drawn: Path, tmp_path: Path) -> None:
    photos = Path(shutil.copytree(drawn, tmp_path / "photos"))
    (photos / "disc" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    message = refused("training", "train", SHAPES, "--data", photos, "--runs", tmp_path / "runs")
    assert "broken.jpg" in message
    assert not list((tmp_path / "runs" / "shapes").iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "clasroom", "--data", "."], "did you mean classroom?"),
        (["train", SHAPES, "--data", "{drawn}", "--backbone", "resnet19"], "backbone.name"),
        (["train", SHAPES, "--data", "{drawn}", "--where", "x"], "write COLUMN=VALUE"),
        (["train", SHAPES, "--data", "{drawn}", "--where", "x=y"], "no column x"),
        (["train", SHAPES, "--data", "{tmp}"], "no folder disc, stripe, cross"),
        (["train", SHAPES, "--data", "{drawn}", "--weights", "imagenet", "--runs", "{tmp}"], "no ImageNet weights"),
        (["train", SHAPES, "--data", "{drawn}", "--runs", "/proc/none"], "give --runs FOLDER"),
        (["prune", "{tmp}", "--data", "{drawn}"], "is no complete run"),
        (["evaluate", "{tmp}", "--data", "{drawn}"], "is no complete run"),
    ],
)
def test_what_is_wrong_is_one_line(drawn: Path, tmp_path: Path, arguments: list[Any], words: str) -> None:
    filled = [str(word).format(drawn=drawn, tmp=tmp_path) for word in arguments]
    assert words in refused("training", *filled)
