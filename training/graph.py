"""Write an ONNX graph as readable text and as a picture.

    python -m training graph runs/scenes11/ID-train/bundle
    python -m training graph dog25_model.onnx --out pictures

prints inputs and outputs, and writes graph.txt (every node and the shape of every weight, in ONNX's own format) and
graph.svg (the nodes between input and output, from top to bottom; weights and their casts are left out). networkx lays
the picture out and matplotlib draws it: no system package is needed.
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
from common.errors import InvalidInput
from common.files import write_whole, writing
from common.words import number_of
from training.bundles.onnx_export import opset

ROW, COLUMN = 0.55, 2.6
"""Inches between nodes, vertically and horizontally."""
ARROW = {"arrowstyle": "-|>", "color": "grey", "shrinkB": 10}


@command(epilog="Example: python -m training graph runs/shapes/ID-prune/bundle")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder.  [default: where the graph is]")
def graph(model: Path, out: Path | None) -> None:
    """Write the graph of MODEL (a bundle or an ONNX file) as text and as SVG."""
    path = model / "model.onnx" if model.is_dir() else model
    loaded = read_graph(path)
    folder = out or path.parent
    with writing(folder, "give --out FOLDER"):
        write_whole(folder / "graph.txt", (onnx.helper.printable_graph(loaded.graph) + "\n").encode())
        write_whole(folder / "graph.svg", draw_graph(loaded))
    for word, values in (("in", loaded.graph.input), ("out", loaded.graph.output)):
        click.echo("\n".join(f"{word}: {value.name} {_type(value)}" for value in values))
    click.echo(
        f"opset {opset(loaded)}, {number_of(len(loaded.graph.node), 'node')}: "
        f"{folder / 'graph.txt'}, {folder / 'graph.svg'}"
    )


def read_graph(path: Path) -> onnx.ModelProto:
    """Read and check an ONNX file.

    Raises:
        InvalidInput: the file does not exist, or is not a valid graph.
    """
    try:
        loaded = onnx.load(str(path))
        onnx.checker.check_model(loaded)
    except Exception as error:  # onnx raises OSError, protobuf's errors and its own
        reason = " ".join(str(error).split())[:160]
        raise InvalidInput(f"{path} is not a valid ONNX graph ({reason})", "give a bundle or a .onnx file") from error
    return loaded


def draw_graph(loaded: onnx.ModelProto) -> bytes:
    """The nodes that depend on the input, as an SVG whose text is text."""
    net = _net(loaded)
    rows = list(networkx.topological_generations(net))
    wide = max(map(len, rows))
    positions = {
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
                "",
                positions[second],
                positions[first],
                arrowprops={"arrowstyle": "-|>", "color": "grey", "shrinkB": 10},
            )
        for name, data in net.nodes(data=True):
            box = {"boxstyle": "round,pad=0.3", "facecolor": data["colour"], "edgecolor": "grey"}
            axes.text(*positions[name], data["text"], ha="center", va="center", fontsize=8, bbox=box)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _net(loaded: onnx.ModelProto) -> Any:
    """Inputs, the nodes that depend on them, and outputs; an edge for each tensor between two of them."""
    shapes = {}
    try:
        inferred = onnx.shape_inference.infer_shapes(loaded).graph
        shapes = {value.name: _shape(value) for value in inferred.value_info}
    except Exception:  # an operator that onnx does not know: the picture then shows no shapes
        shapes = {}
    net = networkx.DiGraph()
    producer: dict[str, str] = {}
    for value in loaded.graph.input:
        producer[value.name] = f"in {value.name}"
        net.add_node(producer[value.name], text=f"{value.name} {_type(value)}", colour="lightblue")
    for number, node in enumerate(loaded.graph.node):
        sources = [producer[name] for name in node.input if name in producer]
        if not sources:  # computed from weights only
            continue
        key = f"{number} {node.op_type}"
        net.add_node(key, text=f"{node.op_type} {shapes.get(node.output[0], '')}".strip(), colour="white")
        net.add_edges_from((source, key) for source in sources)
        producer |= dict.fromkeys(node.output, key)
    for value in loaded.graph.output:
        net.add_node(f"out {value.name}", text=f"{value.name} {_type(value)}", colour="lightgreen")
        if value.name in producer:
            net.add_edge(producer[value.name], f"out {value.name}")
    return net


def _type(value: onnx.ValueInfoProto) -> str:
    kind = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
    return f"{kind} {_shape(value)}"


def _shape(value: onnx.ValueInfoProto) -> str:
    sides = [side.dim_param or str(side.dim_value) for side in value.type.tensor_type.shape.dim]
    return f"({', '.join(sides)})"
