"""Ask the anchor and the candidate about the same photos, with the code that serves them, and apply the gate."""

import csv
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dataset.photos import Photo, read_photos
from feedback.learning.conditions import Verdict
from feedback.learning.gate import Compared, decide
from feedback.learning.serving import Answers, as_fast, as_small, calibrated, not_less_sure
from handler import engine
from handler.errors import RequestError
from handler.image import preprocess
from handler.spec import Spec, read_spec

GRAPH = "model.onnx"
LEAST_SAMPLE = 100
"""Photos of the random sample from which calibration is measured on them, instead of on the frozen ones."""


@dataclass(frozen=True)
class Evidence:
    """Photos to ask about, by condition of the gate."""

    frozen: list[Photo]
    held: list[Photo]
    once_fixed: list[Photo]


def gather(frozen: Path, snapshot: Path, once_fixed: Path | None, labels: Sequence[str]) -> Evidence:
    """Read the photos.

    Args:
        once_fixed: label folders of photos that were wrong once and that a former version fixed.
    """
    return Evidence(
        read_photos(frozen, labels),
        _some(snapshot / "held", labels),
        _some(once_fixed, labels) if once_fixed else [],
    )


def judge(anchor: Path, candidate: Path, evidence: Evidence, snapshot: Path, tries: int) -> Verdict:
    """Compare two bundles.

    Args:
        anchor, candidate: bundles with the same labels.
        snapshot: its table has the sampling probabilities.
        tries: candidates since the anchor.
    """
    models = Model(anchor), Model(candidate)
    sampled = _probabilities(snapshot)
    random = [photo for photo in evidence.held if photo.path.stem in sampled]
    frozen, held, once_fixed = (
        _ask(models, photos) for photos in (evidence.frozen, evidence.held, evidence.once_fixed)
    )
    of_sample = [pair for photo, pair in zip(evidence.held, held, strict=True) if photo.path.stem in sampled]
    pairs = of_sample if len(of_sample) >= LEAST_SAMPLE else frozen
    before, after = (_answers(model, [pair[index] for pair in pairs]) for index, model in enumerate(models))
    return decide(
        _compared(frozen),
        _compared(of_sample, [sampled[photo.path.stem] for photo in random]),
        _compared(held),
        _compared(once_fixed),
        tries,
        (
            calibrated(before, after),
            not_less_sure(before, after),
            as_fast(before, after, models[1].spec.rollout.latency_ratio),
            as_small(before, after),
        ),
    )


class Asked(NamedTuple):
    """One model's answer to a photo."""

    right: bool
    confidence: float
    milliseconds: float


class Model:
    """A bundle, ready to answer."""

    def __init__(self, bundle: Path) -> None:
        self.spec: Spec = read_spec(bundle / "recipe.json")
        self.size = (bundle / GRAPH).stat().st_size
        self._answer = engine.load(bundle / GRAPH, self.spec)

    def ask(self, photo: Photo) -> Asked:
        """Answer a photo; one that cannot be decoded is wrong for every model."""
        try:
            pixels = preprocess(photo.path.read_bytes(), self.spec.input, self.spec.limits)
        except RequestError:
            return Asked(False, 0.0, 0.0)
        begun = time.perf_counter()
        probabilities = self._answer(pixels)
        spent = (time.perf_counter() - begun) * 1000
        return Asked(int(probabilities.argmax()) == photo.label, float(probabilities.max()), spent)


def _ask(models: tuple[Model, Model], photos: Sequence[Photo]) -> list[tuple[Asked, Asked]]:
    """The answers of both, in turn, so that other work on the machine slows both."""
    return [(models[0].ask(photo), models[1].ask(photo)) for photo in photos]


def _compared(pairs: Sequence[tuple[Asked, Asked]], probabilities: Sequence[float] = ()) -> list[Compared]:
    weights = probabilities or [1.0] * len(pairs)
    return [Compared(a.right, b.right, weight) for (a, b), weight in zip(pairs, weights, strict=True)]


def _answers(model: Model, asked: Sequence[Asked]) -> Answers:
    columns = zip(*asked, strict=True) if asked else ((), (), ())
    right, confidences, milliseconds = columns
    return Answers(right, confidences, milliseconds, model.spec.answer.unsure_below, model.size)


def _some(folder: Path, labels: Sequence[str]) -> list[Photo]:
    """Photos in label folders of which some may be missing."""
    return [
        Photo(path, index, path.name)
        for index, label in enumerate(labels)
        for path in sorted((folder / label).glob("*"))
        if path.is_file()
    ]


def _probabilities(snapshot: Path) -> dict[str, float]:
    """Id of a photo of the random sample -> its sampling probability."""
    with (snapshot / "photos.tsv").open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return {row["id"]: float(row["probability"]) for row in rows if row["reason"] == "random"}
