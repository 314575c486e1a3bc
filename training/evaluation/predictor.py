"""A run, a bundle or a graph as a function from one photo's pixels to its logits."""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image

from common.errors import InvalidInput, NotFound
from config.recipe import Recipe, with_threshold
from handler import engine
from handler.image import Pixels, open_photo, to_input
from training.evaluation.inference import answer_for_scope
from training.records.run import GRAPH, read_recipe_of
from training.records.weights import load_model

STAGES = ("decode", "resize", "inference")
T = TypeVar("T")


class Prediction(NamedTuple):
    """Logits or log-probabilities, shape (classes,), float32, on the CPU; in_scope 0 to 1, None without a scope."""

    logits: torch.Tensor
    in_scope: float | None = None


@dataclass(frozen=True)
class Infer:
    """uint8 (channels, H, W) -> logits or log-probabilities, shape (classes,).

    Args:
        answer: as this, with in_scope.
        has_scope: whether the model knows what is in scope.
    """

    answer: Callable[[Pixels], Prediction]
    has_scope: bool = False

    def __call__(self, pixels: Pixels) -> torch.Tensor:
        return self.answer(pixels).logits


def load_predictor(run: Path, device: str = "auto") -> tuple[Recipe, Infer, str]:
    """Load a run in PyTorch, or a bundle in the engine that serves it.

    Args:
        run: a folder of runs/RECIPE/, or a bundle (with model.onnx).
        device: `auto`, `cpu` or `cuda`; a bundle always runs on the CPU.

    Returns:
        its recipe; a function from one photo to its logits; the device: `cpu`, `cuda`, or `cpu (ENGINE)`.

    Raises:
        UserError: it is not a complete run, it cannot be loaded, or the device does not exist.
    """
    if (run / GRAPH).is_file():
        return _load_bundle(run, device)
    name = _device(device)
    recipe, model, _ = load_model(run)
    model.to(name)

    @torch.no_grad()
    def infer(pixels: Pixels) -> Prediction:
        batch = torch.from_numpy(pixels)[None].to(name)
        if model.scope is None:
            return Prediction(model(batch)[0].cpu())  # which also waits for the GPU
        output = answer_for_scope(model, batch)
        return Prediction(output.logits[0].cpu(), float(model.scope(output.features)))

    threshold = None if model.scope is None else round(float(model.scope.threshold), 6)
    return with_threshold(recipe, threshold), Infer(infer, model.scope is not None), name


def served(graph: Path, recipe: Recipe) -> Infer:
    """A graph in the recipe's engine, as it is served: pixels -> log-probabilities, shape (classes,)."""
    run = engine.load(graph, recipe)

    def infer(pixels: Pixels) -> Prediction:
        probabilities, in_scope = run.answer(pixels)
        return Prediction(torch.from_numpy(np.log(np.clip(probabilities, 1e-12, 1))), in_scope)

    return Infer(infer, run.has_scope)


def timed(data: bytes, recipe: Recipe, infer: Callable[[Pixels], T]) -> tuple[Image.Image, T, dict[str, float]]:
    """Predict one image file.

    Args:
        infer: an `Infer`, for the logits, or its `answer`.

    Returns:
        the photo upright, what `infer` gives, and the milliseconds of each stage and of all `together`.

    Raises:
        RequestError: the file is not a supported image.
    """
    marks = [time.perf_counter()]
    upright = open_photo(data, recipe.limits, recipe.input)
    marks.append(time.perf_counter())
    pixels = to_input(upright, recipe.input)
    marks.append(time.perf_counter())
    logits = infer(pixels)
    marks.append(time.perf_counter())
    durations = [(after - before) * 1000 for before, after in itertools.pairwise(marks)]
    stages = dict(zip((*STAGES, "together"), (*durations, sum(durations)), strict=True))
    return upright, logits, {stage: round(value, 2) for stage, value in stages.items()}


def _load_bundle(run: Path, device: str) -> tuple[Recipe, Infer, str]:
    if device == "cuda":
        raise InvalidInput(
            f"{run} is a bundle, and bundles run on the CPU, as in serving",
            "leave out --device, or give the run instead of the bundle",
        )
    recipe = read_recipe_of(run)
    try:
        infer = served(run / GRAPH, recipe)
    except RuntimeError as error:
        raise InvalidInput(f"{run}: {' '.join(str(error).split())[:200]}", "export it again") from error
    return recipe, infer, f"cpu ({recipe.runtime.engine})"


def _device(requested: str) -> str:
    present = torch.cuda.is_available()
    if requested == "cuda" and not present:
        raise NotFound("--device cuda: PyTorch finds no GPU here", "give --device cpu, or auto")
    return "cuda" if present and requested != "cpu" else "cpu"
