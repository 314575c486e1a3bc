"""A model -> its ONNX graph: uint8 in, tempered logits out, everything in one file."""

import copy
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from config.recipe import Recipe
from training.backbones import Classifier

OPSET = 18


def to_onnx(model: Classifier, recipe: Recipe) -> onnx.ModelProto:
    """One graph, weights inside: `input` uint8 (batch, channels, H, W) -> `logits` float32 (batch, classes)."""
    photos = torch.zeros(2, *recipe.input.shape, dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as work, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the exporter's, of torch's own names
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
