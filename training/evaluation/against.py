"""Compare with a former model on the same photos: a run, a bundle, an archive, or the version that is served."""

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.cli import ROOT
from common.errors import InvalidInput, NotFound
from common.statistics import Paired
from common.words import instead_of
from config.recipe import Recipe
from dataset.photos import Photo
from training.evaluation.measure import Evaluation, measure
from training.evaluation.predictor import Infer, load_predictor
from training.records.index import STORE, is_latest, latest_run
from training.records.run import GRAPH, RECIPE

SERVED = "served"
"""The name of the version that answers /predictions/NAME now."""


@dataclass(frozen=True)
class Former:
    """A model to compare with, under the name that reports show."""

    title: str
    recipe: Recipe
    infer: Infer


@dataclass(frozen=True)
class Comparison:
    """Two models' answers to the same photos.

    Args:
        before, after: logits of the former and of the new model, shape (photos, classes), in the new one's labels.
    """

    title: str
    recipe: Recipe
    photos: Sequence[Photo]
    before: Tensor
    after: Tensor

    @property
    def paired(self) -> Paired:
        truth = torch.tensor([photo.label for photo in self.photos])
        was_right, is_right = self.before.argmax(1) == truth, self.after.argmax(1) == truth
        pairs = (was_right & is_right, was_right & ~is_right, ~was_right & is_right, ~was_right & ~is_right)
        return Paired(*(int(pair.sum()) for pair in pairs))

    def as_json(self) -> dict[str, Any]:
        """The counts, the interval of the difference, a sentence, and every photo whose answer changed."""
        told = f"compared with {self.title} on the same photos: {self.paired}"
        return {"model": self.title, **self.paired.as_json(), "told": told, "changed": list(self._changed())}

    def _changed(self) -> Iterator[dict[str, str]]:
        labels = self.recipe.labels
        for photo, former, new in zip(self.photos, self.before.argmax(1), self.after.argmax(1), strict=True):
            if former != new:
                change = {int(former): "regression", int(new): "fix"}.get(photo.label, "both wrong")
                yield {
                    "path": photo.path.as_posix(),
                    "source": photo.source,
                    "label": labels[photo.label],
                    "former": labels[int(former)],
                    "new": labels[int(new)],
                    "change": change,
                }


def compare_with(former: Former, evaluation: Evaluation) -> Comparison:
    """Answer the photos of an evaluation with a former model too."""
    labels, photos = evaluation.recipe.labels, evaluation.photos
    logits, _ = measure(former.recipe, former.infer, photos)
    order = [former.recipe.labels.index(label) for label in labels]
    return Comparison(former.title, evaluation.recipe, photos, logits[:, order], evaluation.logits)


@contextmanager
def former_model(name: str | None, recipe: Recipe) -> Iterator[Former | None]:
    """Open the model that a person named; None without a name.

    Args:
        name: a run's or a bundle's folder, `latest`, an archive NAME-VERSION.mar (a path, or one of the store), or
            `served`.
        recipe: of the new model; its name is that of the `served` version.

    Raises:
        UserError: there is no such model, or it has other labels.
    """
    if name is None:
        yield None
        return
    with _opened(name, recipe.name) as former:
        if set(former.recipe.labels) != set(recipe.labels):
            theirs = ", ".join(former.recipe.labels)
            raise InvalidInput(f"--against {former.title} has other labels ({theirs})", "give a model of the same task")
        yield former


@contextmanager
def _opened(name: str, model: str) -> Iterator[Former]:
    if name == SERVED:
        path = _served(model)
    elif is_latest(name):
        path = latest_run(name, recipe=model)
    else:
        path = Path(name)
    if path.suffix == ".mar" and not path.is_file():
        path = _in_store(name)
    if path.suffix != ".mar":
        if not path.is_dir():
            raise NotFound(f"--against {name} does not exist", f"give a run, a bundle, an archive, or {SERVED}")
        yield Former(str(path), *load_predictor(path)[:2])
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                archive.extract(GRAPH, folder)
                archive.extract(RECIPE, folder)
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise InvalidInput(f"--against {path} is not an archive: {error}", "give NAME-VERSION.mar") from error
        yield Former(path.stem, *load_predictor(Path(folder))[:2])


def _in_store(name: str) -> Path:
    """An archive of the store, named without its folder as in `deploy rollout`."""
    store = ROOT / (os.environ.get("SERVE_STORE") or STORE)
    path = store / Path(name).name
    if not path.is_file() or Path(name).parent != Path():
        names = [mar.name for mar in store.glob("*.mar")]
        raise NotFound(f"--against {name} does not exist", instead_of(path.name, names, store))
    return path


def _served(model: str) -> Path:
    """The archive of the version that must answer; only `deploy`, which is not imported here, knows where it is."""
    done = subprocess.run(
        [sys.executable, "-m", "deploy", "status", "--json"], capture_output=True, text=True, timeout=60
    )
    try:
        versions = json.loads(done.stdout)["versions"]
    except (ValueError, KeyError, TypeError) as error:
        raise NotFound(f"--against {SERVED}: {done.stderr.strip()}", "give an archive or a bundle") from error
    path = next((row["path"] for row in versions if row["name"] == model and row["wanted_default"]), None)
    if not path or not Path(path).is_file():
        raise NotFound(
            f"--against {SERVED}: no version of {model} is served", "give an archive or a bundle, or leave it out"
        )
    return Path(path)
