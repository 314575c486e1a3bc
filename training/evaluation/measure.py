"""Evaluate a model on labelled photos: accuracy, calibration, confidence, latency, and robustness to altered photos."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from rich.progress import track
from torch import Tensor

from common.console import err_console
from config.recipe import Recipe
from dataset.photos import Photo
from handler.image import Pixels, open_photo, to_input
from handler.spec import Input, Limits
from training.data.loader import naming
from training.data.outside import kind_of
from training.evaluation.metrics import Scores, calibration, roc_auc, score
from training.evaluation.predictor import STAGES, Infer, Prediction, T, timed
from training.evaluation.scope import Scoped, scored

Milliseconds = Mapping[str, float]
"""By stage, and `together`."""
Corruption = Callable[[Image.Image], Image.Image]
PHONE = (900, 1600)
"""Width and height of a phone's screenshot, pixels."""
_ROTATE_RIGHT = 6  # EXIF: rotate right by 90 degrees to see it upright


@dataclass(frozen=True)
class Evaluation:
    """Predictions on labelled photos.

    Args:
        logits: shape (photos, classes).
        durations: of each photo.
        changed: name of the corruption -> logits on the corrupted photos, shape (photos, classes).
        ambiguous: logits on photos of no class, shape (ambiguous photos, classes); None where there are none.
        scope: of a model that has one, the probabilities of being in scope.
    """

    recipe: Recipe
    photos: Sequence[Photo]
    logits: Tensor
    durations: Sequence[Milliseconds]
    changed: Mapping[str, Tensor]
    ambiguous: Tensor | None
    scope: Scoped | None = None

    @property
    def scores(self) -> Scores:
        return score(self.logits, self.photos, self.recipe.labels)

    @property
    def probabilities(self) -> Tensor:
        return self.logits.softmax(1)

    @property
    def truth(self) -> Tensor:
        return torch.tensor([photo.label for photo in self.photos])

    @property
    def scope_columns(self) -> list[dict[str, str]]:
        """Of each photo, the column in_scope of answers.tsv; none without a scope."""
        if self.scope is None:
            return [{}] * len(self.photos)
        return [{"in_scope": f"{float(p):.6f}"} for p in self.scope.inside]

    def hardest(self, count: int) -> list[int]:
        """Indices of the photos whose label got the lowest probability, hardest first."""
        of_label = self.probabilities[torch.arange(len(self.photos)), self.truth]
        return [int(index) for index in of_label.argsort()[:count]]

    def as_json(self) -> dict[str, Any]:
        """Everything but the photos themselves."""
        error, bins = calibration(self.probabilities, self.truth)
        return {
            "metrics": self.scores.as_json()
            | {"roc_auc": roc_auc(self.probabilities, self.truth), "expected_calibration_error": error},
            "reliability": bins,
            "milliseconds": latency(self.durations),
            "confidence": spread(self.probabilities, self.recipe),
            "ambiguous": None if self.ambiguous is None else self._ambiguous(self.ambiguous),
            "wrong": self.wrong(),
            "scope": None if self.scope is None else self._scope(self.scope),
            "changes": {name: self._change(logits) for name, logits in self.changed.items()},
        }

    def wrong(self) -> list[dict[str, Any]]:
        """The photos with a wrong answer, the most confident first: path, source, label, answer, confidence."""
        confidence, answers = self.probabilities.max(1)
        rows = [
            {
                "path": photo.path.as_posix(),
                "source": photo.source,
                "label": self.recipe.labels[photo.label],
                "answer": self.recipe.labels[int(answer)],
                "confidence": round(float(p), 4),
            }
            for photo, answer, p in zip(self.photos, answers, confidence, strict=True)
            if photo.label != answer
        ]
        return sorted(rows, key=lambda row: -row["confidence"])

    def _ambiguous(self, logits: Tensor) -> dict[str, Any]:
        """The confidence on ambiguous photos, and in words whether it is lower than on labelled ones."""
        entry, labelled = spread(logits.softmax(1), self.recipe), spread(self.probabilities, self.recipe)
        lower = entry["median"] < labelled["median"]
        message = f"{'less' if lower else 'NOT less'} confident on ambiguous photos: median {entry['median']}"
        return {**entry, "lower": lower, "told": message}

    def _scope(self, scope: Scoped) -> dict[str, Any]:
        threshold = self.recipe.answer.scope_threshold
        return scored(scope, 0.5 if threshold is None else threshold).as_json()

    def _change(self, logits: Tensor) -> dict[str, Any]:
        flips = int((logits.argmax(1) != self.logits.argmax(1)).sum())
        return {**score(logits, self.photos, self.recipe.labels).as_json(), "answers_that_changed": flips}


def evaluate_photos(
    recipe: Recipe,
    infer: Infer,
    photos: Sequence[Photo],
    ambiguous: Sequence[Path] = (),
    changes: bool = True,
    outside: Sequence[Photo] = (),
) -> Evaluation:
    """Predict every photo, unchanged and corrupted, every ambiguous one, and those of no class.

    Args:
        outside: photos of no class, for a model with a scope.
        changes: whether to predict corrupted photos too.

    Raises:
        UserError: a photo cannot be read; the message names it.
    """
    predictions, durations = _timed(recipe, infer.answer, photos)
    logits = torch.stack([prediction.logits for prediction in predictions])
    scope = _scope(recipe, infer, photos, predictions, outside) if infer.has_scope else None
    changed = _measure_corrupted(recipe, infer, photos) if changes else {}
    unsure = [_predict(recipe, infer, _upright(path, recipe, recipe.input)) for path in ambiguous]
    return Evaluation(recipe, photos, logits, durations, changed, torch.stack(unsure) if unsure else None, scope)


def _measure_corrupted(recipe: Recipe, infer: Infer, photos: Sequence[Photo]) -> dict[str, Tensor]:
    rows: dict[str, list[Tensor]] = {name: [] for name in CORRUPTIONS}
    for photo in track(photos, "predicting corrupted photos", console=err_console, transient=True):
        upright = _upright(photo.path, recipe)
        for name, corrupt in CORRUPTIONS.items():
            rows[name].append(_predict(recipe, infer, corrupt(upright)))
    return {name: torch.stack(logits) for name, logits in rows.items()}


def measure(
    recipe: Recipe, infer: Callable[[Pixels], Tensor], photos: Sequence[Photo]
) -> tuple[Tensor, list[Milliseconds]]:
    """Predict every photo once.

    Returns:
        logits, shape (photos, classes), and for each photo the milliseconds of each stage and of all together.

    Raises:
        UserError: a photo cannot be read; the message names it.
    """
    logits, durations = _timed(recipe, infer, photos)
    return torch.stack(logits), durations


def _timed(recipe: Recipe, infer: Callable[[Pixels], T], photos: Sequence[Photo]) -> tuple[list[T], list[Milliseconds]]:
    values: list[T] = []
    durations: list[Milliseconds] = []
    for photo in track(photos, "predicting", console=err_console, transient=True):
        with naming(photo.path):
            _, value, milliseconds = timed(photo.path.read_bytes(), recipe, infer)
        values.append(value)
        durations.append(milliseconds)
    return values, durations


def _scope(
    recipe: Recipe,
    infer: Infer,
    photos: Sequence[Photo],
    predictions: Sequence[Prediction],
    outside: Sequence[Photo],
) -> Scoped:
    others = _timed(recipe, infer.answer, outside)[0]
    inside, other = (torch.tensor([row.in_scope for row in rows]) for rows in (predictions, others))
    return Scoped([recipe.labels[photo.label] for photo in photos], inside, [kind_of(p) for p in outside], other)


def latency(durations: Sequence[Milliseconds]) -> dict[str, dict[str, float]]:
    """Milliseconds by stage: median (p50) and p95 over all photos. The first photo warms up and is not counted."""
    rows = durations[1:] or durations
    return {
        name: {
            "p50": round(float(np.median([row[name] for row in rows])), 2),
            "p95": round(float(np.percentile([row[name] for row in rows], 95)), 2),
        }
        for name in (*STAGES, "together")
    }


def spread(probabilities: Tensor, recipe: Recipe) -> dict[str, float]:
    """The distribution of the confidence: photos, quartiles, and the share below the recipe's `unsure_below`."""
    confidence = probabilities.max(1).values.double().numpy()
    low, middle, high = (round(float(value), 4) for value in np.percentile(confidence, (25, 50, 75)))
    unsure = round(float((confidence < recipe.answer.unsure_below).mean()), 4)
    return {
        "photos": len(confidence),
        "lower_quartile": low,
        "median": middle,
        "upper_quartile": high,
        "unsure": unsure,
    }


def as_jpeg(photo: Image.Image, quality: int = 75, exif: Image.Exif | None = None) -> bytes:
    """A photo as the bytes of a JPEG file; without EXIF by default."""
    buffer = BytesIO()
    photo.save(buffer, "JPEG", quality=quality, exif=exif or b"")
    return buffer.getvalue()


def decoded(data: bytes, size: Input | None = None) -> Image.Image:
    """Decode a file that we encoded ourselves: a corrupted copy of an accepted photo is never refused for its size."""
    return open_photo(data, Limits(bytes=2**31), size)


def compressed(photo: Image.Image, side: int, quality: int) -> Image.Image:
    """A photo scaled down to at most `side` pixels and saved as JPEG, as messengers do."""
    photo = photo.copy()
    photo.thumbnail((side, side))
    return decoded(as_jpeg(photo, quality))


def turned_by_exif(photo: Image.Image) -> Image.Image:
    """A photo stored rotated with an EXIF tag that says so, as phones do, and read again."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = _ROTATE_RIGHT
    return decoded(as_jpeg(photo.transpose(Image.Transpose.ROTATE_90), 95, exif))


CORRUPTIONS: dict[str, Corruption] = {
    "all re-encoded as JPEG 75": lambda photo: decoded(as_jpeg(photo)),
    "640 pixels, JPEG 35": lambda photo: compressed(photo, 640, 35),
    "200 pixels, JPEG 30": lambda photo: compressed(photo, 200, 30),
    "twice the size": lambda photo: photo.resize((photo.width * 2, photo.height * 2), Image.Resampling.BILINEAR),
    "turned by EXIF": turned_by_exif,
    "a quarter turn, EXIF lost": lambda photo: photo.rotate(90, expand=True),
    "less than half as bright": lambda photo: photo.point(lambda value: value * 0.45),
    "between black bars on a phone": lambda photo: ImageOps.pad(photo, PHONE, color="black"),
    "between white bars on a phone": lambda photo: ImageOps.pad(photo, PHONE, color="white"),
}
"""Name (a key of report.json) -> what happens to an upright RGB photo on its way to a server."""


def _upright(path: Path, recipe: Recipe, size: Input | None = None) -> Image.Image:
    """A photo at the size that is served (`size`), or with every pixel, to be corrupted first."""
    with naming(path):
        return open_photo(path.read_bytes(), recipe.limits, size)


def _predict(recipe: Recipe, infer: Infer, photo: Image.Image) -> Tensor:
    return infer(to_input(photo, recipe.input))
