"""A model -> the package that the cloud serves: config.json, customize_service.py, model.py, weights, preprocessing.

    model/
      config.json             what the platform reads: metrics, request and answer, packages to install
      customize_service.py    the class that it calls
      model.py                the network; network.json and weights.pth (or network.pt2) beside it
      recipe.json             the serving half of the recipe: labels, size, limits
      index_to_name.json      the labels by index, for people
      handler/                image.py, errors.py, spec.py: our preprocessing, as the files that they are

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
from common.errors import UserError
from common.files import write_json
from config.recipe import Recipe
from handler.spec import Spec
from training.evaluation.schemas import check
from training.models.classifier import Classifier
from training.models.registry import BACKBONES

CLOUD = Path(__file__).parent
CODE = ("model.py", "customize_service.py")
HANDLER = ("__init__.py", "image.py", "errors.py", "spec.py")
PACKAGES = ("torch", "torchvision", "numpy", "pillow", "pydantic")
CLOSE = 1e-3
"""Largest difference of two logits of one network: the order of additions."""


def build_package(folder: Path, recipe: Recipe, model: Classifier, metrics: Mapping[str, float]) -> None:
    """Write the package into an empty folder, and ask its network whether it answers as the model does.

    Args:
        model: on the CPU, tempered.
        metrics: `f1`, `recall`, `precision`, `accuracy` on held-out photos, 0 to 1.

    Raises:
        UserError: the network in the package answers otherwise.
        OSError: it cannot be written.
    """
    (folder / "handler").mkdir(parents=True)
    for name in CODE:
        shutil.copyfile(CLOUD / name, folder / name)
    for name in HANDLER:
        shutil.copyfile(Path(str(handler.__file__)).parent / name, folder / "handler" / name)
    spec = Spec.model_validate(recipe.model_dump(mode="json")).model_dump(mode="json")
    write_json(folder / "recipe.json", spec)
    write_json(folder / "index_to_name.json", {str(index): label for index, label in enumerate(recipe.labels)})
    content = config(recipe, metrics)
    check("config", content)
    write_json(folder / "config.json", content)
    _write_network(folder, recipe, model.eval())
    _prove(folder, recipe, model)


def config(recipe: Recipe, metrics: Mapping[str, float]) -> dict[str, Any]:
    """What config.json says."""
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
    """A version without the build (2.12.1+cu130), which no package index knows."""
    return re.sub(r"\+.*", "", version)


def _write_network(folder: Path, recipe: Recipe, model: Classifier) -> None:
    """As a state dict where torchvision has a network of this name and these shapes, else as an exported program."""
    entry, name = BACKBONES[recipe.backbone.name], recipe.backbone.name
    facts = {
        "name": name,
        "head": entry.head,
        "classes": len(recipe.labels),
        "mean": list(entry.mean),
        "std": list(entry.std),
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
        node.meta.pop("stack_trace", None)  # names the source files of this one machine
    torch.export.save(program, folder / "network.pt2")
    write_json(folder / "network.json", {"program": "network.pt2"})


@torch.no_grad()
def _prove(folder: Path, recipe: Recipe, model: Classifier) -> None:
    photos = _photos(recipe)
    network = _module(folder).load(folder)
    place = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    difference = float((network(photos.to(place)).cpu() - model(photos)).abs().max())
    if not difference < CLOSE:
        raise UserError(f"{folder}: its network answers otherwise, by {difference:.4f}: this is a bug")


def _photos(recipe: Recipe) -> Tensor:
    """Two noise pictures, uint8."""
    return torch.randint(
        0, 256, (2, *recipe.input.shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def _module(folder: Path) -> ModuleType:
    """The package's own model.py."""
    found = importlib.util.spec_from_file_location("cloud_model", folder / "model.py")
    assert found and found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module
