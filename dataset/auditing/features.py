"""Describe photos by what a bundle's network sees in them, to find photos of the same room or call.

The description is the mean, over the picture, of the maps before the network's last convolution. What the last layer
sees knows more of the classes and less of the place; earlier maps know colours and edges (docs/benchmarks.md).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.progress import track

from common.console import err_console
from common.errors import InvalidInput, NotFound
from handler.errors import RequestError
from handler.image import preprocess
from handler.spec import Spec, read_spec

Features = npt.NDArray[np.float32]


def describe(paths: Sequence[Path], bundle: Path) -> Features:
    """Describe photos, with a progress bar.

    Args:
        bundle: a folder with `model.onnx` and `recipe.json`. Its classes do not matter.

    Returns:
        shape (photos, features): standardised over the photos, each row of length 1; zeros for an unreadable photo.

    Raises:
        UserError: the bundle cannot be used.
    """
    spec = _spec(bundle)
    run = _network(bundle / "model.onnx")
    rows = [_of_one(path, spec, run) for path in track(paths, "describing", console=err_console, transient=True)]
    width = max((len(row) for row in rows), default=0)
    known = np.array([len(row) > 0 for row in rows], bool)
    features = np.zeros((len(rows), width), np.float32)
    if known.any():
        features[known] = standardised(np.stack([row for row in rows if len(row)]))
    return features


def standardised(rows: Features) -> Features:
    """Scale features to mean 0 and deviation 1 over the photos, and rows to length 1. Shape (photos, features)."""
    scaled = (rows - rows.mean(0)) / (rows.std(0) + 1e-6)
    return np.asarray(scaled / np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), 1e-6), np.float32)


def _of_one(path: Path, spec: Spec, run: Any) -> Features:
    try:
        pixels = preprocess(path.read_bytes(), spec.input, spec.limits)
    except (OSError, RequestError):
        return np.zeros(0, np.float32)
    maps = run(pixels[None])
    return np.asarray(maps.mean((0, 2, 3)), np.float32)


def _spec(bundle: Path) -> Spec:
    if not (bundle / "model.onnx").is_file():
        raise NotFound(f"{bundle} has no model.onnx", "give a bundle with --model, or use --from hashes")
    try:
        return read_spec(bundle / "recipe.json")
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{bundle}: {' '.join(str(error).split())}", "give another bundle with --model") from error


def _network(graph: Path) -> Any:
    """A function: uint8 (1, channels, H, W) -> the maps before its last convolution, float32 (1, features, h, w)."""
    import onnx  # imported here: these take a second
    import onnxruntime

    model = onnx.load(graph)
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    if len(convolutions) < 2:
        raise InvalidInput(f"{graph} has no two convolutions", "give another bundle with --model, or use --from hashes")
    chosen = convolutions[-2].output[0]
    del model.graph.output[:]  # what only later outputs need is not computed
    model.graph.output.append(onnx.helper.make_tensor_value_info(chosen, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda pixels: session.run([chosen], {name: pixels})[0]
