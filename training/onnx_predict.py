"""Ask an ONNX graph about one photo with ONNX Runtime alone: nothing here imports torch.

    python -m training onnx-predict PHOTO --bundle runs/scenes11/ID-train/bundle
    python -m training onnx-predict PHOTO --model dog25_model.onnx --labels idx_to_labels.npy --shorter 300

prints the likeliest classes and writes a bar chart of the probabilities, with the photo's path as title. A bundle
brings its own preprocessing and labels. Another model's input may be float: then the photo is scaled with ImageNet's
mean and std, as torchvision's models want it. The names of input and output do not matter.
"""

from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from common.cli import command
from common.errors import UserError
from common.files import write_whole
from handler.engine import softmax
from handler.errors import RequestError
from handler.image import Pixels, preprocess
from handler.spec import Input, Limits, read_spec
from training.bundles.labels import read_labels

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, as torchvision gives them, for photos of 0 to 1."""
MOST_BARS = 50
console = Console()


@command(
    epilog="Example: python -m training onnx-predict runs/drawn/disc/0000.jpg --bundle runs/shapes/ID-prune/bundle"
)
@click.argument("photo", type=click.Path(path_type=Path))
@click.option("--bundle", type=click.Path(path_type=Path), help="A folder made by export: graph, labels, input.")
@click.option("--model", type=click.Path(path_type=Path), help="Any ONNX classifier of one photo; wants --labels.")
@click.option("--labels", type=click.Path(path_type=Path), help="labels.npy or idx_to_labels.npy, never unpickled.")
@click.option("--shorter", type=click.IntRange(8), help="With --model: shorter side before the centre crop.")
@click.option("--top", default=5, show_default=True, type=click.IntRange(1), help="Rows of the table.")
@click.option("--chart", type=click.Path(path_type=Path), help="The bar chart.  [default: PHOTO's name.png, here]")
def onnx_predict(
    photo: Path,
    bundle: Path | None,
    model: Path | None,
    labels: Path | None,
    shorter: int | None,
    top: int,
    chart: Path | None,
) -> None:
    """Ask a graph about PHOTO with ONNX Runtime: a table, and a bar chart."""
    if bundle and not (model or labels or shorter):
        names, size, limits, graph = _of_bundle(bundle)
        session = _session(graph)
    elif model and labels and not bundle:
        session = _session(model)
        names, size, limits, graph = read_labels(labels), _size_of(session, model, shorter), Limits(), model
    else:
        raise UserError("give --bundle BUNDLE, or --model FILE.onnx with --labels FILE.npy")
    scores = _ask(session, graph, _pixels(photo, size, limits))
    if len(scores) != len(names):
        raise UserError(f"{graph} has {len(scores)} classes, its labels are {len(names)}: give its own")
    order = [int(index) for index in np.argsort(-scores, kind="stable")]
    console.print(_table(names, scores, order[:top]))
    target = chart or Path(f"{photo.stem}.png")
    _draw(target, click.format_filename(photo), names, scores, sorted(order[:MOST_BARS]))
    click.echo(f"{target}: {min(len(names), MOST_BARS)} of {len(names)} classes")


def _of_bundle(bundle: Path) -> tuple[tuple[str, ...], Input, Limits, Path]:
    try:
        spec = read_spec(bundle / "recipe.json")
    except (OSError, ValueError, ValidationError) as error:
        raise UserError(f"{bundle} is no bundle: give a folder made by python -m training export") from error
    return spec.labels, spec.input, spec.limits, bundle / "model.onnx"


def _session(graph: Path) -> Any:
    import onnxruntime

    if not graph.is_file():
        raise UserError(f"{graph} is not there: give an ONNX file, or a bundle made by export")
    try:
        return onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common class of their own
        raise UserError(f"{graph} is no graph that ONNX Runtime reads: export it again") from error


def _size_of(session: Any, graph: Path, shorter: int | None) -> Input:
    """The size that a graph's one input takes; without `shorter` the largest centre of that shape."""
    entry = session.get_inputs()[0]
    shape = entry.shape
    if len(session.get_inputs()) != 1 or len(shape) != 4 or shape[1] != 3 or not all(type(n) is int for n in shape[2:]):
        raise UserError(f"{graph} takes {entry.name} {shape}: a graph of (batch, 3, height, width) is wanted")
    if entry.type not in ("tensor(uint8)", "tensor(float)"):
        raise UserError(f"{graph} takes {entry.type}: uint8 or float is wanted")
    try:
        return Input(height=shape[2], width=shape[3], resize="crop", shorter=shorter)
    except ValidationError as error:
        raise UserError(f"--shorter {shorter}: {error.errors()[0]['msg']}") from error


def _pixels(photo: Path, size: Input, limits: Limits) -> Pixels:
    try:
        return preprocess(photo.read_bytes(), size, limits)
    except OSError as error:
        raise UserError(f"{photo} cannot be read: {error.strerror}: give a photo's path") from error
    except RequestError as error:
        raise UserError(f"{photo}: {error}") from error


def _ask(session: Any, graph: Path, pixels: Pixels) -> npt.NDArray[np.float32]:
    entry = session.get_inputs()[0]
    batch: npt.NDArray[Any] = pixels[None]
    if entry.type == "tensor(float)":
        mean, std = (np.array(values, np.float32).reshape(1, 3, 1, 1) for values in (MEAN, STD))
        batch = ((batch / np.float32(255) - mean) / std).astype(np.float32)
    try:
        logits = np.asarray(session.run(None, {entry.name: batch})[0])
    except Exception as error:  # as above
        raise UserError(f"{graph} takes no photo of {batch.shape}: {' '.join(str(error).split())[:200]}") from error
    if logits.ndim != 2 or logits.shape[0] != 1:
        raise UserError(f"{graph} answers {logits.shape}: logits of (batch, classes) are wanted")
    return softmax(logits[0].astype(np.float32))


def _table(names: tuple[str, ...], scores: npt.NDArray[np.float32], order: list[int]) -> Table:
    table = Table("class", "index", "probability, %")
    for index in order:
        table.add_row(names[index], str(index), f"{100 * scores[index]:.2f}")
    return table


def _draw(target: Path, title: str, names: tuple[str, ...], scores: npt.NDArray[np.float32], chosen: list[int]) -> None:
    from training.bundles.barchart import bar_chart

    picture, missing = bar_chart(title, [names[index] for index in chosen], [float(scores[index]) for index in chosen])
    if missing:
        click.echo(f"no font here has {missing}: drawn as boxes", err=True)
    try:
        write_whole(target, picture)
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror}: give --chart FILE") from error
