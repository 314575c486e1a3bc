"""run.json: what a run was made from, what came out, and what its export measured.

A record is immutable: steps return their part, and `make_run` and `export` combine the parts.
`read_record` and `write_record` are the only reader and writer. Keys and their order on disk are those of the fields;
fields that a run does not have are left out. Files of former versions lack some fields, and are read nevertheless.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from common.errors import NotFound
from common.files import write_json
from common.words import number_of
from config.recipe import Recipe, from_saved
from training.data.selection import Fingerprint

RUN, RECIPE, GRAPH = "run.json", "recipe.json", "model.onnx"
CHANNEL = "channel"
"""`prune.method` of pruning that removes whole channels."""
Epoch = dict[str, Any]
"""An epoch's figures as they are logged: epoch, learning_rate, losses, accuracies, seconds."""


class Part(BaseModel):
    """Some keys of run.json, in order."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    def as_json(self) -> dict[str, Any]:
        """The keys that were set."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class Origin(Part):
    """Which run this is, and the code that made it. `arguments` names no path of this machine."""

    id: str
    step: str
    recipe: str = ""
    arguments: list[str] = []
    seed: int | None = None
    commit: str | None = None
    python: str = ""
    packages: dict[str, str] = {}


class Inputs(Part):
    """What a run is made from. With the recipe it decides which interrupted run the same command resumes.

    `members` are a sweep's (backbone, weights, mode), `skipped` the backbones that it cannot train with the reason;
    `split` is a digest of the folds. `scope_extra` are added photos that only the scope was fitted with, at the export.
    """

    parent: str | None = None
    data: Fingerprint | None = None
    validation: Fingerprint | None = None
    extra: Fingerprint | None = None
    outside: Fingerprint | None = None
    scope_extra: Fingerprint | None = None
    teacher: str | None = None
    taught_by: dict[str, Any] | None = None
    unlabelled: Fingerprint | None = None
    members: list[list[str]] | None = None
    skipped: dict[str, str] | None = None
    split: str | None = None


class Metrics(Part):
    """Scores on held-out photos: `training.evaluation.metrics.Scores.as_json`. `mean_accuracy` is balanced accuracy."""

    mean_accuracy: float
    mean_accuracy_95: tuple[float, float] | None = None
    accuracy: dict[str, float] = {}
    accuracy_95: dict[str, tuple[float, float]] = {}
    confusion: list[list[int]] = []
    labels: list[str] = []
    loss: float | None = None


class Flips(Part):
    """Two models on the same photos: answers that became wrong and that became right, and how far p moved.

    `mean_change` is the mean of |p after - p before| of each photo's label, 0 to 1; `net_flips` regressions - fixes.
    """

    photos: int
    regressions: int = Field(alias="lost")
    fixes: int = Field(alias="won")
    mean_change: float
    net_flips: int

    def __str__(self) -> str:
        regressions, fixes = number_of(self.regressions, "regression"), number_of(self.fixes, "fix", "fixes")
        return f"{regressions}, {fixes}, mean |dp| {self.mean_change:.4f}"


class GateResult(Part):
    """Whether a model may be packed: balanced accuracy and points lost to the unpruned model, with their limits."""

    passed: bool
    mean_accuracy: float | None = None
    least_mean_accuracy: float | None = None
    lost: float | None = None
    most_lost: float | None = None


class Passed(Part):
    """How many photos of a label or kind are in scope, with the 95 % interval of the share (Wilson)."""

    photos: int
    passed: int
    share: float
    share_95: tuple[float, float]


class ScopeFit(Part):
    """How well photos of no class are recognised, on photos of sources that the fit did not see.

    `kept`: shares in scope by label; `passed`: by kind of photos of no class. A photo below `threshold` is out of
    scope.
    """

    threshold: float
    auroc: float | None = None
    kept: dict[str, Passed] = {}
    passed: dict[str, Passed] = {}

    def __str__(self) -> str:
        kept, passed = (_total(groups) for groups in (self.kept, self.passed))
        return f"scope: AUROC {self.auroc}, {kept} photos of the classes are in scope, {passed} of no class pass"


def _total(groups: Mapping[str, Passed]) -> str:
    whole = groups.get("all") or next(iter(groups.values()), None)
    return f"{whole.passed} of {whole.photos}" if whole else "no"


class Measured(Part):
    """A model before or after pruning: accuracy on held-out photos, what was removed, size, times."""

    channels_removed: float | None = None
    mean_accuracy: float
    sparsity: float | None = None
    regressions: int | None = Field(None, alias="lost")
    fixes: int | None = Field(None, alias="won")
    mean_change: float | None = None
    net_flips: int | None = None
    parameters: int | None = None
    gigamacs: float | None = None
    megabytes_f16: float | None = None
    megabytes_f16_zipped: float | None = None
    within_bound: bool | None = None
    milliseconds_torch: float | None = None
    milliseconds_openvino: float | None = None
    milliseconds_onnxruntime: float | None = None


class Trained(Part):
    """The result of `train`."""

    parameters: int | None = None
    trained_parameters: int | None = None
    epochs: list[Epoch] = []
    metrics: Metrics
    scope: ScopeFit | None = None
    summary: str = ""


class PrunedWeights(Part):
    """The result of `prune` by single weights."""

    method: Literal["unstructured"] = "unstructured"
    epochs: list[Epoch] = []
    sparsity_by_layer: dict[str, float] = {}
    before: Measured
    after: Measured
    paired: Flips | None = None
    metrics: Metrics
    scope: ScopeFit | None = None
    summary: str = ""
    gate: GateResult | None = None


class PrunedChannels(Part):
    """The result of `prune` by channels: every step, and the one that was chosen (0: the unpruned model)."""

    method: Literal["channel"]
    before: Measured
    after: Measured
    chosen_step: int
    steps: list[Measured]
    epochs: list[Epoch] = []
    summary: str = ""
    metrics: Metrics
    scope: ScopeFit | None = None
    gate: GateResult | None = None


class Fold(Part):
    """One fold of cross-validation.

    Args:
        photos: indices of the tested photos.
        answers, unpruned: log-probabilities of shape (photos, classes) by condition, from the graph that would be
            served and from the float model before pruning.
    """

    photos: list[int]
    answers: dict[str, list[list[float]]]
    unpruned: dict[str, list[list[float]]]
    precision: str | None = None
    gate: GateResult | None = None
    temperature: float | None = None


class CrossValidated(Part):
    """The result of `crossvalidate`: scores and flips by condition."""

    folds: list[Fold] = []
    metrics: dict[str, Metrics]
    paired: dict[str, Flips] = {}
    summary: str = ""


class SweepRow(Part):
    """One training of a sweep; `accuracy` is balanced accuracy with its interval as text."""

    backbone: str = ""
    weights: str = ""
    run: str
    trained_parameters: int = 0
    parameters: int = 0
    epochs: int = 0
    seconds: float = 0.0
    mean_accuracy: float = 0.0
    accuracy: str = ""
    milliseconds: float = 0.0
    mode: str = ""


class Swept(Part):
    """The result of `train --sweep`."""

    rows: list[SweepRow]
    summary: str = ""


class Variant(Part):
    """An exported graph that was measured: accuracy, size, latency, and flips against the float graph."""

    mean_accuracy: float
    loss: float | None = None
    megabytes: float | None = None
    milliseconds_openvino: float | None = None
    milliseconds_onnxruntime: float | None = None
    regressions: int | None = Field(None, alias="lost")
    fixes: int | None = Field(None, alias="won")
    mean_change: float | None = None
    net_flips: int | None = None


class Exported(Part):
    """The result of `export`; metrics, summary and gate are those of the graph and replace the run's.

    `torch_difference` is the largest difference between two logits of graph and model; `shapes` are those of layers
    that pruning made narrower. `scope_threshold` belongs to the output `in_scope`.
    """

    precision: str
    variants: dict[str, Variant] = {}
    opset: int | None = None
    torch_difference: float | None = None
    int8: str | None = None
    shapes: dict[str, str] = {}
    temperature: float | None = None
    megabytes: float | None = None
    metrics: Metrics
    scope_threshold: float | None = None
    summary: str = ""
    gate: GateResult


ModelResult = Trained | PrunedWeights | PrunedChannels
Result = ModelResult | CrossValidated | Swept


@dataclass(frozen=True)
class RunRecord:
    """A complete run's run.json, or a bundle's, which also has `exported`."""

    origin: Origin
    inputs: Inputs
    result: Result
    seconds: float | None = None
    exported: Exported | None = None

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "RunRecord":
        """Parse run.json.

        Raises:
            ValueError: a key that its step always writes is missing or has a wrong type.
        """
        return cls(
            Origin.model_validate({"step": _step_of(content), **content}),
            Inputs.model_validate(content),
            _result_class(content).model_validate(content),
            content.get("seconds"),
            Exported.model_validate(content) if "precision" in content else None,
        )

    def as_json(self) -> dict[str, Any]:
        """The content of run.json."""
        seconds = {} if self.seconds is None else {"seconds": self.seconds}
        exported = self.exported.as_json() if self.exported else {}
        return {**self.origin.as_json(), **self.inputs.as_json(), **self.result.as_json(), **seconds, **exported}

    @property
    def id(self) -> str:
        return self.origin.id

    @property
    def step(self) -> str:
        return self.origin.step

    @property
    def summary(self) -> str:
        return self.exported.summary if self.exported else self.result.summary

    @property
    def gate(self) -> GateResult | None:
        return self.exported.gate if self.exported else getattr(self.result, "gate", None)

    @property
    def metrics(self) -> Metrics | None:
        """Scores on held-out photos; None for a run of several trainings."""
        if self.exported:
            return self.exported.metrics
        return self.result.metrics if isinstance(self.result, ModelResult) else None

    @property
    def model(self) -> ModelResult:
        """The result of a run that has a model.

        Raises:
            NotFound: it is a sweep or a cross-validation.
        """
        if not isinstance(self.result, ModelResult):
            raise NotFound(f"{self.id} has no model", "give a run of train or prune")
        return self.result

    @property
    def unpruned_accuracy(self) -> float:
        """The balanced accuracy that the gate compares with: the unpruned model's, or the run's if nothing is pruned.

        Raises:
            NotFound: as `model`.
        """
        model = self.model
        return model.metrics.mean_accuracy if isinstance(model, Trained) else model.before.mean_accuracy

    @property
    def epochs(self) -> list[Epoch]:
        return self.result.epochs if isinstance(self.result, ModelResult) else []

    @property
    def used_runs(self) -> list[str]:
        """Ids of the runs that this one came from: its parent, its teacher, the members of a sweep."""
        members = [row.run for row in self.result.rows] if isinstance(self.result, Swept) else []
        return [run for run in (self.inputs.parent, self.inputs.teacher, *members) if run]

    def with_scope(self, scope: ScopeFit, outside: Fingerprint, extra: Fingerprint) -> "RunRecord":
        """The record after the scope was fitted again: on other photos of no class, and other added ones."""
        inputs = self.inputs.model_copy(update={"outside": outside, "scope_extra": extra})
        return replace(self, inputs=inputs, result=self.result.model_copy(update={"scope": scope}))

    def with_export(self, exported: Exported) -> "RunRecord":
        """The record of a bundle that was made from this run."""
        return replace(self, exported=exported)


def read_record(folder: Path) -> RunRecord:
    """Read the run.json of a run or a bundle.

    Raises:
        NotFound: the folder is not a complete run.
    """
    try:
        return RunRecord.from_json(json.loads((folder / RUN).read_text(encoding="utf-8")))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise _incomplete(folder) from error


def write_record(folder: Path, record: RunRecord, recipe: Recipe) -> None:
    """Write run.json and recipe.json.

    Raises:
        OSError: they cannot be written.
    """
    write_json(folder / RECIPE, recipe.model_dump(mode="json"))
    write_json(folder / RUN, record.as_json())


def read_recipe_of(folder: Path) -> Recipe:
    """The recipe of a run or a bundle.

    Raises:
        NotFound: the folder is not a complete run.
    """
    try:
        return from_saved((folder / RECIPE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _incomplete(folder) from error


def _incomplete(folder: Path) -> NotFound:
    return NotFound(f"{folder} is not a complete run", "give a folder of runs/RECIPE/")


def _step_of(content: Mapping[str, Any]) -> str:
    """The step in a run's id, DATE-TIME-STEP, for records without the key."""
    return str(content.get("id", "")).split("-", 3)[2] if str(content.get("id", "")).count("-") >= 2 else ""


def _result_class(content: Mapping[str, Any]) -> type[Result]:
    step = content.get("step") or _step_of(content)
    if step == "prune":
        return PrunedChannels if content.get("method") == CHANNEL else PrunedWeights
    classes: dict[str, type[Result]] = {"train": Trained, "crossvalidate": CrossValidated, "sweep": Swept}
    if step not in classes:
        raise ValueError(f"unknown step {step}")
    return classes[step]
