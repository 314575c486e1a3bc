"""run.json: files of every version are read, and written back with the same keys in the same order."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from common.errors import NotFound
from deploy.settings import ROOT
from training.compression import structured
from training.compression.structured import show
from training.experiments.sweep import as_table
from training.records import index
from training.records.run import (
    CrossValidated,
    Inputs,
    Measured,
    Metrics,
    Origin,
    PrunedChannels,
    PrunedWeights,
    RunRecord,
    SweepRow,
    Swept,
    Trained,
    read_record,
)

OLDEST = Path(__file__).parent / "records" / "oldest_bundle.json"
SHIPPED = ROOT / "models" / "classroom" / "run.json"
SCORES = {
    "mean_accuracy": 0.975,
    "mean_accuracy_95": [0.9, 0.99],
    "accuracy": {"a": 1.0, "b": 0.95},
    "accuracy_95": {"a": [0.9, 1.0], "b": [0.8, 0.99]},
    "confusion": [[20, 0], [1, 19]],
    "labels": ["a", "b"],
    "loss": 0.1,
}
GATE = {"passed": True, "mean_accuracy": 0.975, "least_mean_accuracy": 0.95, "lost": 0.0, "most_lost": 0.01}
PHOTOS = {"photos": {"a": 20, "b": 20}, "sources": 4, "sha256": "0" * 64}
FLIPS = {"photos": 40, "lost": 1, "won": 0, "mean_change": 0.01, "net_flips": 1}
EPOCHS = [{"epoch": 1, "learning_rate": 0.1, "training_loss": 0.5, "seconds": 1.5}]
STEP = {
    "channels_removed": 0.5,
    "mean_accuracy": 0.975,
    "lost": 1,
    "won": 0,
    "mean_change": 0.01,
    "net_flips": 1,
    "parameters": 1000,
    "gigamacs": 0.1,
    "megabytes_f16": 0.01,
    "within_bound": True,
    "milliseconds_torch": 1.0,
    "milliseconds_onnxruntime": 0.5,
}


def of_step(step: str, **content: Any) -> dict[str, Any]:
    """A run.json as the version before this one wrote it."""
    origin = {"id": f"20260101-000000-{step}", "step": step, "recipe": "shapes", "arguments": [step], "seed": 0}
    versions = {"commit": None, "python": "3.11.7", "packages": {"torch": "2.12.1"}}
    return {**origin, **versions, **content, "seconds": 3.5}


CONTENTS = {
    "train": of_step(
        "train",
        parent=None,
        data=PHOTOS,
        validation=PHOTOS,
        extra=PHOTOS,
        teacher="20260101-000000-train",
        unlabelled={**PHOTOS, "photos": 6},
        parameters=1000,
        trained_parameters=10,
        epochs=EPOCHS,
        metrics=SCORES,
        summary="97.5%",
    ),
    "channel": of_step(
        "prune",
        parent="20260101-000000-train",
        data=PHOTOS,
        validation=PHOTOS,
        extra=PHOTOS,
        method="channel",
        before=STEP,
        after=STEP,
        chosen_step=1,
        steps=[STEP],
        epochs=[{**EPOCHS[0], "step": 1}],
        summary="97.5%",
        metrics=SCORES,
        gate=GATE,
    ),
    "crossvalidate": of_step(
        "crossvalidate",
        data=PHOTOS,
        extra=PHOTOS,
        taught_by={"name": "classroom"},
        unlabelled={**PHOTOS, "photos": 6},
        split="0" * 16,
        folds=[
            {
                "photos": [0],
                "answers": {"as they are": [[0.0, -5.0]]},
                "unpruned": {"as they are": [[0.0, -5.0]]},
                "precision": "int8",
                "gate": GATE,
                "temperature": 1.5,
            }
        ],
        metrics={"as they are": SCORES},
        paired={"as they are": FLIPS},
        summary="as they are: 97.5%",
    ),
    "sweep": of_step(
        "sweep",
        data=PHOTOS,
        extra=PHOTOS,
        members=[["resnet18", "none", "full"]],
        rows=[
            {
                "backbone": "resnet18",
                "weights": "random",
                "run": "20260101-000000-train",
                "trained_parameters": 10,
                "parameters": 10,
                "epochs": 1,
                "seconds": 1.5,
                "mean_accuracy": 0.975,
                "accuracy": "97.5%",
                "milliseconds": 1.0,
                "mode": "full",
            }
        ],
        summary="1 training",
    ),
    "shipped bundle": json.loads(SHIPPED.read_text()),
    "oldest bundle": json.loads(OLDEST.read_text()),
    "bundle of a run that was not pruned": {
        **of_step("train", parent=None, data=PHOTOS, validation=PHOTOS, metrics=SCORES, summary="97.5%"),
        "precision": "fp16 weights, f32 arithmetic",
        "variants": {"int8": {"mean_accuracy": 0.975, "milliseconds_openvino": 1.0, "lost": 1, "won": 0}},
        "opset": 18,
        "shapes": {"conv.weight": "48x16x3x3"},
        "temperature": 1.5,
        "megabytes": 3.5,
        "gate": GATE,
    },
}


@pytest.mark.parametrize("name", CONTENTS)
def test_a_record_is_written_as_it_was_read(name: str) -> None:
    assert json.dumps(RunRecord.from_json(CONTENTS[name]).as_json()) == json.dumps(CONTENTS[name])


def test_the_oldest_bundle_means_the_same() -> None:
    record = RunRecord.from_json(CONTENTS["oldest bundle"])
    assert isinstance(record.result, PrunedWeights)
    assert (record.id, record.step, record.inputs.parent) == (
        "20261121-055301-prune", "prune", "20261121-055038-train",
    )  # fmt: skip
    assert record.unpruned_accuracy == 1.0
    assert record.result.after.sparsity == 0.45
    assert record.inputs.extra is None
    assert record.exported is not None and record.exported.shapes == {}


def test_the_result_depends_on_the_step() -> None:
    kinds = {name: type(RunRecord.from_json(content).result) for name, content in CONTENTS.items()}
    assert kinds["train"] is Trained
    assert kinds["channel"] is PrunedChannels
    assert kinds["crossvalidate"] is CrossValidated
    assert kinds["sweep"] is Swept
    assert kinds["shipped bundle"] is PrunedWeights


def test_a_run_is_compared_with_its_unpruned_parent() -> None:
    before = {**STEP, "mean_accuracy": 0.99}
    assert RunRecord.from_json({**CONTENTS["channel"], "before": before}).unpruned_accuracy == 0.99
    assert RunRecord.from_json(CONTENTS["train"]).unpruned_accuracy == 0.975
    with pytest.raises(NotFound, match="has no model"):
        _ = RunRecord.from_json(CONTENTS["sweep"]).unpruned_accuracy


def test_a_record_names_the_runs_that_it_needs() -> None:
    """Deleting one of these needs --force."""
    for name, runs in (
        ("train", ["20260101-000000-train"]),
        ("channel", ["20260101-000000-train"]),
        ("sweep", ["20260101-000000-train"]),
        ("crossvalidate", []),
    ):
        assert RunRecord.from_json(CONTENTS[name]).used_runs == runs


@pytest.mark.parametrize("content", ["{", "[]", '{"id": "x"}', '{"id": "20260101-000000-train", "metrics": []}'])
def test_a_damaged_record_is_not_a_complete_run(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(NotFound, match="is not a complete run: give a folder of runs/RECIPE/"):
        read_record(tmp_path)


def printed(width: int = 80) -> Console:
    return Console(width=width, file=io.StringIO(), record=True)


def test_the_tables_of_pruning_and_sweep_fit_into_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = {**STEP, "lost": 12, "won": 11, "megabytes_f16": 46.87, "gigamacs": 15.497, "milliseconds_torch": 123.45}
    rows = [Measured.model_validate({**wide, "milliseconds_onnxruntime": 123.45})] * 3
    console = printed()
    monkeypatch.setattr(structured, "err_console", console)
    show(rows)
    text = console.export_text()
    for word in (
        "removed",
        "accuracy",
        "regressions",
        "GMACs",
        "served",
        "12 and 11",
        "15.497",
        "123.45",
        "budget",
    ):
        assert word in text
    row = SweepRow(
        backbone="efficientnet_lite0",
        weights="ImageNet",
        run="x",
        trained_parameters=349_525_011,
        seconds=12345.6,
        accuracy="100.0% (97.5% to 100.0%)",
        milliseconds=1234.56,
        mode="frozen",
    )
    console = printed()
    console.print(as_table([row], {"mnist_net": "mnist_net takes 1 x 28 x 28: set input, or another backbone"}))
    text = console.export_text()
    for word in (
        "efficientnet_lite0",
        "349,525,011",
        "12345.6",
        "(97.5% to 100.0%)",
        "1234.56",
        "skipped",
        "mnist_net",
    ):
        assert word in text
    assert "…" not in text


def test_a_record_is_combined_not_changed() -> None:
    record = RunRecord(Origin(id="x", step="train"), Inputs(), Trained(metrics=Metrics(mean_accuracy=1.0)))
    with pytest.raises(AttributeError):
        record.seconds = 1.0  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        record.origin.id = "y"  # type: ignore[misc]


def test_runs_that_began_in_the_same_second_are_in_order() -> None:
    second = "20261127-161000-train"
    names = [
        f"{second}-10",
        f"{second}-2",
        second,
        "20261127-160959-train-3",
        "20261127-161000-prune",
        f"{second}.partial",
    ]
    expected = ["20261127-160959-train-3", second, f"{second}-2", f"{second}-10"]
    assert [path.name for path in index.of_step(map(Path, names), "train")] == expected
