"""Ask the anchor and the candidate about the same photos, with the code that serves them, and apply the gate."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dataset.photos import Photo, read_photos
from feedback.learning.gate import Compared, Verdict, decide
from handler import engine
from handler.errors import RequestError
from handler.image import preprocess
from handler.spec import Spec, read_spec


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
    models = [Model(anchor), Model(candidate)]

    def compared(photos: Sequence[Photo], probabilities: Sequence[float]) -> list[Compared]:
        right = [model.right(photos) for model in models]
        return [Compared(*row) for row in zip(*right, probabilities, strict=True)]

    sampled = _probabilities(snapshot)
    random = [photo for photo in evidence.held if photo.path.stem in sampled]
    return decide(
        compared(evidence.frozen, [1.0] * len(evidence.frozen)),
        compared(random, [sampled[photo.path.stem] for photo in random]),
        compared(evidence.held, [1.0] * len(evidence.held)),
        compared(evidence.once_fixed, [1.0] * len(evidence.once_fixed)),
        tries,
    )


class Model:
    """A bundle, ready to answer."""

    def __init__(self, bundle: Path) -> None:
        self.spec: Spec = read_spec(bundle / "recipe.json")
        self._answer = engine.load(bundle / "model.onnx", self.spec)

    def right(self, photos: Sequence[Photo]) -> list[bool]:
        """For each photo whether the answer is its label; a photo that cannot be decoded is wrong for every model."""
        return [self._right(photo) for photo in photos]

    def _right(self, photo: Photo) -> bool:
        try:
            pixels = preprocess(photo.path.read_bytes(), self.spec.input, self.spec.limits)
        except RequestError:
            return False
        return int(self._answer(pixels).argmax()) == photo.label


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
