"""Build the package that the cloud serves: configuration, service, network, weights, preprocessing.

    model/
      config.json             what the platform reads: metrics, request and answer, packages to install
      customize_service.py    the class that the platform calls
      model.py                the network, from network.json and weights.pth (or network.pt2)
      recipe.json             the serving half of the recipe: labels, size, limits
      index_to_name.json      index -> label, for people
      handler/                image.py, errors.py, spec.py, decoding/: the preprocessing, unchanged

Format: ModelArts, "Specifications for Editing a Model Configuration File" and "Specifications for Writing Model
Inference Code". `model.py` and `customize_service.py` are the files of training/cloud/, unchanged.
"""

import importlib.util
import platform
import re
import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torchvision import models

import handler
from common.errors import CheckFailed
from common.files import write_json
from config.recipe import Recipe
from handler.spec import Spec
from training.evaluation.schemas import check
from training.models.classifier import Classifier

CLOUD = Path(__file__).parent
CODE = ("model.py", "customize_service.py")
HANDLER = ("__init__.py", "image.py", "errors.py", "spec.py")
PACKAGES = ("torch", "torchvision", "numpy", "pillow", "pydantic")
CLOSE = 1e-3
"""Largest difference of a logit from the order of additions, relative to the largest logit (or to one)."""


def build_package(folder: Path, recipe: Recipe, model: Classifier, metrics: Mapping[str, float]) -> None:
    """Write the package into an empty folder, and check that its network gives the model's logits.

    Args:
        model: calibrated, on the CPU.
        metrics: `f1`, `recall`, `precision`, `accuracy` on held-out photos, 0 to 1.

    Raises:
        CheckFailed: the network in the package gives other logits.
        OSError: the folder cannot be written.
    """
    (folder / "handler").mkdir(parents=True)
    for name in CODE:
        shutil.copyfile(CLOUD / name, folder / name)
    source = Path(str(handler.__file__)).parent
    for name in HANDLER:
        shutil.copyfile(source / name, folder / "handler" / name)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(source / "decoding", folder / "handler" / "decoding", ignore=ignored)
    spec = Spec.model_validate(recipe.model_dump(mode="json")).model_dump(mode="json")
    write_json(folder / "recipe.json", spec)
    write_json(folder / "index_to_name.json", {str(index): label for index, label in enumerate(recipe.labels)})
    content = config(recipe, metrics)
    check("config", content)
    write_json(folder / "config.json", content)
    _write_network(folder, recipe, model.eval())
    _verify(folder, recipe, model)


def config(recipe: Recipe, metrics: Mapping[str, float]) -> dict[str, Any]:
    """The content of config.json."""
    properties = {
        "predicted_label": {"type": "string", "enum": list(recipe.labels)},
        "scores": {
            "type": "array",
            "minItems": len(recipe.labels),
            "maxItems": len(recipe.labels),
            "items": {"type": "array", "prefixItems": [{"type": "string"}, {"type": "number"}]},
        },
        "error": {"type": "object", "required": ["code", "message"]},
    }
    shapes = [{"required": ["predicted_label", "scores"]}, {"required": ["error"]}]
    versions = [
        {"package_name": name, "package_version": _public(metadata.version(name)), "restraint": "EXACT"}
        for name in PACKAGES
    ]
    return {
        "model_algorithm": "image_classification",
        "model_type": "PyTorch",
        "runtime": "python" + ".".join(platform.python_version_tuple()[:2]),
        "metrics": {name: float(metrics[name]) for name in ("f1", "recall", "precision", "accuracy")},
        "apis": [
            {
                "url": "/",
                "method": "post",
                "request": {
                    "Content-type": "multipart/form-data",
                    "data": {"type": "object", "properties": {"images": {"type": "file"}}, "required": ["images"]},
                },
                "response": {
                    "Content-type": "application/json",
                    "data": {"type": "object", "properties": properties, "oneOf": shapes},
                },
            }
        ],
        "dependencies": [{"installer": "pip", "packages": versions}],
    }


def _public(version: str) -> str:
    """A version without its build (+cu130), because package indexes do not have it."""
    return re.sub(r"\+.*", "", version)


def _write_network(folder: Path, recipe: Recipe, model: Classifier) -> None:
    """A state dict if torchvision builds a network of this name and these shapes, else an exported program."""
    name = recipe.backbone.name
    facts = {
        "name": name,
        "head": model.head,
        "classes": len(recipe.labels),
        "mean": (model.scale.mean.flatten() / 255).tolist(),
        "std": (model.scale.std.flatten() / 255).tolist(),
        "pool": model.pool,
        "temperature": float(model.temperature),
    }
    if name in models.list_models(models):
        state: dict[str, Tensor] = model.network.state_dict()
        with torch.device("meta"):
            plain = _module(folder).Network(**facts).network.state_dict()
        if {key: value.shape for key, value in state.items()} == {key: value.shape for key, value in plain.items()}:
            torch.save(state, folder / "weights.pth")
            write_json(folder / "network.json", facts)
            return
    program = torch.export.export(model, (_photos(recipe),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it contains paths of this machine
    torch.export.save(program, folder / "network.pt2")
    write_json(folder / "network.json", {"program": "network.pt2"})


@torch.no_grad()
def _verify(folder: Path, recipe: Recipe, model: Classifier) -> None:
    photos = _photos(recipe)
    network = _module(folder).load(folder)
    place = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    logits = model(photos)
    difference = float((network(photos.to(place)).cpu() - logits).abs().max())
    if not difference < CLOSE * max(1.0, float(logits.abs().max())):
        raise CheckFailed(
            f"{folder}: its network differs from the model by {difference:.4f} in a logit", "report this bug"
        )


def _photos(recipe: Recipe) -> Tensor:
    """Two noise pictures, uint8."""
    return torch.randint(
        0, 256, (2, *recipe.input.shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def _module(folder: Path) -> ModuleType:
    """The package's own model.py."""
    spec = importlib.util.spec_from_file_location("cloud_model", folder / "model.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
