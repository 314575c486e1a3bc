"""Export a run as a bundle: what scripts/archive.sh packs.

    python -m training export runs/classroom/ID-prune --data PHOTOS --where open_licence=yes

writes runs/classroom/ID-prune/bundle (or --out): model.onnx in one file, uint8 in,
tempered logits out; recipe.json; goldens.json and its drawn photos; run.json with
the gate. The graph is quantised to int8 where the gate still holds on the held-out
photos, else its weights are stored as fp16 and computed in f32.
"""

import copy
import os
import tempfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from config.files import write_json, write_whole
from config.recipe import Recipe
from dataset.draw import draw
from dataset.photos import Photo
from handler import engine, goldens
from handler.image import preprocess
from training.backbones import Classifier
from training.evidence import measure
from training.loop import console, predict_views
from training.metrics import Scores, fit_temperature, score
from training.options import data_options, run_argument, split_of_run
from training.predict import served
from training.prune import gate
from training.runs import load_model
from training.timing import milliseconds

OPSET = 18
INT8, FP16 = "int8", "fp16 weights, f32 arithmetic"
VIEWS = 8  # of each held-out photo, for the temperature: the world's photos are harder than a few clean ones
GOLDEN_SEED = 900_000_000  # far from the seeds of `dataset sample`


@click.command(epilog="Example: python -m training export runs/shapes/ID-prune --data runs/drawn")
@run_argument
@data_options
@click.option("--out", type=click.Path(path_type=Path), help="The bundle's folder.  [default: RUN/bundle]")
def export(run: Path, data: tuple[Path, ...], where: tuple[str, ...], out: Path | None) -> None:
    """Export RUN as a bundle that scripts/archive.sh packs."""
    recipe, model, facts = load_model(run)
    training, validation = split_of_run(run, recipe, facts, data, where)
    target = out or run / "bundle"
    if target.exists():
        raise click.ClickException(f"{target} exists: remove it, or give another --out")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".bundle-") as work:
            folder = Path(work) / "bundle"
            folder.mkdir()
            facts |= export_model(model, recipe, training, validation, folder, unpruned(facts))
            draw_goldens(folder, recipe)
            write_json(folder / "run.json", facts)
            write_json(folder / "recipe.json", recipe.model_dump(mode="json"))
            folder.rename(target)
    except OSError as error:
        raise click.ClickException(f"{target} cannot be written: {error.strerror}: give --out FOLDER") from error
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
    model = copy.deepcopy(model)
    model.temperature.fill_(fit_temperature(*predict_views(model, validation, recipe, VIEWS)))
    plain = to_onnx(model, recipe)
    precision, found, measured = _store(folder / "model.onnx", plain, recipe, training, validation, parent)
    return {
        "precision": precision,
        "variants": measured,
        "opset": OPSET,
        "temperature": float(model.temperature),
        "megabytes": round((folder / "model.onnx").stat().st_size / 1e6, 2),
        "metrics": found.as_json(),
        "summary": str(found),
        "gate": gate(found.mean_accuracy, parent, recipe),
    }


def to_onnx(model: Classifier, recipe: Recipe) -> onnx.ModelProto:
    """One graph, weights inside: `input` uint8 (batch, 3, H, W) -> `logits` float32 (batch, classes)."""
    photos = torch.zeros(2, 3, recipe.input.height, recipe.input.width, dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / "model.onnx"
        program = torch.onnx.export(
            model.eval(),
            (photos,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["input"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
        assert program is not None
        program.save(str(path), external_data=False)
        graph = onnx.load(str(path))
    strip(graph)
    onnx.checker.check_model(graph)
    return graph


def strip(model: onnx.ModelProto) -> None:
    """Take out what the exporter notes of our source files: stack traces with the paths of this one machine."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def store_as_fp16(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Half the bytes: large float32 weights become fp16 constants that are cast back when the graph is loaded."""
    graph = copy.deepcopy(graph)
    casts, kept = [], []
    for tensor in graph.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or values.size < 1024:
            kept.append(tensor)
            continue
        kept.append(numpy_helper.from_array(values.astype(np.float16), f"{tensor.name}_fp16"))
        casts.append(helper.make_node("Cast", [f"{tensor.name}_fp16"], [tensor.name], to=TensorProto.FLOAT))
    del graph.graph.initializer[:]
    graph.graph.initializer.extend(kept)
    nodes = list(graph.graph.node)
    del graph.graph.node[:]
    graph.graph.node.extend([*casts, *nodes])
    onnx.checker.check_model(graph)
    return graph


def spread(photos: Sequence[Photo], count: int) -> list[Photo]:
    """So many photos (or all), evenly over the whole list: it is sorted by label, and every label must be seen."""
    count = min(count, len(photos))
    return [photos[index * len(photos) // count] for index in range(count)]


def quantise(graph: onnx.ModelProto, recipe: Recipe, photos: Sequence[Photo]) -> onnx.ModelProto:
    """Post-training int8 (QDQ) by NNCF, calibrated through the handler's preprocessing.

    The overflow fix halves the weights' range, so that CPUs without VNNI compute
    the same answers.
    """
    os.environ.setdefault("NNCF_CI", "ON")  # no telemetry
    import nncf

    chosen = spread(photos, recipe.export.calibration)

    def prepare(photo: Photo) -> dict[str, Any]:
        return {"input": preprocess(photo.path.read_bytes(), recipe.input, recipe.limits)[None]}

    quantised: onnx.ModelProto = nncf.quantize(
        graph,
        nncf.Dataset(chosen, prepare),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(chosen),
        advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE),
    )
    return quantised


def _store(
    path: Path,
    graph: onnx.ModelProto,
    recipe: Recipe,
    training: Sequence[Photo],
    validation: Sequence[Photo],
    parent: float,
) -> tuple[str, Scores, dict[str, Any]]:
    """Write the first variant that holds the gate, else the last.

    Returns:
        its name, its scores, and size and latency of every variant that was measured.
    """
    wanted = [FP16, INT8] if recipe.export.int8 == "auto" else [FP16]
    measured: dict[str, Any] = {}
    graphs, found = {}, {}
    for name in wanted:
        graphs[name] = quantise(graph, recipe, training) if name == INT8 else store_as_fp16(graph)
        write_whole(path, graphs[name].SerializeToString())
        logits, _ = measure(recipe, served(path, recipe), validation)
        found[name] = score(logits, validation, recipe.labels)
        measured[name] = _describe(path, recipe, found[name])
        console.print(name, ", ".join(f"{key} {value}" for key, value in measured[name].items()))
    chosen = next((n for n in reversed(wanted) if gate(found[n].mean_accuracy, parent, recipe)["passed"]), FP16)
    write_whole(path, graphs[chosen].SerializeToString())
    return chosen, found[chosen], measured


def _describe(path: Path, recipe: Recipe, found: Scores) -> dict[str, float]:
    run = engine.load(path, recipe)
    photo = np.zeros((3, recipe.input.height, recipe.input.width), np.uint8)
    return {
        "mean_accuracy": round(found.mean_accuracy, 5),
        "loss": round(found.loss, 5),
        "megabytes": round(path.stat().st_size / 1e6, 2),
        f"milliseconds_{recipe.runtime.engine}": milliseconds(lambda: run(photo)),
    }


def draw_goldens(folder: Path, recipe: Recipe) -> None:
    """Write goldens.json and its photos beside a graph."""
    run = engine.load(folder / "model.onnx", recipe)
    rows = [row for index in range(len(recipe.labels)) for row in _golden_rows(folder, recipe, run, index)]
    write_json(folder / goldens.FILE, rows)


def _golden_rows(folder: Path, recipe: Recipe, run: engine.Engine, index: int) -> list[dict[str, Any]]:
    """Draw photos of one label until enough are answered rightly and with the recipe's margin."""
    label = recipe.labels[index]
    rows: list[dict[str, Any]] = []
    if label not in recipe.drawn:
        raise click.ClickException(
            f"recipe {recipe.name} has no drawing for {label}: goldens need one, add it under drawn"
        )
    each = -(-recipe.goldens.count // len(recipe.labels))
    for attempt in range(200):
        buffer = BytesIO()
        draw(recipe.drawn[label], GOLDEN_SEED + attempt).save(buffer, "JPEG", quality=85)
        answer = run(preprocess(buffer.getvalue(), recipe.input, recipe.limits))
        second, first = np.sort(answer)[-2:]
        if answer.argmax() != index or first - second < recipe.goldens.margin:
            continue
        name = f"goldens/{index}_{len(rows)}.jpg"
        write_whole(folder / name, buffer.getvalue())
        rows.append({"photo": name, "label": label, "probabilities": [round(float(p), 6) for p in answer]})
        if len(rows) == each:
            return rows
    raise click.ClickException(
        f"only {len(rows)} of 200 drawn photos of {label} are answered with a margin of {recipe.goldens.margin}: "
        "train on drawn photos too (--extra)"
    )
