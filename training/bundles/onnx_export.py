"""Export a model as an ONNX graph: uint8 in, calibrated logits out, everything in one file."""

import copy
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from common.errors import CheckFailed, InvalidInput
from config.recipe import Export, Recipe
from dataset.draw import DRAWINGS, draw
from handler.image import fit, to_array
from training.models.classifier import Classifier

DYNAMO_OPSET = 18
"""The lowest opset of torch's newer exporter; lower ones need the older, tracing exporter."""
INT8_OPSET = 13
"""The lowest opset in which QuantizeLinear has a scale per channel."""
TOLERANCE = 1e-3
"""Largest relative difference of a logit between graph and PyTorch, both in f32."""


MAPS = "scope/maps"
"""Begins the names of the tensors of a graph that are the outputs of `Classifier.middle`."""


class _WithMaps(nn.Module):
    """Photos -> logits, and the outputs of the layers in the middle."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, photos: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with self.model.watched() as maps:
            logits = self.model(photos)
        return logits, *maps


def to_onnx(model: Classifier, recipe: Recipe) -> onnx.ModelProto:
    """One graph, weights inside: uint8 (batch, channels, H, W) -> float32 (batch, classes), named as the recipe says.

    If the model's scope sees layers in the middle of the network, their outputs are called MAPS with their number.

    Raises:
        InvalidInput: PyTorch cannot export this network at this opset.
    """
    photos = torch.zeros(2, *recipe.input.shape, dtype=torch.uint8)
    middle = model.middle if model.scope is not None else ()
    seen = _WithMaps(model) if middle else model
    outputs = [recipe.export.output, *(f"{MAPS}{number}" for number in range(len(middle)))]
    export = _export_traced if recipe.export.opset < DYNAMO_OPSET else _export
    with tempfile.TemporaryDirectory() as work, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # about names inside torch
        warnings.simplefilter("ignore", DeprecationWarning)  # about the older exporter
        path = Path(work) / "model.onnx"
        try:
            export(seen.eval(), photos, path, recipe.export, outputs)
        except Exception as error:  # the exporters raise nearly every built-in exception, and several of their own
            reason = " ".join(str(error).split())[:200]
            raise InvalidInput(
                f"{recipe.backbone.name} cannot be written at opset {recipe.export.opset} ({reason})",
                f"set export.opset to {DYNAMO_OPSET}",
            ) from error
        graph = onnx.load(str(path))
    del graph.graph.output[1:]  # MAPS stay tensors inside the graph
    strip(graph)
    onnx.checker.check_model(graph)
    require_opset(graph, recipe.export.opset)
    return graph


def opset(graph: onnx.ModelProto) -> int:
    """The version of ONNX's standard operators that a graph uses."""
    return int(max((entry.version for entry in graph.opset_import if entry.domain in ("", "ai.onnx")), default=1))


def require_opset(graph: onnx.ModelProto, expected: int) -> None:
    """Refuse a graph of another opset than the recipe's: exporters raise the opset silently if they must.

    Raises:
        InvalidInput: names both.
    """
    if opset(graph) != expected:
        problem = f"the graph came out at opset {opset(graph)}, not {expected}"
        raise InvalidInput(problem, f"set export.opset to {opset(graph)}")


def difference(model: Classifier, graph: onnx.ModelProto, recipe: Recipe) -> float:
    """The largest |graph - PyTorch| of a logit, on a batch of three drawn photos, with ONNX Runtime on the CPU.

    Raises:
        CheckFailed: it is above TOLERANCE times the largest logit (or one, if that is larger).
    """
    import onnxruntime

    size = recipe.input
    photos = np.stack([to_array(fit(draw(kind, 0), size)) for kind in sorted(DRAWINGS)[:3]])
    with torch.no_grad():
        expected = model.eval()(torch.from_numpy(photos)).numpy()
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    logits = session.run([recipe.export.output], {recipe.export.input: photos})[0]
    far = float(np.abs(logits - expected).max())
    if not far <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
        problem = f"the graph differs from torch by {far:.2g} in a logit"
        raise CheckFailed(problem, "export it at another opset (export.opset)")
    return far


def _export(model: nn.Module, photos: torch.Tensor, path: Path, export: Export, outputs: list[str]) -> None:
    program = torch.onnx.export(
        model,
        (photos,),
        dynamo=True,
        opset_version=export.opset,
        input_names=[export.input],
        output_names=outputs,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    assert program is not None
    program.save(str(path), external_data=False)


def _export_traced(model: nn.Module, photos: torch.Tensor, path: Path, export: Export, outputs: list[str]) -> None:
    torch.onnx.export(
        model,
        (photos,),
        str(path),
        dynamo=False,
        opset_version=export.opset,
        input_names=[export.input],
        output_names=outputs,
        dynamic_axes={name: {0: "batch"} for name in (export.input, *outputs)},
    )


def strip(model: onnx.ModelProto) -> None:
    """Remove the exporter's stack traces, because they contain paths of this machine."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def store_as_fp16(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Halve the size: large float32 weights become fp16 constants that are cast back when the graph is loaded."""
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
