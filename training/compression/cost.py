"""What a model costs: parameters, multiply-accumulates, bytes, and the time of one photo."""

import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from config.recipe import Recipe
from handler import engine
from training.bundles.onnx_export import to_onnx
from training.compression.timing import alternating
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
    """The weights as fp16, compressed: single zeros show here and nowhere else."""
    flat = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    return round(len(zlib.compress(flat.half().numpy().tobytes())) / 1e6, 2)


def times(models: Sequence[Classifier], recipe: Recipe) -> list[dict[str, float]]:
    """Median milliseconds of one photo in torch and in the recipe's engine (the float graph), all models in turn."""
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
        found = alternating(calls)
    return [
        {"milliseconds_torch": own, f"milliseconds_{recipe.runtime.engine}": served}
        for own, served in zip(found[: len(models)], found[len(models) :], strict=True)
    ]
