"""Measure accuracy through the served endpoint, on labelled photos that the model was not trained on.

    python -m benchmarks.served_accuracy --data PHOTOS --where open_licence=no

Starts a TorchServe with the shipped model and sends every photo as base64 in JSON: first the file itself, then
re-encoded as JPEG (quality 75), so that the file type cannot reveal the label. Also sends the photos in
PHOTOS/ambiguous, if there are any: a good model is less confident there. Prints Markdown, then one JSON line.
"""

import base64
import json
import math
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.harness.server import put_in_service
from common.cli import command
from config.recipe import Recipe
from dataset.photos import Photo
from deploy.archive import pack
from deploy.settings import ROOT, read_settings, separate_environment
from deploy.torchserve.management import Client
from deploy.torchserve.process import Server
from handler.image import open_photo
from training.data.selection import read_data
from training.evaluation.measure import as_jpeg
from training.evaluation.metrics import score
from training.experiments.crossvalidation import CONDITIONS, ORIGINAL
from training.options import data_options
from training.records.run import read_recipe_of

BUNDLE = ROOT / "models" / "classroom"


@command(epilog="Example: python -m benchmarks.served_accuracy --data PHOTOS --where open_licence=no")
@data_options
def main(data: tuple[Path, ...], where: tuple[str, ...]) -> None:
    """Measure accuracy through the served endpoint."""
    recipe = read_recipe_of(BUNDLE)
    photos = read_data(data, where, recipe)
    ambiguous = [path for folder in data for path in sorted(folder.glob("ambiguous/*"))]
    with tempfile.TemporaryDirectory() as work:
        mar = pack(BUNDLE, "1.0", Path(work) / "store")
        settings = read_settings(separate_environment(Path(work) / "var", mar.parent))
        with Server(settings) as server:
            put_in_service(server, mar)
            result = measure(server.client, recipe, photos)
            result["ambiguous"] = confidence(
                [probabilities(server.client, recipe, path.read_bytes()) for path in ambiguous]
            )
    click.echo(json.dumps({"benchmark": "served_accuracy", **result}))


def measure(client: Client, recipe: Recipe, photos: Sequence[Photo]) -> dict[str, Any]:
    """Scores of all photos, as files and re-encoded; prints a row for each."""
    results: dict[str, Any] = {}
    for way in CONDITIONS:
        answers = []
        for photo in photos:
            data = photo.path.read_bytes()
            answers.append(
                probabilities(client, recipe, data if way == ORIGINAL else as_jpeg(open_photo(data, recipe.limits)))
            )
        scores = score(torch.tensor([[math.log(max(p, 1e-9)) for p in row] for row in answers]), photos, recipe.labels)
        click.echo(f"| {way} | {scores} |")
        results[way] = {**scores.as_json(), "confidence": confidence(answers)}
    return results


def probabilities(client: Client, recipe: Recipe, data: bytes) -> list[float]:
    """The probabilities of a photo, in the order of the labels."""
    body = {"image_id": "1", "image_base64": base64.b64encode(data).decode(), "detail": True}
    answer = client.predict(recipe.name, body)
    answer.raise_for_status()
    return [answer.json()["probabilities"][label] for label in recipe.labels]


def confidence(answers: Sequence[Sequence[float]]) -> dict[str, float]:
    """Median and quartiles of the largest probability."""
    if len(answers) < 2:
        return {}
    low, middle, high = statistics.quantiles((max(row) for row in answers), n=4)
    return {
        "photos": len(answers),
        "quartile_1": round(low, 3),
        "median": round(middle, 3),
        "quartile_3": round(high, 3),
    }


if __name__ == "__main__":
    main()
