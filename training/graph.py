"""Show a graph: as readable text, and as a picture.

    python -m training graph runs/scenes11/ID-train/bundle
    python -m training graph dog25_model.onnx --out pictures

prints what goes in and out, and writes graph.txt (every node and the shape of every weight, by ONNX's own printer)
and graph.svg (the nodes that a photo passes, from top to bottom; weights and their casts are left out). The picture
is laid out by networkx and drawn by matplotlib: no system package is needed.
"""

import io
from pathlib import Path
from typing import Any

import click
import matplotlib
import networkx
import onnx
from matplotlib.figure import Figure

from common.cli import command
from common.errors import UserError
from common.files import write_whole
from training.bundles.onnx_export import opset

ROW, COLUMN = 0.55, 2.6
"""Inches from node to node, downwards and sideways."""


@command(epilog="Example: python -m training graph runs/shapes/ID-prune/bundle")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder.  [default: where the graph is]")
def graph(model: Path, out: Path | None) -> None:
    """Write the graph of MODEL (a bundle or an ONNX file) as text and as SVG."""
    path = model / "model.onnx" if model.is_dir() else model
    loaded = read_graph(path)
    folder = out or path.parent
    try:
        write_whole(folder / "graph.txt", (onnx.helper.printable_graph(loaded.graph) + "\n").encode())
        write_whole(folder / "graph.svg", draw_graph(loaded))
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}: give --out FOLDER") from error
    for word, values in (("in", loaded.graph.input), ("out", loaded.graph.output)):
        click.echo("\n".join(f"{word}: {value.name} {_type(value)}" for value in values))
    click.echo(f"opset {opset(loaded)}, {len(loaded.graph.node)} nodes: {folder / 'graph.txt'}, {folder / 'graph.svg'}")


def read_graph(path: Path) -> onnx.ModelProto:
    """Read and check an ONNX file.

    Raises:
        UserError: it is not there, or no sound graph.
    """
    try:
        loaded = onnx.load(str(path))
        onnx.checker.check_model(loaded)
    except Exception as error:  # onnx raises OSError, protobuf's and its own
        told = " ".join(str(error).split())[:160]
        raise UserError(f"{path} is no sound ONNX graph: give a bundle or a .onnx file ({told})") from error
    return loaded


def draw_graph(loaded: onnx.ModelProto) -> bytes:
    """The nodes that depend on the input, as SVG with its text as text."""
    net = _net(loaded)
    rows = list(networkx.topological_generations(net))
    wide = max(map(len, rows))
    spots = {
        name: ((number - (len(names) - 1) / 2) * COLUMN, -depth * ROW)
        for depth, names in enumerate(rows)
        for number, name in enumerate(names)
    }
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "graph"}):
        figure = Figure(figsize=(wide * COLUMN + 0.6, len(rows) * ROW + 0.6))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(-wide * COLUMN / 2 - 0.3, wide * COLUMN / 2 + 0.3)
        axes.set_ylim(-(len(rows) - 1) * ROW - 0.5, 0.5)
        for first, second in net.edges:
            axes.annotate(
                "", spots[second], spots[first], arrowprops={"arrowstyle": "-|>", "color": "grey", "shrinkB": 10}
            )
        for name, data in net.nodes(data=True):
            box = {"boxstyle": "round,pad=0.3", "facecolor": data["colour"], "edgecolor": "grey"}
            axes.text(*spots[name], data["text"], ha="center", va="center", fontsize=8, bbox=box)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _net(loaded: onnx.ModelProto) -> Any:
    """Inputs, the nodes behind them and outputs; an edge for each tensor between two of them."""
    shapes = {}
    try:
        inferred = onnx.shape_inference.infer_shapes(loaded).graph
        shapes = {value.name: _shape(value) for value in inferred.value_info}
    except Exception:  # an operator of a domain that onnx does not know: then no shapes are shown
        shapes = {}
    net = networkx.DiGraph()
    maker: dict[str, str] = {}
    for value in loaded.graph.input:
        maker[value.name] = f"in {value.name}"
        net.add_node(maker[value.name], text=f"{value.name} {_type(value)}", colour="lightblue")
    for number, node in enumerate(loaded.graph.node):
        sources = [maker[name] for name in node.input if name in maker]
        if not sources:  # made of weights alone
            continue
        key = f"{number} {node.op_type}"
        net.add_node(key, text=f"{node.op_type} {shapes.get(node.output[0], '')}".strip(), colour="white")
        net.add_edges_from((source, key) for source in sources)
        maker |= dict.fromkeys(node.output, key)
    for value in loaded.graph.output:
        net.add_node(f"out {value.name}", text=f"{value.name} {_type(value)}", colour="lightgreen")
        if value.name in maker:
            net.add_edge(maker[value.name], f"out {value.name}")
    return net


def _type(value: onnx.ValueInfoProto) -> str:
    kind = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
    return f"{kind} {_shape(value)}"


def _shape(value: onnx.ValueInfoProto) -> str:
    sides = [each.dim_param or str(each.dim_value) for each in value.type.tensor_type.shape.dim]
    return f"({', '.join(sides)})"
