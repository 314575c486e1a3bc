"""Export: calibrate a model, convert it to ONNX, and choose the fastest graph within the budget."""

import copy
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch

from common.console import note
from common.files import write_whole
from config.recipe import Recipe
from dataset.photos import Photo
from handler import engine
from training.bundles.onnx_export import INT8_OPSET, difference, opset, require_opset, store_as_fp16, to_onnx
from training.compression.cost import milliseconds
from training.compression.gate import budget_used, compare, gate
from training.compression.quantise import quantise, quantise_within, spread
from training.compression.scope import aligned
from training.evaluation.inference import predict_views
from training.evaluation.measure import measure
from training.evaluation.metrics import Scores, fit_temperature, score
from training.evaluation.predictor import served
from training.models.classifier import Classifier
from training.models.registry import build
from training.models.reshape import changed_shapes
from training.records.run import GRAPH, Exported, Metrics, Variant

FP16, INT8, MIXED = "fp16 weights, f32 arithmetic", "int8", "int8, some layers f32"
NO_INT8 = f"int8 is skipped: its scales per channel need export.opset {INT8_OPSET} or more"
SCOPE_PHOTOS = 64
"""Photos of the classes that show how much int8 moves the output `in_scope`."""
VIEWS = 8
"""Views of each held-out photo for the temperature: photos in use are harder than a few clean ones."""


def calibrated(model: Classifier, validation: Sequence[Photo], recipe: Recipe) -> Classifier:
    """A copy of a model with a temperature that is fitted on augmented views of the held-out photos."""
    model = copy.deepcopy(model)
    model.temperature.fill_(fit_temperature(*predict_views(model, validation, recipe, VIEWS)))
    return model


def export_model(
    model: Classifier,
    recipe: Recipe,
    training: Sequence[Photo],
    validation: Sequence[Photo],
    folder: Path,
    parent: float,
) -> Exported:
    """Write model.onnx into a folder.

    Args:
        parent: balanced accuracy of the unpruned model on the held-out photos, for the gate.

    Returns:
        what run.json records of the graph: precision, temperature, size, metrics, gate.

    Raises:
        OSError: it cannot be written.
    """
    model = calibrated(model, validation, recipe)
    graph = to_onnx(model, recipe)
    largest = difference(model, graph, recipe)
    note(f"opset {opset(graph)}; logits differ from torch by {largest:.2g} at most")
    chosen, variants = _choose(graph, recipe, training, validation, parent)
    finished = chosen.graph
    if model.scope is not None:
        finished = aligned(model, finished, recipe, spread([*training, *validation], SCOPE_PHOTOS))
    require_opset(finished, recipe.export.opset)
    write_whole(folder / GRAPH, finished.SerializeToString())
    return Exported(
        precision=chosen.name,
        variants=variants,
        opset=opset(chosen.graph),
        torch_difference=largest,
        **({"int8": NO_INT8} if recipe.export.int8 == "auto" and recipe.export.opset < INT8_OPSET else {}),
        shapes=changed_shapes(model, _without_pruning(recipe)),
        temperature=float(model.temperature),
        megabytes=round((folder / GRAPH).stat().st_size / 1e6, 2),
        metrics=Metrics.model_validate(chosen.scores.as_json()),
        **({} if model.scope is None else {"scope_threshold": round(float(model.scope.threshold), 6)}),
        summary=str(chosen.scores),
        gate=gate(chosen.scores.mean_accuracy, parent, recipe),
    )


def _without_pruning(recipe: Recipe) -> Classifier:
    """The recipe's network without values, for its shapes."""
    with torch.device("meta"):
        return build(recipe.backbone.model_copy(update={"weights": "none"}), len(recipe.labels), recipe.input)


@dataclass(frozen=True)
class Candidate:
    """A graph that may be served, with its log-probabilities on the held-out photos, scores, size and latency."""

    name: str
    graph: onnx.ModelProto
    logits: torch.Tensor
    scores: Scores
    megabytes: float
    milliseconds: float


def _choose(
    graph: onnx.ModelProto, recipe: Recipe, training: Sequence[Photo], validation: Sequence[Photo], parent: float
) -> tuple[Candidate, dict[str, Variant]]:
    """The fastest candidate that passes the gate within the budget, otherwise the float one; and all that were tried.

    The budget is `gate.max_loss` and `prune.most_flips`, compared with the float graph.
    """
    plain = _candidate(FP16, store_as_fp16(graph), recipe, validation)
    tried = [plain]

    def acceptable(candidate: Candidate) -> bool:
        passed = gate(candidate.scores.mean_accuracy, parent, recipe).passed
        return passed and budget_used(plain.logits, candidate.logits, validation, recipe) <= 1

    if recipe.export.int8 == "auto" and recipe.export.opset < INT8_OPSET:
        note(NO_INT8)
    elif recipe.export.int8 == "auto":
        tried.append(_candidate(INT8, quantise(graph, recipe, training), recipe, validation))
        if not acceptable(tried[-1]) and acceptable(plain):
            note("int8 in all layers exceeds the budget: layers are put back to float until it does not")
            mixed = quantise_within(graph, recipe, training, validation, plain.logits)
            tried.append(_candidate(MIXED, mixed, recipe, validation))
    chosen = tried[-1] if acceptable(tried[-1]) else plain
    variants = {candidate.name: _measured(candidate, plain, recipe, validation) for candidate in tried}
    for name, variant in variants.items():
        note(f"{name}: " + ", ".join(f"{key} {value}" for key, value in variant.model_dump(exclude_unset=True).items()))
    note(f"chosen: {chosen.name}")
    return chosen, variants


def _candidate(name: str, graph: onnx.ModelProto, recipe: Recipe, validation: Sequence[Photo]) -> Candidate:
    """Measure a graph in the recipe's engine."""
    photo = np.zeros(recipe.input.shape, np.uint8)
    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / GRAPH
        path.write_bytes(graph.SerializeToString())
        logits, _ = measure(recipe, served(path, recipe), validation)
        run = engine.load(path, recipe)
        scores = score(logits, validation, recipe.labels)
        megabytes = round(path.stat().st_size / 1e6, 2)
        return Candidate(name, graph, logits, scores, megabytes, milliseconds(lambda: run(photo)))


def _measured(candidate: Candidate, plain: Candidate, recipe: Recipe, validation: Sequence[Photo]) -> Variant:
    flips = compare(plain.logits, candidate.logits, validation)
    return Variant.model_validate(
        {
            "mean_accuracy": round(candidate.scores.mean_accuracy, 5),
            "loss": round(candidate.scores.loss, 5),
            "megabytes": candidate.megabytes,
            f"milliseconds_{recipe.runtime.engine}": candidate.milliseconds,
            **flips.as_json(),
        }
    )
