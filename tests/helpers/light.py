"""A model for tests of the server around it: nobody trains it, and its worker starts in a fifth of the time.

Its graph tells the colour of a photo. Its archive contains a module `torch` that has only what TorchServe's worker
imports, and the worker finds it first: importing the real torch is nine tenths of a worker's start, and this model
computes nothing with it. The tests in tests/e2e/server, test_serve.py and test_deploy_examples.py start workers with
the real one, and so does test_siblings.py for the recipes that need it.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from filelock import FileLock
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from benchmarks.harness.versions import copy_as
from common.files import write_json, write_whole
from config.recipe import Recipe, read_recipe
from deploy.archive import pack
from deploy.settings import ROOT
from handler import engine, goldens

STAND_IN = "stand-in"
"""Folder of a bundle: its content is added to the root of the archive."""

TORCH = """
import contextlib, types

__version__ = "2.0"
Tensor = type("Tensor", (), {})
cuda = types.SimpleNamespace(is_available=lambda: False)
inference_mode = no_grad = contextlib.nullcontext


def set_num_threads(count):
    pass
"""
PROFILER = "ProfilerActivity = profile = record_function = None\n"
BRIGHTNESS = (255, 225, 195)
LATENCY_RATIO = 5.0


def write_light_bundle(folder: Path, name: str = "shapes") -> Path:
    """A bundle of the recipe `shapes`, under any name, that tells red, green and blue photos apart."""
    recipe = read_recipe(ROOT / "config" / "recipes" / "shapes.yaml")
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(_graph(recipe), folder / "model.onnx")
    _write_goldens(folder, recipe)
    content = recipe.model_dump(mode="json")
    content["name"] = name
    content["rollout"]["latency_ratio"] = LATENCY_RATIO  # other tests use the same cores
    write_json(folder / "recipe.json", content)
    facts = {"id": "light", "metrics": {"mean_accuracy": 1.0}, "gate": {"passed": True}, "precision": "f32"}
    write_json(folder / "run.json", facts)
    _write_stand_in(folder / STAND_IN)
    return folder


def write_coloured_photos(folder: Path, count: int = 12) -> Path:
    """Label folders of photos that the light model classifies correctly, `count` for each label."""
    for index, label in enumerate(read_recipe(ROOT / "config" / "recipes" / "shapes.yaml").labels):
        for number in range(count):
            write_whole(folder / label / f"{number}.jpg", _photo(index, 255 - 5 * number))
    return folder


def pack_quickly(bundle: Path, version: str, store: Path) -> Path:
    """As `deploy.archive.pack`, which packs the bundle only once: further versions are copies of that archive."""
    first = bundle.parent / f"{bundle.name}-packed"
    with FileLock(f"{first}.lock"):
        if not first.exists():
            pack(bundle, "1.0", bundle.parent / f"{bundle.name}-packing")
            (bundle.parent / f"{bundle.name}-packing").rename(first)
    (mar,) = first.glob("*.mar")
    store.mkdir(parents=True, exist_ok=True)
    return copy_as(mar, version, store, bundle / STAND_IN)


def pack_without_torch(bundle: Path, version: str, store: Path, folder: Path) -> Path:
    """An archive of any bundle with the stand-in for torch, unless its photos are stretched: torch does that."""
    _write_stand_in(folder / STAND_IN)
    return copy_as(pack(bundle, "1.0", folder), version, store, folder / STAND_IN)


def _write_stand_in(folder: Path) -> None:
    write_whole(folder / "torch" / "__init__.py", TORCH.encode())
    write_whole(folder / "torch" / "profiler.py", PROFILER.encode())


def _graph(recipe: Recipe) -> onnx.ModelProto:
    """Logits: eight times the mean of each colour channel, 0 to 1."""
    scale = numpy_helper.from_array(np.array(8 / 255, np.float32), "scale")
    nodes = [
        helper.make_node("Cast", ["photo"], ["levels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["levels"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("Mul", ["means", "scale"], ["logits"]),
    ]
    photo = helper.make_tensor_value_info("photo", TensorProto.UINT8, ["n", *recipe.input.shape])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", len(recipe.labels)])
    graph = helper.make_graph(nodes, "light", [photo], [logits], [scale])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _write_goldens(folder: Path, recipe: Recipe) -> None:
    run = engine.from_bytes(engine.load(folder / "model.onnx", recipe), recipe)
    rows: list[dict[str, Any]] = []
    for index, label in enumerate(recipe.labels):
        for number, level in enumerate(BRIGHTNESS):
            name, data = f"goldens/{index}_{number}.jpg", _photo(index, level)
            write_whole(folder / name, data)
            rows.append(
                {"photo": name, "label": label, "probabilities": [round(float(p), 6) for p in run(data).probabilities]}
            )
    write_json(folder / goldens.FILE, rows)


def _photo(channel: int, level: int) -> bytes:
    colour = [0, 0, 0]
    colour[channel] = level
    buffer = io.BytesIO()
    Image.new("RGB", (160, 120), tuple(colour)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
