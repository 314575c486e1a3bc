"""Measure how pixels and answers change when large JPEGs are decoded at 1/2, 1/4 or 1/8 (`input.margin`).

    python -m benchmarks.scaled --data PHOTOS

Compares full decoding with margins of 0.5 to 1.5 times the target size, for three kinds of photos: the JPEGs of --data
as they are, all photos of --data enlarged to 4000 x 3000, and drawn ones. Prints Markdown.
"""

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import click
import numpy as np
from PIL import Image

from benchmarks.footprint import BUNDLE
from common.cli import command
from dataset.draw import draw
from handler import engine
from handler.decoding.formats import FORMATS
from handler.image import open_photo, to_input
from handler.spec import Spec, read_spec
from training.evaluation.measure import as_jpeg

MARGINS = (0.5, 0.75, 1.0, 1.5)
SIZE = (4000, 3000)
PICTURES = {"." + name.lower() for name in (*FORMATS, "JPG")}


@command(epilog="Example: python -m benchmarks.scaled --data runs/drawn --count 8")
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of photos.")
@click.option("--bundle", default=BUNDLE, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--count", default=24, show_default=True, type=click.IntRange(1), help="Largest number of photos of each kind."
)
def main(data: Path | None, bundle: Path, count: int) -> None:
    """Compare scaled with full decoding."""
    spec = read_spec(bundle / "recipe.json")
    predict = engine.load(bundle / "model.onnx", spec)
    files = sorted(path for path in data.rglob("*") if path.suffix.lower() in PICTURES) if data else []
    files = files[:: max(1, len(files) // count)][:count]
    enlarged = (as_jpeg(open_photo(path.read_bytes(), spec.limits).resize(SIZE)) for path in files)
    drawn = (as_jpeg(draw(scene, seed).resize(SIZE)) for scene in ("room", "call") for seed in range(count // 2))
    click.echo(
        "| photos | margin | mean difference of a pixel, levels | 99 % of pixels | largest change of p | new labels |"
    )
    click.echo("|---|---|---|---|---|---|")
    for name, photos in (("as they are", _jpegs(files)), ("enlarged", enlarged), ("drawn", drawn)):
        compare(name, photos, predict, spec)


def compare(name: str, photos: Iterable[bytes], predict: engine.Engine, spec: Spec) -> None:
    """Print a row for each margin."""
    rows: dict[float, list[tuple[float, float, float, bool]]] = {margin: [] for margin in MARGINS}
    for data in photos:
        whole = to_input(_decoded(data, spec, None), spec.input)
        before = predict(whole)
        for margin in MARGINS:
            pixels = to_input(_decoded(data, spec, margin), spec.input)
            off, after = np.abs(pixels.astype(int) - whole), predict(pixels)
            change = float(np.abs(after - before).max())
            flipped = bool(after.argmax() != before.argmax())
            rows[margin].append((float(off.mean()), float(np.percentile(off, 99)), change, flipped))
    for margin, changes in rows.items():
        if changes:
            mean, most, largest, flips = np.array(changes, dtype=np.float64).T
            cells = f"{mean.mean():.2f} | {most.mean():.1f} | {largest.max():.4f} | {int(flips.sum())}"
            click.echo(f"| {len(changes)} {name} | {margin} | {cells} |")


def _decoded(data: bytes, spec: Spec, margin: float | None) -> Image.Image:
    photo = Image.open(BytesIO(data))
    if margin:
        photo.draft(None, (int(spec.input.width * margin), int(spec.input.height * margin)))
    return photo.convert("RGB")


def _jpegs(files: Iterable[Path]) -> Iterable[bytes]:
    return (path.read_bytes() for path in files if path.suffix.lower() in (".jpg", ".jpeg"))


if __name__ == "__main__":
    main()
