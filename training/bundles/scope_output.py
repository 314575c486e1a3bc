"""The second output of a graph: the probability that the photo is in scope.

It is added to the graph that was chosen, behind the features of the last layer and of the middle, and behind the input
for the colours. So int8 leaves it alone, the logits stay what they were, and its few operations are in f32.
"""

import copy
import math
from collections.abc import Sequence
from itertools import count, takewhile
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from common.errors import InvalidInput
from config.recipe import SCOPE_OUTPUT
from training.bundles.onnx_export import MAPS
from training.models.scope import COLOUR_STEP, COLOUR_WEIGHT, LEVELS, NEARLY_GREY, Scope

_LAST = ("Gemm", "MatMul")
_QUANTISATION = ("QuantizeLinear", "DequantizeLinear")
_ATTRIBUTES: dict[str, dict[str, Any]] = {
    "Cast": {"to": TensorProto.FLOAT},
    "Concat": {"axis": 1},
    "LpNormalization": {"axis": 1, "p": 2},
}


def with_scope(graph: onnx.ModelProto, scope: Scope, pool: int) -> onnx.ModelProto:
    """A copy of a graph with the output `in_scope`, float32 (batch, 1).

    Args:
        pool: the model's.

    Raises:
        InvalidInput: the logits do not come from a linear layer.
    """
    graph = copy.deepcopy(graph)
    made = {name for node in graph.graph.node for name in node.output}
    maps = list(takewhile(made.__contains__, (f"{MAPS}{number}" for number in count())))
    nodes, tensors = _operations(graph.graph.input[0], COLOUR_STEP * pool, _features(graph), maps, scope)
    graph.graph.node.extend(nodes)
    graph.graph.initializer.extend(tensors)
    batch = graph.graph.output[0].type.tensor_type.shape.dim[0].dim_param or "batch"
    graph.graph.output.append(helper.make_tensor_value_info(SCOPE_OUTPUT, TensorProto.FLOAT, [batch, 1]))
    onnx.checker.check_model(graph)
    return graph


def _features(graph: onnx.ModelProto) -> str:
    """The name of the last linear layer's input, before it is quantised."""
    makers = {name: node for node in graph.graph.node for name in node.output}
    node = makers.get(graph.graph.output[0].name)
    while node is not None and node.op_type not in _LAST:
        node = makers.get(node.input[0])
    if node is None:
        raise InvalidInput("the graph has no linear layer before its logits", "train without --outside")
    name = node.input[0]
    while name in makers and makers[name].op_type in _QUANTISATION:
        name = makers[name].input[0]
    return str(name)


def _operations(
    photos: onnx.ValueInfoProto, step: int, last: str, maps: Sequence[str], scope: Scope
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """The nodes of `features_of` and of `Scope.forward`; some sums are products with ones, which every opset has.

    Args:
        photos, step: what `colours_of` gets.
        last, maps: the names of what `features_of` gets.
    """
    channels, components = scope.basis.shape
    planes, height, width = (size.dim_value for size in photos.type.tensor_type.shape.dim[1:])
    ones = torch.ones(max(channels, components, LEVELS), 1)
    values = {
        "weight": scope.weight,
        "mean": scope.mean,
        "basis": scope.basis,
        "scale": scope.scale.view(1),
        "bias": scope.bias.view(1),
        "ones_channels": ones[:channels],
        "ones_components": ones[:components],
        "ones_levels": ones[:LEVELS],
        "one": torch.ones(1),
        "bits": torch.tensor([1 / math.log(2)]),
        "levels": torch.arange(1, LEVELS + 1).view(1, -1, 1, 1),
        "nearly_grey": torch.tensor([NEARLY_GREY]),
        "colour_weight": torch.tensor([COLOUR_WEIGHT]),
    }
    steps = [
        ("LpNormalization", "last", "unit"),
        *(step for name in maps for step in _statistics(name)),
        *_colours(planes),
        ("Concat", "unit", *(f"{name}/unit" for name in maps), "colours", "features"),
        ("Sub", "features", "mean", "centred"),
        ("MatMul", "centred", "basis", "explained"),
        ("Mul", "explained", "explained", "explained_squares"),
        ("MatMul", "explained_squares", "ones_components", "inside"),
        ("Mul", "centred", "centred", "centred_squares"),
        ("MatMul", "centred_squares", "ones_channels", "all"),
        ("Sub", "all", "inside", "distance"),
        ("Mul", "distance", "scale", "scaled"),
        ("MatMul", "features", "weight", "linear"),
        ("Sub", "linear", "scaled", "difference"),
        ("Add", "difference", "bias", "logit"),
        ("Sigmoid", "logit", SCOPE_OUTPUT),
    ]

    def named(name: str) -> str:
        outside = {"photos": photos.name, "last": last, SCOPE_OUTPUT: SCOPE_OUTPUT}
        return outside.get(name, name if name.startswith(MAPS) else f"scope/{name}")

    nodes = [
        helper.make_node(kind, [named(n) for n in names[:-1]], [named(names[-1])], **_attributes(kind, names))
        for kind, *names in steps
    ]
    tensors = [
        numpy_helper.from_array(value.detach().numpy().astype(np.float32), named(name))
        for name, value in values.items()
    ]
    places = {
        "rows": np.arange(0, height, step),
        "columns": np.arange(0, width, step),
        **{f"plane{place}": np.array([place]) for place in range(planes)},
    }
    return nodes, tensors + [numpy_helper.from_array(value, named(name)) for name, value in places.items()]


def _attributes(kind: str, names: Sequence[str]) -> dict[str, Any]:
    if kind == "Gather":
        return {"axis": {"rows": 2, "columns": 3}.get(names[1], 1)}
    return _ATTRIBUTES.get(kind, {})


def _colours(planes: int) -> list[tuple[str, ...]]:
    """The steps of `colours_of`."""
    each = [f"seen{place}" for place in range(planes)]
    return [
        ("Gather", "photos", "rows", "some_rows"),
        ("Gather", "some_rows", "columns", "pixels"),
        ("Cast", "pixels", "seen"),
        *(("Gather", "seen", f"plane{place}", name) for place, name in enumerate(each)),
        ("Max", *each, "largest"),
        ("Min", *each, "smallest"),
        ("Sub", "largest", "smallest", "strength"),
        ("Add", "strength", "one", "strength_and_one"),
        ("Log", "strength_and_one", "nats"),
        ("Mul", "nats", "bits", "level"),
        ("Sub", "level", "levels", "from_level"),
        ("Abs", "from_level", "far"),
        ("Sub", "one", "far", "near"),
        ("Relu", "near", "at_level"),
        ("GlobalAveragePool", "at_level", "pooled_levels"),
        ("Flatten", "pooled_levels", "shares"),
        ("MatMul", "shares", "ones_levels", "coloured"),
        ("Add", "coloured", "nearly_grey", "most"),
        ("Div", "shares", "most", "parts"),
        ("Sqrt", "parts", "roots"),
        ("Mul", "roots", "colour_weight", "colours"),
    ]


def _statistics(maps: str) -> list[tuple[str, ...]]:
    """The steps of what `features_of` makes of the output of one layer in the middle."""
    return [
        ("GlobalAveragePool", maps, f"{maps}/pooled"),
        ("Flatten", f"{maps}/pooled", f"{maps}/means"),
        ("Mul", maps, maps, f"{maps}/squares"),
        ("GlobalAveragePool", f"{maps}/squares", f"{maps}/pooled_squares"),
        ("Flatten", f"{maps}/pooled_squares", f"{maps}/mean_squares"),
        ("Mul", f"{maps}/means", f"{maps}/means", f"{maps}/squared_means"),
        ("Sub", f"{maps}/mean_squares", f"{maps}/squared_means", f"{maps}/differences"),
        ("Relu", f"{maps}/differences", f"{maps}/variances"),
        ("Sqrt", f"{maps}/variances", f"{maps}/spreads"),
        ("Concat", f"{maps}/means", f"{maps}/spreads", f"{maps}/all"),
        ("LpNormalization", f"{maps}/all", f"{maps}/unit"),
    ]
