"""Predict one photo with an ONNX graph and ONNX Runtime; nothing here imports torch.

    python -m training onnx-predict PHOTO --bundle runs/scenes11/ID-train/bundle
    python -m training onnx-predict PHOTO --model dog25_model.onnx --labels idx_to_labels.npy --shorter 300

prints the likeliest classes and writes a bar chart of the probabilities, with the photo's path as title. A bundle
contains its preprocessing and labels. The input of another model may be float: then the photo is scaled with ImageNet's
mean and std, as for torchvision's models. The names of input and output do not matter.

The chart shows labels in many scripts: matplotlib's DejaVu Sans comes first (Latin, Greek, Cyrillic, Hebrew, Arabic),
then Noto Sans for Simplified Chinese with Japanese kana, for Korean, Thai and Devanagari, which are installed as Python
packages. A character that none of them has is drawn as a box, and reported.
"""

import functools
import importlib
import io
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from pydantic import ValidationError
from rich.markup import escape
from rich.table import Column, Table

from common.cli import command
from common.console import console
from common.errors import InvalidInput, NotFound
from common.files import legal_name, write_whole, writing
from config.recipe import SCOPE_OUTPUT
from handler.engine import softmax
from handler.errors import RequestError
from handler.image import Pixels, preprocess
from handler.spec import Input, Limits, read_spec
from training.bundles.labels import read_labels

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, as torchvision gives them, for pixels of 0 to 1."""
MAX_BARS = 50
FIRST_FONT = "DejaVu Sans"
FONT_PACKAGES = ("pylopdf_fonts_zh_cn", "pylopdf_fonts_ko", "pylopdf_fonts_th", "pylopdf_fonts_hi")
"""In the order of preference: the Korean font has Han characters too, in their Korean forms."""


@command(
    epilog="Example: python -m training onnx-predict runs/drawn/disc/0000.jpg --bundle runs/shapes/ID-prune/bundle"
)
@click.argument("photo", type=click.Path(path_type=Path))
@click.option("--bundle", type=click.Path(path_type=Path), help="A folder written by export: graph, labels, input.")
@click.option("--model", type=click.Path(path_type=Path), help="Any ONNX classifier of one photo; needs --labels.")
@click.option("--labels", type=click.Path(path_type=Path), help="labels.npy or idx_to_labels.npy, never unpickled.")
@click.option("--shorter", type=click.IntRange(8), help="With --model: the shorter side before the centre crop.")
@click.option("--top", default=5, show_default=True, type=click.IntRange(1), help="Rows of the table.")
@click.option(
    "--chart",
    type=click.Path(path_type=Path),
    help="File for the bar chart.  [default: PHOTO's name.png in this folder]",
)
def onnx_predict(
    photo: Path,
    bundle: Path | None,
    model: Path | None,
    labels: Path | None,
    shorter: int | None,
    top: int,
    chart: Path | None,
) -> None:
    """Predict PHOTO with ONNX Runtime: a table, and a bar chart."""
    if bundle and not (model or labels or shorter):
        names, size, limits, graph = _of_bundle(bundle)
        session = _session(graph)
    elif model and labels and not bundle:
        session = _session(model)
        names, size, limits, graph = read_labels(labels), _size_of(session, model, shorter), Limits(), model
    else:
        raise InvalidInput("no model is named", "give --bundle BUNDLE, or --model FILE.onnx with --labels FILE.npy")
    scores, in_scope = _predict(session, graph, _pixels(photo, size, limits))
    if len(scores) != len(names):
        raise InvalidInput(
            f"{graph} has {len(scores)} classes, but there are {len(names)} labels", "give the labels of this model"
        )
    order = [int(index) for index in np.argsort(-scores, kind="stable")]
    console.print(_table(names, scores, order[:top]))
    if in_scope is not None:
        console.print(f"in scope: {100 * in_scope:.2f} %")
    target = chart or Path(legal_name(f"{photo.stem}.png"))
    _draw(target, click.format_filename(photo), names, scores, sorted(order[:MAX_BARS]))
    click.echo(f"{target}: {min(len(names), MAX_BARS)} of {len(names)} classes")


def _of_bundle(bundle: Path) -> tuple[tuple[str, ...], Input, Limits, Path]:
    try:
        spec = read_spec(bundle / "recipe.json")
    except (OSError, ValueError, ValidationError) as error:
        raise NotFound(f"{bundle} is not a bundle", "give a folder written by python -m training export") from error
    return spec.labels, spec.input, spec.limits, bundle / "model.onnx"


def _session(graph: Path) -> Any:
    import onnxruntime

    if not graph.is_file():
        raise NotFound(f"{graph} does not exist", "give an ONNX file, or a bundle written by export")
    try:
        return onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common class
        raise InvalidInput(f"{graph} cannot be read by ONNX Runtime", "export it again") from error


def _size_of(session: Any, graph: Path, shorter: int | None) -> Input:
    """The size of a graph's input; without `shorter` the largest centre of that shape is used."""
    entry = session.get_inputs()[0]
    shape = entry.shape
    if len(session.get_inputs()) != 1 or len(shape) != 4 or shape[1] != 3 or not all(type(n) is int for n in shape[2:]):
        raise InvalidInput(f"{graph} has the input {entry.name} {shape}", "give a graph of (batch, 3, height, width)")
    if entry.type not in ("tensor(uint8)", "tensor(float)"):
        raise InvalidInput(f"{graph} has an input of {entry.type}", "give a graph of uint8 or float")
    try:
        return Input(height=shape[2], width=shape[3], resize="crop", shorter=shorter)
    except ValidationError as error:
        raise InvalidInput(f"--shorter {shorter}: {error.errors()[0]['msg']}") from error


def _pixels(photo: Path, size: Input, limits: Limits) -> Pixels:
    try:
        return preprocess(photo.read_bytes(), size, limits)
    except OSError as error:
        raise NotFound(f"{photo} cannot be read: {error.strerror}", "give a photo's path") from error
    except RequestError as error:
        raise InvalidInput(f"{photo}: {error}") from error


def _predict(session: Any, graph: Path, pixels: Pixels) -> tuple[npt.NDArray[np.float32], float | None]:
    """The probabilities of the classes, and that of being in scope, of a graph that has it as second output."""
    entry = session.get_inputs()[0]
    batch: npt.NDArray[Any] = pixels[None]
    if entry.type == "tensor(float)":
        mean, std = (np.array(values, np.float32).reshape(1, 3, 1, 1) for values in (MEAN, STD))
        batch = ((batch / np.float32(255) - mean) / std).astype(np.float32)
    try:
        outputs = session.run(None, {entry.name: batch})
    except Exception as error:  # as above
        raise InvalidInput(f"{graph} refuses photos of {batch.shape}: {' '.join(str(error).split())[:200]}") from error
    logits = np.asarray(outputs[0])
    if logits.ndim != 2 or logits.shape[0] != 1:
        raise InvalidInput(f"{graph} returns {logits.shape}", "give a graph that returns logits of (batch, classes)")
    second = [value.name for value in session.get_outputs()[1:2]]
    in_scope = float(outputs[1].reshape(-1)[0]) if second == [SCOPE_OUTPUT] else None
    return softmax(logits[0].astype(np.float32)), in_scope


def _table(names: tuple[str, ...], scores: npt.NDArray[np.float32], order: list[int]) -> Table:
    table = Table(Column("class", overflow="fold"), "index", "probability, %")
    for index in order:
        table.add_row(escape(names[index]), str(index), f"{100 * scores[index]:.2f}")
    return table


def _draw(target: Path, title: str, names: tuple[str, ...], scores: npt.NDArray[np.float32], chosen: list[int]) -> None:
    picture, missing = bar_chart(title, [names[index] for index in chosen], [float(scores[index]) for index in chosen])
    if missing:
        click.echo(f"no installed font has {missing}: drawn as boxes", err=True)
    with writing(target, "give --chart FILE"):
        write_whole(target, picture)


@functools.cache
def families() -> list[str]:
    """The names of the fonts, in order of preference."""
    from matplotlib import font_manager

    paths = [str(importlib.import_module(name).sans_path()) for name in FONT_PACKAGES]
    for path in paths:
        font_manager.fontManager.addfont(path)
    return [FIRST_FONT, *(font_manager.FontProperties(fname=path).get_name() for path in paths)]


def bar_chart(title: str, labels: Sequence[str], probabilities: Sequence[float]) -> tuple[bytes, str]:
    """Draw one bar for each label, its value in percent above it.

    Args:
        probabilities: 0 to 1, as many as labels.

    Returns:
        a PNG, and the characters that no font has and that are drawn as boxes.
    """
    import matplotlib  # takes a second, and nothing else here needs it
    from matplotlib.figure import Figure

    settings: Any = {"font.family": families(), "text.parse_math": False, "axes.unicode_minus": False}
    with matplotlib.rc_context(settings), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure = Figure(figsize=(max(6.4, 0.5 * len(labels) + 1.5), 5), layout="constrained")
        axes = figure.add_subplot()
        bars = axes.bar(range(len(labels)), [100 * p for p in probabilities], 0.6)
        axes.bar_label(bars, fmt="%.2f", padding=2)
        axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_ylim(0, max(1, 112 * max(probabilities)))
        axes.set_xlabel("class")
        axes.set_ylabel("probability, %")
        axes.set_title(title)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue(), _missing([str(warning.message) for warning in caught])


def _missing(messages: Sequence[str]) -> str:
    codes = [int(match[1]) for text in messages if (match := re.match(r"Glyph (\d+) ", text))]
    return "".join(dict.fromkeys(map(chr, codes)))
