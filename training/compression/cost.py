"""What a model costs: parameters, multiply-accumulates, bytes, and the time of one photo."""

import statistics
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from config.recipe import Recipe
from handler import engine
from training.bundles.onnx_export import to_onnx
from training.models.classifier import Classifier


def blank(recipe: Recipe) -> torch.Tensor:
    """One black photo of the recipe's size: uint8 (1, channels, H, W)."""
    return torch.zeros(1, *recipe.input.shape, dtype=torch.uint8)


def cost(model: Classifier, recipe: Recipe) -> dict[str, float]:
    """Parameters, multiply-accumulates of one photo (zeros are multiplied too), megabytes of the weights as fp16."""
    count = sum(parameter.numel() for parameter in model.parameters())
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(blank(recipe))
    return {
        "parameters": count,
        "gigamacs": round(counter.get_total_flops() / 2 / 1e9, 3),
        "megabytes_f16": round(2 * count / 1e6, 2),
    }


def zipped_megabytes(model: Classifier) -> float:
    """The weights as fp16, compressed; the only figure that single zeros make smaller."""
    flat = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    return round(len(zlib.compress(flat.half().numpy().tobytes())) / 1e6, 2)


def latencies(models: Sequence[Classifier], recipe: Recipe) -> list[dict[str, float]]:
    """Median milliseconds of one photo in torch and in the recipe's engine (float graph), all models in turn."""
    photo = blank(recipe)
    pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = photo[0].numpy()
    with tempfile.TemporaryDirectory() as work:
        engines = []
        for number, model in enumerate(models):
            path = Path(work) / f"{number}.onnx"
            path.write_bytes(to_onnx(model, recipe).SerializeToString())
            engines.append(engine.load(path, recipe))
        calls = [lambda model=model: model(photo) for model in models]
        calls += [lambda run=run: run(pixels) for run in engines]
        medians = alternating(calls)
    return [
        {"milliseconds_torch": in_torch, f"milliseconds_{recipe.runtime.engine}": served}
        for in_torch, served in zip(medians[: len(models)], medians[len(models) :], strict=True)
    ]


def milliseconds(call: Callable[[], Any], rounds: int = 10) -> float:
    """Median time of a call, after two calls that warm up."""
    return alternating([call], rounds)[0]


@torch.no_grad()
def alternating(calls: Sequence[Callable[[], Any]], rounds: int = 10) -> list[float]:
    """Median milliseconds of calls that take turns, so that other load on the machine affects all of them equally."""
    durations: list[list[float]] = [[] for _ in calls]
    for number in range(rounds + 2):
        for call, taken in zip(calls, durations, strict=True):
            started = time.perf_counter()
            call()
            if number >= 2:
                taken.append(time.perf_counter() - started)
    return [round(statistics.median(taken) * 1000, 2) for taken in durations]
