"""Training's commands on drawn photos: what they write, what they refuse, and that the graph is the model."""

import importlib
import json
import os
import resource
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import click
import click.testing
import numpy as np
import onnx
import pytest
import torch
import yaml

from common.errors import UserError
from config.recipe import read_recipe
from dataset.photos import Photo, read_photos
from dataset.splitting.folds import hold_out
from deploy.settings import ROOT
from handler import engine
from handler.spec import Runtime
from tests.helpers.commands import SHAPES, SHIPPED, command, newest
from tests.helpers.pictures import draw_small_set
from tests.helpers.running.forked import start_forked
from training.bundles.onnx_export import store_as_fp16, to_onnx
from training.compression.quantise import spread
from training.data.loader import PhotoSet
from training.evaluation.inference import predict
from training.prune import prune
from training.records.folder import make_run
from training.records.index import of_step
from training.records.run import CrossValidated, Inputs, Metrics, Origin, RunRecord, SweepRow, Trained
from training.records.weights import load_model
from training.train import train


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
    _, held_out = hold_out(read_photos(drawn, recipe.labels), recipe.train.validation, recipe.train.seed)
    expected = predict(model, held_out, recipe).softmax(1).numpy()
    plain = to_onnx(model, recipe)
    for graph, tolerance in ((plain, 1e-4), (store_as_fp16(plain), 5e-3)):
        (tmp_path / "model.onnx").write_bytes(graph.SerializeToString())
        infer = engine.load(tmp_path / "model.onnx", recipe)
        photos = PhotoSet(held_out, recipe, augment=False)
        actual = np.stack([infer(photos[index][0].numpy()) for index in range(len(photos))])
        assert np.abs(actual - expected).max() < tolerance


def test_the_precision_is_pinned(runs: Path, tmp_path: Path) -> None:
    """By default OpenVINO computes in bf16 where the CPU can; its answers would then differ in the third decimal."""
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


def test_a_graph_contains_no_path_of_this_machine(bundle: Path) -> None:
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
    done = run("training", "evaluate", folder, "--data", drawn, "--out", out)
    result = json.loads((out / "report.json").read_text())
    assert set(result["milliseconds"]) == {"decode", "resize", "inference", "together"}
    held_out = json.loads((folder / "run.json").read_text())["validation"]
    assert (result["part"], result["selected_on"], result["data"]) == ("held out", True, held_out)
    assert sum(map(sum, result["metrics"]["confusion"])) == sum(held_out["photos"].values()) < 45
    assert result["metrics"]["mean_accuracy"] > 0.85
    assert "balanced accuracy (95 %:" in done.stdout
    assert "correct" in done.stderr


def test_the_report_warns_of_photos_without_a_source(runs: Path, drawn: Path, tmp_path: Path) -> None:
    photos = Path(shutil.copytree(drawn, tmp_path / "photos"))
    (photos / "SOURCES.tsv").unlink()
    words = ("--data", photos, "--part", "all", "--no-changes", "--out", tmp_path / "out")
    done = run("training", "evaluate", newest(runs, "prune"), *words)
    assert "warning: none of the 90 photos names its source" in " ".join(done.stderr.split())
    assert "Warning: none of the 90 photos names its source" in (tmp_path / "out" / "report.html").read_text()


def run(package: str, *words: object, code: int = 0) -> click.testing.Result:
    """Run a command in this process, which saves the seconds that importing torch takes."""
    group = importlib.import_module(f"{package}.__main__").main
    done = click.testing.CliRunner().invoke(group, [str(word) for word in words])
    assert done.exit_code == code, done.output
    return done


def refused(package: str, *words: object) -> str:
    """The error line of a command that fails as expected."""
    done = run(package, *words, code=1)
    (message,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert "Traceback" not in done.stderr
    return message


def test_prune_and_export_insist_on_the_photos_of_the_run(runs: Path, drawn: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    draw_small_set(other, read_recipe(SHAPES), 6, seed=9)
    assert "held out other photos" in refused("training", "prune", newest(runs, "train"), "--data", other)
    assert "held out other photos" in refused(
        "training", "export", newest(runs, "prune"), "--data", other, "--out", tmp_path / "x"
    )
    assert not (tmp_path / "x").exists()


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
        (["train", SHAPES, "--data", "{drawn}", "--weights", "imagenet", "--runs", "{tmp}"], "no ImageNet weights"),
    ],
)
def test_an_error_is_reported_in_one_line(drawn: Path, tmp_path: Path, arguments: list[Any], words: str) -> None:
    filled = [str(word).format(drawn=drawn, tmp=tmp_path) for word in arguments]
    assert words in refused("training", *filled)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos for trainings whose accuracy does not matter."""
    folder = tmp_path_factory.mktemp("few") / "drawn"
    draw_small_set(folder, read_recipe(SHAPES), 8)
    return folder


def weights(run: Path) -> bytes:
    return (run / "model.safetensors").read_bytes()


def test_killed_training_goes_on_and_ends_with_the_same_weights(short: Path, drawn: Path, tmp_path: Path) -> None:
    """kill -9 after an epoch, then the same command; another seed gives other weights."""
    words = ["training", "train", short, "--data", drawn, "--epochs", 6]
    command(*words, "--runs", tmp_path / "whole")
    uninterrupted = newest(tmp_path / "whole" / "shapes", "train")
    place = tmp_path / "killed" / "shapes"
    with start_forked([*map(str, words), "--runs", str(tmp_path / "killed")], ROOT, os.environ) as process:
        while not list(place.glob("*.partial/checkpoint.pt")) and process.poll() is None:
            time.sleep(0.02)
        process.kill()
    (partial,) = place.iterdir()
    assert partial.suffix == ".partial", "it was done before it could be killed"
    done = command(*words, "--runs", tmp_path / "killed")
    assert "resuming " in done.stderr
    (continued,) = place.iterdir()
    assert continued.name == partial.stem
    assert weights(continued) == weights(uninterrupted)
    assert not {"checkpoint.pt", "progress.json", "key"} & {path.name for path in continued.iterdir()}
    assert (continued / "curves.png").is_file()
    assert list((continued / "tensorboard").glob("events.*"))
    command(*words, "--runs", tmp_path / "other", "--seed", 1)
    assert weights(newest(tmp_path / "other" / "shapes", "train")) != weights(uninterrupted)


def test_an_interrupted_run_of_another_command_is_left_alone(short: Path, drawn: Path, tmp_path: Path) -> None:
    recipe = read_recipe(short)
    for parent, fresh, same in (("a", False, True), ("b", False, False), ("a", True, False)):
        root = tmp_path / parent / str(fresh)
        folders: list[Path] = []

        def interrupted(folder: Path, folders: list[Path] = folders) -> Trained:
            folders.append(folder)
            (folder / "checkpoint.pt").touch()
            raise KeyboardInterrupt

        def finished(folder: Path, folders: list[Path] = folders) -> Trained:
            folders.append(folder)
            return Trained(metrics=Metrics(mean_accuracy=1.0))

        with pytest.raises(KeyboardInterrupt):
            make_run("train", recipe, root, Inputs(parent="a"), interrupted)
        make_run("train", recipe, root, Inputs(parent=parent), finished, fresh)
        assert (folders[0] == folders[1]) is same


def test_two_at_once_do_not_take_up_the_same_run(short: Path, tmp_path: Path) -> None:
    recipe = read_recipe(short)
    folders: list[Path] = []

    def work(folder: Path) -> Trained:
        folders.append(folder)
        (folder / "checkpoint.pt").touch()
        if len(folders) == 1:
            make_run("train", recipe, tmp_path, Inputs(), work)
        return Trained(metrics=Metrics(mean_accuracy=1.0))

    make_run("train", recipe, tmp_path, Inputs(), work)
    assert folders[0] != folders[1]


def test_a_run_without_channels_can_be_used_like_any_other(runs: Path, drawn: Path, tmp_path: Path) -> None:
    """After prune --method channel: summary, predict, export, summary of the bundle, train --init-from."""
    loose = yaml.safe_load((newest(runs, "train") / "recipe.json").read_text())
    loose["gate"] = {"mean_accuracy": 0, "max_loss": 1}
    loose["prune"]["most_flips"] = 99
    loose["export"]["int8"] = "never"
    parent = Path(shutil.copytree(newest(runs, "train"), tmp_path / "parent"))
    (parent / "recipe.json").write_text(json.dumps(loose))
    words = ("--method", "channel", "--amount", 0.5, "--steps", 1, "--epochs", 4)
    done = run("training", "prune", parent, "--data", drawn, "--runs", tmp_path, *words)
    pruned = newest(tmp_path / "shapes", "prune")
    record = json.loads((pruned / "run.json").read_text())
    assert "regressions" in done.stderr
    assert "43% of the channels removed" in done.stdout
    assert (record["method"], record["chosen_step"], len(record["steps"])) == ("channel", 1, 1)
    assert record["after"]["parameters"] == 7571
    assert record["after"]["gigamacs"] < record["before"]["gigamacs"]
    assert not list(pruned.glob("*.pth")), "the classroom document's network could not load them"
    photo = sorted((drawn / "disc").iterdir())[0]
    run("training", "export", pruned, "--data", drawn)
    for folder in (pruned, pruned / "bundle"):
        assert "7,571 parameters" in run("training", "summary", folder).stdout
        assert json.loads(run("training", "predict", folder, photo).stdout)["result"] in loose["labels"]
    recipe = tmp_path / "loose.yaml"
    recipe.write_text(yaml.safe_dump(loose))
    run("training", "train", recipe, "--data", drawn, "--epochs", 0, "--init-from", pruned, "--runs", tmp_path)
    assert weights(newest(tmp_path / "shapes", "train")) == weights(pruned)
    message = refused(
        "training", "prune", parent, "--data", drawn, "--runs", tmp_path, *words[:2], "--layers", "document"
    )
    assert "prune: " in message and "leave layers out" in message


def test_fine_tuning_starts_from_another_run(runs: Path, drawn: Path, tmp_path: Path) -> None:
    parent = newest(runs, "train")
    run("training", "train", SHAPES, "--data", drawn, "--epochs", 0, "--init-from", parent, "--runs", tmp_path)
    child = newest(tmp_path / "shapes", "train")
    assert json.loads((child / "run.json").read_text())["parent"] == parent.name
    assert weights(child) == weights(parent)


def test_a_sweep_makes_a_table_and_goes_on_after_an_interruption(
    short: Path, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training import train
    from training.experiments import sweep

    trained: list[str] = []
    real = sweep.train_member
    interruption = iter([True])

    def member(recipe: Any, *rest: Any) -> SweepRow:
        if len(trained) == 2 and next(interruption, False):
            raise KeyboardInterrupt
        trained.append(f"{recipe.backbone.name} {recipe.train.freeze}")
        return real(recipe, *rest)

    monkeypatch.setattr(sweep, "train_member", member)
    words = [str(short), "--data", str(few), "--runs", str(tmp_path), "--sweep", "smallnet,resnet18:none"]
    runner = click.testing.CliRunner()
    assert runner.invoke(train.train, words).exit_code == 1
    done = runner.invoke(train.train, words)
    assert done.exit_code == 0, done.output
    assert trained == ["smallnet False", "smallnet True", "resnet18 False", "resnet18 True"]
    folder = newest(tmp_path / "shapes", "sweep")
    lines = (folder / "table.md").read_text().splitlines()
    assert len(lines) == 6
    assert "| resnet18 | random | frozen | 1,539 | 11,178,051 | 1 |" in lines[-1]
    assert (folder / "table.png").stat().st_size > 1000
    rows = json.loads((folder / "run.json").read_text())["rows"]
    assert all((tmp_path / "shapes" / row["run"] / "model.safetensors").is_file() for row in rows)
    assert all(row["milliseconds"] > 0 and row["seconds"] >= 0 for row in rows)


def test_a_split_decides_what_is_trained_on_and_what_is_measured(short: Path, drawn: Path, tmp_path: Path) -> None:
    table = tmp_path / "split.tsv"
    run("dataset", "split", drawn, "--recipe", SHAPES, "--train", 0.4, "--test", 0.2, "--out", table)
    run("training", "train", short, "--data", table, "--runs", tmp_path)
    trained = newest(tmp_path / "shapes", "train")
    assert json.loads((trained / "run.json").read_text())["validation"]["photos"] == {
        "disc": 12,
        "stripe": 12,
        "cross": 12,
    }
    for part, count in (("val", 36), ("test", 18), ("all", 90)):
        out = tmp_path / part
        run("training", "evaluate", trained, "--data", table, "--part", part, "--no-changes", "--out", out)
        report = json.loads((out / "report.json").read_text())
        assert sum(map(sum, report["metrics"]["confusion"])) == count


def test_the_report_compares_ambiguous_photos_and_holds_the_folds(
    runs: Path, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training import evaluate

    def folds(recipe: Any, photos: Any, added: Any, root: Path) -> tuple[Path, RunRecord]:
        assert (recipe.folds, len(photos)) == (3, 90)
        result = CrossValidated(metrics={"as they are": Metrics(mean_accuracy=0.875, mean_accuracy_95=(0.8, 0.9))})
        folder = tmp_path / "20260101-000000-crossvalidate"
        return folder, RunRecord(Origin(id=folder.name, step="crossvalidate"), Inputs(), result)

    monkeypatch.setattr(evaluate, "cross_validate", folds)
    words = [str(newest(runs, "prune")), "--data", str(drawn), "--out", str(tmp_path), "--folds", "3"]
    done = click.testing.CliRunner().invoke(evaluate.evaluate, [*words, "--ambiguous", str(drawn / "disc")])
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["folds"]["metrics"]["as they are"]["mean_accuracy"] == 0.875
    assert report["ambiguous"]["photos"] == 30
    assert report["changes"]["turned by EXIF"]["mean_accuracy"] == pytest.approx(
        report["metrics"]["mean_accuracy"], abs=0.03
    )
    page = (tmp_path / "report.html").read_text()
    for words_of_page in ("Cross-validation by source, 3 folds", "87.5%", "ambiguous photos", "Before and after"):
        assert words_of_page in page
    assert (tmp_path / "hardest.jpg").stat().st_size > 10_000


def test_extra_photos_that_are_held_out_are_refused(drawn: Path, tmp_path: Path) -> None:
    assert "is held out as" in refused(
        "training", "train", SHAPES, "--data", drawn, "--extra", drawn, "--runs", tmp_path
    )


def test_pruning_on_other_training_photos_is_refused(short: Path, few: Path, tmp_path: Path) -> None:
    split = tmp_path / "split"
    run("dataset", "split", few, "--recipe", SHAPES, "--train", 0.5, "--out", split)
    run("training", "train", short, "--data", split, "--runs", tmp_path)
    (split / "train" / "disc" / sorted((split / "train" / "disc").iterdir())[0].name).unlink()
    trained = newest(tmp_path / "shapes", "train")
    assert "was trained on other photos" in refused("training", "prune", trained, "--data", split)


def test_pruning_learns_from_photos_without_a_label(short: Path, few: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(short.read_text())
    content["prune"]["distill"] = 1.0
    taught = tmp_path / "taught.yaml"
    taught.write_text(yaml.safe_dump(content))
    others = tmp_path / "others"
    draw_small_set(others, read_recipe(SHAPES), 2, seed=9)
    options = ["--data", str(few), "--runs", str(tmp_path / "runs")]
    invoke = click.testing.CliRunner().invoke
    for recipe in (short, taught):
        assert invoke(train, [str(recipe), *options]).exit_code == 0
    runs = tmp_path / "runs" / "shapes"
    plain, taught_run = of_step(runs.glob("*"), "train")
    for more in ([], ["--unlabelled", str(others)]):
        assert invoke(prune, [str(taught_run), *options, *more]).exit_code == 0
    without, with_unlabelled = of_step(runs.glob("*"), "prune")
    assert json.loads((with_unlabelled / "run.json").read_text())["unlabelled"]["photos"] == 6
    assert weights(without) != weights(with_unlabelled)
    assert "is held out as" in invoke(prune, [str(taught_run), *options, "--unlabelled", str(few)]).output
    assert "set prune.distill" in invoke(prune, [str(plain), *options, "--unlabelled", str(others)]).output


def test_a_full_disk_is_one_line_and_the_checkpoint_before_it_stays(tmp_path: Path) -> None:
    from training.fitting.checkpoints import Recorder

    recorder = Recorder(tmp_path)
    recorder.save({"epoch": 1})
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))
        with pytest.raises(OSError, match=r".+"):
            recorder.save({"epoch": 2, "weights": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert recorder.load() == {"epoch": 1}
    assert not list(tmp_path.glob(".checkpoint*"))
    (tmp_path / "checkpoint.pt").write_bytes(b"torn")
    with pytest.raises(UserError, match="--fresh"):
        recorder.load()
