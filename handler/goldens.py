"""Golden photos: drawn photos with the answers that the model gave when it was exported.

They are checked when an archive is packed and whenever a worker starts, on the machine that will serve. So the effect
of another CPU, another runtime version or a damaged graph shows before a client gets a wrong answer.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from handler.errors import RequestError

if TYPE_CHECKING:  # `deploy rollback` reads goldens and must be fast, and importing pydantic takes 0.1 s
    from handler.engine import Answer
    from handler.spec import Spec

FILE = "goldens.json"


class GoldenMismatch(RuntimeError):
    """The golden photos are unsuitable, or the graph no longer gives their recorded answers."""


@dataclass(frozen=True)
class Golden:
    """A drawn photo (path relative to its bundle) and its probabilities in label order.

    `label`: the answer at export. `shows_label` (`own` in JSON): the photo is a drawing of this label, so every version
    of the model should answer it. Otherwise the photo is a pattern without a label, and other versions may answer
    differently. `in_scope`: the probability at export that it shows a class; None in a model that does not know.
    """

    photo: str
    label: str
    probabilities: tuple[float, ...]
    shows_label: bool = True
    in_scope: float | None = None


def read(bundle: Path | zipfile.Path) -> list[Golden]:
    """Read the `goldens.json` of a bundle or of an archive.

    Raises:
        OSError, ValueError, KeyError: it is missing or damaged.
    """
    rows = json.loads((bundle / FILE).read_text(encoding="utf-8"))
    return [
        Golden(row["photo"], row["label"], tuple(row["probabilities"]), row.get("own", True), row.get("in_scope"))
        for row in rows
    ]


def require(rows: list[Golden], spec: Spec) -> None:
    """Refuse goldens that would prove too little: too few, a label without one, or an uncertain answer.

    For patterns neither label nor margin is required.

    Raises:
        GoldenMismatch: the goldens do not meet the recipe's requirements.
    """
    if len(rows) < spec.goldens.count:
        raise GoldenMismatch(
            f"there are {len(rows)} golden photos, fewer than the {spec.goldens.count} of the recipe: "
            "export the run again"
        )
    missing = set(spec.labels) - {golden.label for golden in rows}
    if missing and all(golden.shows_label for golden in rows):
        raise GoldenMismatch(f"no golden photo of {', '.join(sorted(missing))}: export the run again")
    for golden in rows:
        second, first = sorted(golden.probabilities)[-2:]
        if golden.shows_label and first - second < spec.goldens.margin:
            raise GoldenMismatch(
                f"{golden.photo}: the margin between its first and second label is {first - second:.3f}, "
                f"below {spec.goldens.margin}: export the run again"
            )


def check(bundle: Path, spec: Spec, predict: Callable[[bytes], Answer]) -> float:
    """Classify every golden photo and compare with the recorded answers.

    Args:
        predict: a photo's bytes -> its answer (`engine.from_bytes`).

    Returns:
        the largest |p - recorded p| over all photos, classes and in_scope.

    Raises:
        GoldenMismatch: another label, in scope instead of out of scope or the reverse, or a difference above the
            recipe's tolerance.
    """
    largest = 0.0
    for golden in read(bundle):
        try:
            answer = predict((bundle / golden.photo).read_bytes())
        except RequestError as error:
            raise GoldenMismatch(f"{golden.photo}: {error}: export the run again") from error
        probabilities = [float(p) for p in answer.probabilities]
        label = spec.labels[probabilities.index(max(probabilities))]
        moved = difference(golden, probabilities, answer.in_scope)
        if label != golden.label or not moved <= spec.goldens.tolerance or crossed(golden, answer.in_scope, spec):
            raise GoldenMismatch(_explain(golden, label, probabilities, answer.in_scope, spec))
        largest = max(largest, moved)
    return largest


def difference(golden: Golden, probabilities: Sequence[float], in_scope: float | None) -> float:
    """The largest |p - recorded p| of a golden photo; 1 if a class or in_scope is missing or too many."""
    if len(probabilities) != len(golden.probabilities) or (in_scope is None) != (golden.in_scope is None):
        return 1.0
    pairs = [*zip(probabilities, golden.probabilities, strict=True), (in_scope or 0.0, golden.in_scope or 0.0)]
    return max(abs(p - q) for p, q in pairs)


def crossed(golden: Golden, in_scope: float | None, spec: Spec) -> bool:
    """Whether a golden photo has come into scope or fallen out of it since the export."""
    return spec.answer.is_out_of_scope(golden.in_scope) != spec.answer.is_out_of_scope(in_scope)


def _explain(golden: Golden, label: str, probabilities: list[float], in_scope: float | None, spec: Spec) -> str:
    recorded, now = ("" if p is None else f", in scope {p:.4f}" for p in (golden.in_scope, in_scope))
    return (
        f"{golden.photo}: recorded answer {golden.label} {list(golden.probabilities)}{recorded}, "
        f"answer now {label} {[round(p, 4) for p in probabilities]}{now} (tolerance {spec.goldens.tolerance}): "
        "pack the model again on this kind of machine, or serve it where it was packed"
    )
