"""Export a run as a bundle: what scripts/archive.sh packs.

    python -m training export runs/classroom/ID-prune --data PHOTOS --where open_licence=yes

    python -m training export RUN --data PHOTOS --to models/pets --if-better

writes runs/classroom/ID-prune/bundle (or --out; or --to FOLDER: FOLDER/1, FOLDER/2 ..., one more than the last; with
--if-better only when it is more accurate than the last on the same held-out photos): model.onnx in one file, uint8 in,
tempered logits out; recipe.json; goldens.json and its drawn photos; labels.npy; run.json with
the gate. The graph is quantised to int8 where that keeps the gate and the bound of pruning (`gate.max_loss`,
`prune.most_flips`, against the float graph) on the held-out photos; else as many layers as keep it are; else its
weights are stored as fp16 and computed in f32.
"""

import copy
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import torch

from common.cli import command
from common.console import err_console
from common.errors import UserError
from common.files import write_json, write_whole
from config.recipe import Recipe
from dataset.photos import Photo
from handler import engine
from training.bundles.goldens import draw_goldens
from training.bundles.labels import LABELS, write_labels
from training.bundles.numbered import Rival, last_version
from training.bundles.onnx_export import INT8_OPSET, difference, opset, require_opset, store_as_fp16, to_onnx
from training.compression.gate import Paired, compare, gate, strain
from training.compression.quantise import quantise, quantise_within
from training.compression.timing import milliseconds
from training.evaluation.inference import predict_views
from training.evaluation.measure import measure
from training.evaluation.metrics import Scores, fit_temperature, score
from training.evaluation.predictor import served
from training.models.classifier import Classifier
from training.models.registry import build
from training.models.reshape import changed_shapes
from training.records.options import data_options, run_argument, split_of_run
from training.records.run import load_model

FP16, INT8, MIXED = "fp16 weights, f32 arithmetic", "int8", "int8, some layers f32"
NO_INT8 = f"int8 is left out: its scales by channel need export.opset {INT8_OPSET} or more"
VIEWS = 8  # of each held-out photo, for the temperature: the world's photos are harder than a few clean ones


@command(epilog="Example: python -m training export runs/shapes/ID-prune --data runs/drawn")
@run_argument
@data_options
@click.option("--out", type=click.Path(path_type=Path), help="The bundle's folder.  [default: RUN/bundle]")
@click.option(
    "--to", type=click.Path(file_okay=False, path_type=Path), help="Write the next version: FOLDER/1, FOLDER/2 ..."
)
@click.option("--if-better", is_flag=True, help="Only if it is more accurate than the last version in --to.")
def export(
    run: Path, data: tuple[Path, ...], where: tuple[str, ...], out: Path | None, to: Path | None, if_better: bool
) -> None:
    """Export RUN as a bundle that scripts/archive.sh packs."""
    if out and to:
        raise UserError("give --out or --to, not both: --to chooses the folder itself")
    if if_better and not to:
        raise UserError("--if-better compares with the last version: say where they are, --to FOLDER")
    recipe, model, facts = load_model(run)
    training, validation = split_of_run(run, recipe, facts, data, where)
    last = last_version(to) if to else 0
    rival = Rival.read(to / str(last), facts) if to and last and if_better else None
    target = to / str(last + 1) if to else out or run / "bundle"
    if target.exists():
        raise UserError(f"{target} exists: remove it, or give another --out")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".bundle-") as work:
            folder = Path(work) / "bundle"
            folder.mkdir()
            facts |= export_model(model, recipe, training, validation, folder, unpruned(facts))
            if rival:
                rival.refuse(facts)
            draw_goldens(folder, recipe)
            write_labels(folder / LABELS, recipe.labels)
            write_json(folder / "run.json", facts)
            write_json(folder / "recipe.json", recipe.model_dump(mode="json"))
            folder.rename(target)
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror}: give --out FOLDER") from error
    verdict = "passed" if facts["gate"]["passed"] else "FAILED: this bundle cannot be packed"
    click.echo(f"{target}: {facts['precision']}, {facts['megabytes']} MB, {facts['summary']}; gate {verdict}")


def unpruned(facts: dict[str, Any]) -> float:
    """The accuracy that a run is held to: its unpruned parent's, or its own where nothing was pruned."""
    return float(facts.get("before", facts["metrics"])["mean_accuracy"])


def export_model(
    model: Classifier,
    recipe: Recipe,
    training: Sequence[Photo],
    validation: Sequence[Photo],
    folder: Path,
    parent: float,
) -> dict[str, Any]:
    """Write the graph into a folder.

    Args:
        parent: mean of classes of the unpruned model on the held-out photos, for the gate.

    Returns:
        what run.json says of it: precision, temperature, size, metrics, gate.
    """
    model = tempered(model, validation, recipe)
    graph = to_onnx(model, recipe)
    far = difference(model, graph, recipe)
    err_console.print(f"opset {opset(graph)}; logits differ from torch by {far:.2g} at most")
    chosen, measured = _choose(graph, recipe, training, validation, parent)
    require_opset(chosen.graph, recipe.export.opset)
    write_whole(folder / "model.onnx", chosen.graph.SerializeToString())
    return {
        "precision": chosen.name,
        "variants": measured,
        "opset": opset(chosen.graph),
        "torch_difference": far,
        **({"int8": NO_INT8} if recipe.export.int8 == "auto" and recipe.export.opset < INT8_OPSET else {}),
        "shapes": changed_shapes(model, _unchanged(recipe)),
        "temperature": float(model.temperature),
        "megabytes": round((folder / "model.onnx").stat().st_size / 1e6, 2),
        "metrics": chosen.scores.as_json(),
        "summary": str(chosen.scores),
        "gate": gate(chosen.scores.mean_accuracy, parent, recipe),
    }


def _unchanged(recipe: Recipe) -> Classifier:
    with torch.device("meta"):
        return build(recipe.backbone.model_copy(update={"weights": "none"}), len(recipe.labels), recipe.input)


def tempered(model: Classifier, validation: Sequence[Photo], recipe: Recipe) -> Classifier:
    """A copy whose temperature is fitted on augmented views of the held-out photos."""
    model = copy.deepcopy(model)
    model.temperature.fill_(fit_temperature(*predict_views(model, validation, recipe, VIEWS)))
    return model


@dataclass(frozen=True)
class Variant:
    """A graph as it would be served, and what it answers on the held-out photos (log-probabilities)."""

    name: str
    graph: onnx.ModelProto
    logits: torch.Tensor
    scores: Scores
    facts: dict[str, float]


def _choose(
    graph: onnx.ModelProto, recipe: Recipe, training: Sequence[Photo], validation: Sequence[Photo], parent: float
) -> tuple[Variant, dict[str, Any]]:
    """The fastest variant that holds gate and bound, else the float one.

    Returns:
        it, and size, latency and flips of every variant that was measured.
    """
    plain = _variant(FP16, store_as_fp16(graph), recipe, validation)
    tried = [plain]

    def holds(variant: Variant) -> bool:
        passed: bool = gate(variant.scores.mean_accuracy, parent, recipe)["passed"]
        return passed and strain(plain.logits, variant.logits, validation, recipe) <= 1

    if recipe.export.int8 == "auto" and recipe.export.opset < INT8_OPSET:
        err_console.print(NO_INT8)
    elif recipe.export.int8 == "auto":
        tried.append(_variant(INT8, quantise(graph, recipe, training), recipe, validation))
        if not holds(tried[-1]) and holds(plain):
            err_console.print("int8 in all layers breaks the bound: layers are put back to float until it holds")
            mixed = quantise_within(graph, recipe, training, validation, plain.logits)
            tried.append(_variant(MIXED, mixed, recipe, validation))
    chosen = tried[-1] if holds(tried[-1]) else plain
    measured = {}
    for variant in tried:
        flips = compare(plain.logits, variant.logits, validation)
        measured[variant.name] = {**variant.facts, **_told(flips)}
        err_console.print(variant.name, ", ".join(f"{key} {value}" for key, value in measured[variant.name].items()))
    err_console.print(f"taken: {chosen.name}")
    return chosen, measured


def _told(flips: Paired) -> dict[str, Any]:
    return {name: value for name, value in flips.as_json().items() if name != "photos"}


def _variant(name: str, graph: onnx.ModelProto, recipe: Recipe, validation: Sequence[Photo]) -> Variant:
    """Measure a graph in the recipe's engine."""
    photo = np.zeros(recipe.input.shape, np.uint8)
    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / "model.onnx"
        path.write_bytes(graph.SerializeToString())
        logits, _ = measure(recipe, served(path, recipe), validation)
        run = engine.load(path, recipe)
        found = score(logits, validation, recipe.labels)
        facts = {
            "mean_accuracy": round(found.mean_accuracy, 5),
            "loss": round(found.loss, 5),
            "megabytes": round(path.stat().st_size / 1e6, 2),
            f"milliseconds_{recipe.runtime.engine}": milliseconds(lambda: run(photo)),
        }
    return Variant(name, graph, logits, found, facts)
