"""`training predict` without a server, and `training runs`: lineage, comparison, and what deletion must not touch."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from config.recipe import read_recipe
from handler.image import preprocess
from tests.helpers.commands import SHAPES, SHIPPED, newest
from training.__main__ import main
from training.records.folder import CHECKPOINT, PROGRESS, make_run
from training.records.run import Inputs, Metrics, Trained
from training.records.weights import load_model


def run(*arguments: object, answer: str = "") -> Result:
    return CliRunner().invoke(main, [str(word) for word in arguments], input=answer)


def refused(*arguments: object) -> str:
    done = run(*arguments)
    assert done.exit_code == 1, done.output
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def fits(table: str) -> None:
    """Readable in a terminal of 80 columns: nothing is cut off."""
    assert max(map(len, table.splitlines())) <= 80
    assert "…" not in table


def lines(done: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def place(runs: Path, bundle: Path, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with runs/shapes and runs/drawn, and no bundles or archives."""
    shutil.copytree(runs, tmp_path / "runs" / "shapes")
    shutil.copytree(drawn, tmp_path / "runs" / "drawn")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs" / "shapes"


def test_predict_runs_a_run_in_torch(runs: Path, drawn: Path) -> None:
    photo = sorted((drawn / "stripe").iterdir())[0]
    (line,) = lines(run("predict", newest(runs, "prune"), photo, "--device", "cpu"))
    recipe, model, _ = load_model(newest(runs, "prune"))
    pixels = preprocess(photo.read_bytes(), recipe.input, recipe.limits)
    with torch.no_grad():
        expected = model(torch.from_numpy(pixels)[None]).softmax(1)[0]
    assert list(line["probabilities"]) == list(recipe.labels)
    assert list(line["probabilities"].values()) == pytest.approx(expected.tolist(), abs=1e-5)
    assert line["result"] == recipe.labels[int(expected.argmax())]
    assert line["confidence"] == max(line["probabilities"].values())
    assert line["unsure"] == (line["confidence"] < recipe.answer.unsure_below)
    assert (line["photo"], line["device"]) == (str(photo), "cpu")


def test_predict_runs_a_bundle_as_it_is_served(bundle: Path) -> None:
    goldens = json.loads((bundle / "goldens.json").read_text())
    answers = lines(run("predict", bundle, *(bundle / row["photo"] for row in goldens)))
    for row, line in zip(goldens, answers, strict=True):
        assert line["result"] == row["label"]
        assert list(line["probabilities"].values()) == pytest.approx(row["probabilities"], abs=1e-4)
        assert line["device"] == "cpu (onnxruntime)"
        spent = line["milliseconds"]
        assert list(spent) == ["decode", "resize", "inference", "together"]
        assert spent["together"] == pytest.approx(spent["decode"] + spent["resize"] + spent["inference"], abs=0.02)


def test_a_photo_that_cannot_be_read_does_not_affect_the_others(bundle: Path, drawn: Path, tmp_path: Path) -> None:
    good = sorted((drawn / "disc").iterdir())[0]
    (tmp_path / "page.jpg").write_text("<html>")
    done = run("predict", bundle, tmp_path / "none.jpg", tmp_path, tmp_path / "page.jpg", good)
    assert done.exit_code == 1
    answers = lines(done)
    codes = [line["error"]["code"] for line in answers[:3]]
    assert codes == ["unreadable_file", "unreadable_file", "unsupported_format"]
    assert "result" in answers[3]
    assert not done.stderr


def test_impossible_predictions_are_refused_in_one_line(
    runs: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "is not a complete run" in refused("predict", tmp_path, "x.jpg")
    assert "give at least one photo" in refused("predict", bundle)
    assert "finds no GPU here" in refused("predict", newest(runs, "prune"), "x.jpg", "--device", "cuda")
    assert "leave out --device" in refused("predict", bundle, "x.jpg", "--device", "cuda")
    damaged = Path(shutil.copytree(newest(runs, "prune"), tmp_path / "run"))
    (damaged / "model.safetensors").write_bytes(b"nothing")
    assert "is damaged" in refused("predict", damaged, "x.jpg")
    (damaged / "bundle" / "model.onnx").write_bytes(b"nothing")
    assert "export it again" in refused("predict", damaged / "bundle", "x.jpg")


def listed() -> list[dict[str, Any]]:
    done = run("runs", "--json")
    assert done.exit_code == 0, done.output
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


SCORES = {"mean_accuracy": 1.0}
DEFAULTS: dict[str, dict[str, Any]] = {
    "train": {"metrics": SCORES},
    "prune": {"metrics": SCORES, "before": SCORES, "after": SCORES},
}


def make(place: Path, name: str, **facts: Any) -> Path:
    """A run without weights, as far as `runs` reads it."""
    step = facts.get("step") or name.split("-")[2]
    folder = place / name
    folder.mkdir(parents=True)
    (folder / "recipe.json").write_text(read_recipe(SHAPES).model_dump_json())
    (folder / "run.json").write_text(json.dumps({"id": name, "recipe": "shapes", **DEFAULTS.get(step, {}), **facts}))
    return folder


def test_runs_are_listed_with_metrics_and_lineage(place: Path) -> None:
    train, prune = listed()
    assert (train["step"], train["parent"], train["trained"], train["photos"]) == ("train", None, "full", 90)
    assert prune["parent"] == train["id"]
    assert prune["backbone"] == "smallnet"
    assert prune["packed"] == ["bundle"]
    assert prune["gate"] == "passed"
    known = json.loads((place / prune["id"] / "run.json").read_text())
    assert prune["mean_accuracy"] == known["metrics"]["mean_accuracy"]
    assert (prune["seconds"], prune["commit"]) == (known["seconds"], known["commit"])
    table = run("runs").stdout
    fits(table)
    assert f"└ {prune['id']}" in table
    assert f"{known['metrics']['mean_accuracy']:.1%}" in table


def test_a_child_stands_below_its_parent_and_the_newest_run_last(place: Path) -> None:
    for index in range(2):
        make(place, f"30000101-00000{index}-train", step="train")
    for index, parent in ((2, 0), (3, 2), (4, 9)):
        make(place, f"30000101-00000{index}-prune", step="prune", parent=f"30000101-00000{parent}-train")
    (place / "30000101-000002-prune").rename(place / "30000101-000002-train")
    names = [row["id"] for row in listed()]
    assert [name[9:] for name in names[2:]] == [
        f"00000{index}-{step}" for index, step in ((1, "train"), (0, "train"), (2, "train"), (3, "prune"), (4, "prune"))
    ]
    table = run("runs").stdout
    assert "\n└ 30000101-000002-train " in table
    assert "\n  └ 30000101-000003-prune " in table
    assert "\n30000101-000004-prune " in table
    assert "\n  of 30000101-000009-train " in table


def test_incomplete_runs_are_listed_as_incomplete(place: Path) -> None:
    for name in ("30000101-000000-train.partial", "30000101-000001-train.partial", "30000101-000002-train"):
        (place / name).mkdir()
    (place / "30000101-000000-train.partial" / CHECKPOINT).touch()
    make(place, "30000101-000003-train", metrics=[], data=7, seconds="?")
    make(place, "30000101-000004-crossvalidate", metrics={"a way": {"mean_accuracy": 1.0}}, summary="a way: 100%")
    states = {row["id"]: row["state"] for row in listed()}
    assert states["30000101-000000-train"] == "unfinished"
    assert "30000101-000001-train" not in states
    assert states["30000101-000002-train"] == states["30000101-000003-train"] == "damaged"
    assert states["30000101-000004-crossvalidate"] == "complete"
    table = run("runs").stdout
    assert "damaged" in table
    assert "100.0%" in table


def test_without_runs_the_message_names_the_train_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("runs", "--recipe", "shapes")
    assert done.exit_code == 0
    assert re.fullmatch(
        r"no run in \S*runs yet: create one with \S+ -m training train shapes --data PHOTOS\n", done.stderr
    )
    assert listed() == []


def test_two_runs_are_compared(place: Path) -> None:
    train, prune = newest(place, "train"), newest(place, "prune")
    changed = Path(shutil.copytree(train, place / "30000101-000000-train"))
    recipe = json.loads((changed / "recipe.json").read_text())
    recipe["train"]["epochs"] = 99
    (changed / "recipe.json").write_text(json.dumps(recipe))
    facts = json.loads((changed / "run.json").read_text())
    facts["validation"]["sha256"] = "0" * 64
    facts["packages"]["torch"] = "1.0"
    (changed / "run.json").write_text(json.dumps(facts))
    done = run("runs", "--compare", train.name, changed, "--json")
    rows = {row["key"]: row for row in json.loads(done.stdout)["rows"]}
    assert rows["recipe.train.epochs"]["values"] == [15, 99]
    assert rows["packages.torch"]["values"][1] == "1.0"
    assert {key for key, row in rows.items() if row["same"]} >= {"data", "mean_accuracy", "seconds"}
    assert not rows["validation"]["same"]
    assert {key for key, row in rows.items() if not row["same"]} == {
        "recipe.train.epochs", "packages.torch", "validation"
    }  # fmt: skip
    shown = run("runs", "--compare", train.name, changed.name)
    fits(shown.stdout)
    assert "recipe.train.epochs" in shown.stdout
    assert "validated on different photos" in shown.stderr
    assert "gate.passed" in run("runs", "--compare", train.name, prune / "bundle").stdout


def test_a_run_that_others_came_from_is_not_deleted(place: Path) -> None:
    train, prune = newest(place, "train"), newest(place, "prune")
    assert f"{prune.name} came from it: give --force" in refused("runs", "--delete", train.name, "--yes")
    make(place, "30000101-000000-sweep", step="sweep", rows=[{"run": prune.name}])
    assert "30000101-000000-sweep came from it" in refused("runs", "--delete", prune.name, "--yes")
    shutil.rmtree(place / "30000101-000000-sweep")
    shutil.copytree(prune / "bundle", Path("models") / "mine")
    assert "models/mine came from it" in refused("runs", "--delete", prune.name, "--yes")
    assert listed()[1]["packed"] == ["bundle", "models/mine"]
    shutil.rmtree("models")
    Path("model_store").mkdir()
    (Path("model_store") / "shapes-1.0.json").write_text(json.dumps({"name": "shapes", "run": prune.name}))
    assert "shapes-1.0 came from it" in refused("runs", "--delete", train.name, prune.name, "--yes")
    assert run("runs", "--delete", train.name, "--yes", "--force").exit_code == 0
    assert not train.exists()
    assert prune.is_dir()


def test_parent_and_child_go_together_when_a_person_agrees(place: Path) -> None:
    train, prune = newest(place, "train"), newest(place, "prune")
    declined = run("runs", "--delete", train.name, prune, answer="n\n")
    assert declined.exit_code == 1
    assert f"{prune.relative_to(place.parent.parent)} and the bundle in it" in declined.stdout
    assert train.is_dir()
    assert prune.is_dir()
    done = run("runs", "--delete", train.name, prune, answer="y\n")
    assert done.exit_code == 0, done.output
    assert list(place.iterdir()) == []
    assert (place.parent / "drawn" / "disc").is_dir()


def test_an_interrupted_deletion_leaves_no_half_run(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make(place, "30000101-000000-train")
    second = make(place, "30000101-000001-train")

    def interrupted(path: Path, **_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", interrupted)
        assert run("runs", "--delete", first.name, "--yes").exit_code == 1
    assert not first.exists()
    assert (place / f".{first.name}.deleted").is_dir()
    assert first.name not in {row["id"] for row in listed()}
    assert run("runs", "--delete", second.name, "--yes").exit_code == 0
    assert not list(place.glob(".*"))


def test_only_runs_are_deleted(place: Path, tmp_path: Path) -> None:
    outside = make(tmp_path / "elsewhere", "30000101-000000-train")
    (place / outside.name).symlink_to(outside)
    (place.parent / "linked").symlink_to(tmp_path / "elsewhere")
    (place / "mine").mkdir()
    assert "is a link" in refused("runs", "--delete", place / outside.name, "--yes", "--force")
    assert "is a link" in refused("runs", "--delete", f"runs/linked/{outside.name}", "--yes")
    assert "several recipes have a run " in refused("runs", "--delete", outside.name, "--yes")
    assert "is a link" in refused("runs", "--delete", outside, "--yes", "--force")
    others = ("mine", "..", ".", "runs/shapes", "runs/drawn/disc", f"runs/shapes/{outside.name}/..", SHIPPED)
    for word in others:
        assert "no run " in refused("runs", "--delete", word, "--yes", "--force")
    assert (outside / "run.json").is_file()


def test_a_run_in_the_making_is_not_deleted(place: Path) -> None:
    def work(folder: Path) -> Trained:
        (folder / CHECKPOINT).touch()
        assert "is being made" in refused("runs", "--delete", folder.stem, "--yes", "--force")
        return Trained(metrics=Metrics(mean_accuracy=1.0))

    make_run("train", read_recipe(SHAPES), place.parent, Inputs(), work)
    left = newest(place, "train")
    left.rename(left.with_name(f"{left.name}.partial"))
    (place / f"{left.name}.partial" / PROGRESS).touch()
    assert run("runs", "--delete", left.name, "--yes").exit_code == 0
    assert not list(place.glob("*.partial"))


def test_a_run_that_cannot_be_deleted_is_one_line(place: Path) -> None:
    run_folder = newest(place, "prune")
    (place / f".{run_folder.name}.deleted").write_text("a file in its way")
    assert "cannot be deleted" in refused("runs", "--delete", run_folder.name, "--yes")
    assert (run_folder / "run.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["x"], "add --compare A B, or --delete ID"),
        (["--compare", "x"], "needs two runs, 1 given"),
        (["--delete"], "needs the runs to delete"),
        (["--delete", "--compare", "a", "b"], "not both"),
        (["--recipe", "shape"], "did you mean shapes?"),
        (["--runs", "nowhere"], "nowhere is not a folder"),
        (["--compare", "a", "b"], "python -m training runs lists them"),
    ],
)
def test_an_error_is_reported_in_one_line(place: Path, arguments: list[str], words: str) -> None:
    assert words in refused("runs", *arguments)


def test_the_nearest_run_is_named(place: Path) -> None:
    name = newest(place, "prune").name
    assert f"did you mean {name}?" in refused("runs", "--delete", name[:-1], "--yes")
    (place / name / "run.json").write_text("{")
    assert "is damaged: compare complete runs" in refused("runs", "--compare", name, newest(place, "train").name)
