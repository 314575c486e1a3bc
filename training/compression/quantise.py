"""Post-training int8 (QDQ) of an ONNX graph by NNCF, calibrated through the handler's preprocessing.

Activations are symmetric: with an offset, OpenVINO 2026 leaves every convolution that reads a linear bottleneck in
float (measured, docs/log.md). The overflow fix halves the weights' range, so that CPUs without VNNI compute the same
answers.
"""

import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch

from config.recipe import Recipe
from dataset.photos import Photo
from handler.image import preprocess
from training.compression.gate import budget_used, compare
from training.evaluation.measure import measure
from training.evaluation.predictor import served
from training.records.run import GRAPH

os.environ.setdefault("NNCF_CI", "ON")  # no telemetry
TIE = 1e-3
"""Weight of mean |dp| next to the budget: of two graphs with the same flips, the closer one is better."""


def quantise(graph: onnx.ModelProto, recipe: Recipe, photos: Sequence[Photo]) -> onnx.ModelProto:
    """Quantise every layer that NNCF can, calibrated with `export.calibration` of these photos."""
    import nncf

    calibration, settings = _calibration(recipe, photos)
    quantised: onnx.ModelProto = nncf.quantize(graph, calibration, advanced_parameters=_advanced(), **settings)
    return quantised


def quantise_within(
    graph: onnx.ModelProto, recipe: Recipe, photos: Sequence[Photo], validation: Sequence[Photo], expected: torch.Tensor
) -> onnx.ModelProto:
    """As `quantise`, then put the costliest layers back to float until the budget holds (NNCF's accuracy control).

    The budget may still be exceeded in the end: measure the result.

    Args:
        validation: held-out photos, on which the budget is measured in the recipe's engine.
        expected: the float graph's logits for these, shape (photos, classes).
    """
    import nncf

    calibration, settings = _calibration(recipe, photos)
    restored: onnx.ModelProto = nncf.quantize_with_accuracy_control(
        graph,
        calibration,
        nncf.Dataset(list(range(len(validation))), lambda index: _input(validation[index], recipe)),
        _scorer(recipe, validation, expected),
        max_drop=1 + TIE,
        advanced_quantization_parameters=_advanced(),
        **settings,
    )
    return restored


def spread(photos: Sequence[Photo], count: int) -> list[Photo]:
    """At most `count` photos, evenly over the list. It is sorted by label, and every label must be included."""
    count = min(count, len(photos))
    return [photos[index * len(photos) // count] for index in range(count)]


def _calibration(recipe: Recipe, photos: Sequence[Photo]) -> tuple[Any, dict[str, Any]]:
    import nncf

    chosen = spread(photos, recipe.export.calibration)
    settings = {"preset": nncf.QuantizationPreset.PERFORMANCE, "subset_size": len(chosen)}
    return nncf.Dataset(chosen, lambda photo: _input(photo, recipe)), settings


def _advanced() -> Any:
    import nncf

    return nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE)


def _input(photo: Photo, recipe: Recipe) -> dict[str, Any]:
    return {recipe.export.input: preprocess(photo.path.read_bytes(), recipe.input, recipe.limits)[None]}


def _scorer(recipe: Recipe, validation: Sequence[Photo], expected: torch.Tensor) -> Any:
    """NNCF's validation function: 1 for the float graph, 0 where the budget is used up; and a score per photo."""

    def validate(graph: onnx.ModelProto, indices: Iterable[int]) -> tuple[float, list[float]]:
        chosen = list(indices)
        photos, before = [validation[index] for index in chosen], expected[chosen]
        with tempfile.TemporaryDirectory() as work:
            path = Path(work) / GRAPH
            path.write_bytes(graph.SerializeToString())
            after, _ = measure(recipe, served(path, recipe), photos)
        used = min(budget_used(before, after, photos, recipe), 1e6) + TIE * compare(before, after, photos).mean_change
        moved = (after.softmax(1) - before.softmax(1)).abs().amax(1)
        return 1 - used, [1 - float(value) for value in moved]

    return validate
