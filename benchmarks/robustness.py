"""What happens to the shipped model's accuracy when photos come as the world sends them.

    python -m benchmarks.robustness --data PHOTOS --where open_licence=no

Asks the graph itself (no server) about every photo, changed in each of several ways. Markdown, then one JSON line.
"""

import json
from collections.abc import Callable
from pathlib import Path

import click
import torch
from PIL import Image, ImageOps

from deploy.settings import ROOT
from handler.image import fit, open_photo, to_array
from handler.spec import Limits
from training.crossvalidate import as_jpeg
from training.data import naming
from training.evaluate import served
from training.metrics import score
from training.options import data_options, read_data
from training.runs import read_run

BUNDLE = ROOT / "models" / "classroom"
PHONE = (900, 1600)


def compressed(photo: Image.Image, side: int, quality: int) -> Image.Image:
    """Scaled down to at most `side` pixels and saved as JPEG, as messengers do."""
    photo = photo.copy()
    photo.thumbnail((side, side))
    return open_photo(as_jpeg(photo, quality), Limits())


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as it is": lambda photo: photo,
    "640 pixels, JPEG quality 35": lambda photo: compressed(photo, 640, 35),
    "200 pixels, JPEG quality 30": lambda photo: compressed(photo, 200, 30),
    "a quarter turn": lambda photo: photo.rotate(90, expand=True),
    "less than half as bright": lambda photo: photo.point(lambda value: value * 0.45),
    "between black bars on 900 × 1600": lambda photo: ImageOps.pad(photo, PHONE, color="black"),
    "between white bars on 900 × 1600": lambda photo: ImageOps.pad(photo, PHONE, color="white"),
}


@click.command()
@data_options
def main(data: tuple[Path, ...], where: tuple[str, ...]) -> None:
    """Measure accuracy under changes of the photos."""
    recipe, _ = read_run(BUNDLE)
    photos = read_data(data, where, recipe)
    ask = served(BUNDLE / "model.onnx", recipe)
    rows: dict[str, list[torch.Tensor]] = {name: [] for name in CHANGES}
    for photo in photos:
        with naming(photo.path):
            upright = open_photo(photo.path.read_bytes(), recipe.limits)
        for name, change in CHANGES.items():
            rows[name].append(ask(to_array(fit(change(upright), recipe.input))))
    found = {name: score(torch.stack(answers), photos, recipe.labels) for name, answers in rows.items()}
    for name, scores in found.items():
        hits = " | ".join(f"{row[index]}/{sum(row)}" for index, row in enumerate(scores.confusion))
        click.echo(f"| {name} | {hits} | {scores.mean_accuracy:.1%} |")
    click.echo(json.dumps({"benchmark": "robustness", **{name: scores.as_json() for name, scores in found.items()}}))


if __name__ == "__main__":
    main()
