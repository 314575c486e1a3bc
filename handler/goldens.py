"""Golden answers: drawn photos that an archive must answer as it did when it was made.

They are checked when the archive is packed and each time a worker starts, on
the very machine that will serve: another CPU, another runtime version or a
damaged graph shows here, before a client sees it.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from handler.errors import RequestError

if TYPE_CHECKING:  # rollback asks a golden photo within a second, and pydantic takes a tenth of it
    from handler.spec import Spec

FILE = "goldens.json"


class GoldenMismatch(RuntimeError):
    """The graph does not answer as it did when it was made."""


@dataclass(frozen=True)
class Golden:
    """A drawn photo (path relative to its bundle) and its probabilities in label order.

    `label`: the answer when it was made. `own`: the photo is a drawing of this label, so that every version should
    answer so; otherwise it is a pattern, of no label, and the answer is one version's alone.
    """

    photo: str
    label: str
    probabilities: tuple[float, ...]
    own: bool = True


def read(bundle: Path | zipfile.Path) -> list[Golden]:
    """Read the `goldens.json` of a bundle, or of an archive as it is.

    Raises:
        OSError, ValueError, KeyError: it is missing or damaged.
    """
    rows = json.loads((bundle / FILE).read_text(encoding="utf-8"))
    return [Golden(row["photo"], row["label"], tuple(row["probabilities"]), row.get("own", True)) for row in rows]


def require(found: list[Golden], spec: Spec) -> None:
    """Refuse goldens that would prove little: too few, a label without one, or one that could tip over.

    Patterns have neither label nor margin to be held to; their probabilities are.

    Raises:
        GoldenMismatch: naming what is wanted.
    """
    if len(found) < spec.goldens.count:
        raise GoldenMismatch(
            f"{len(found)} golden photos, at least {spec.goldens.count} are wanted: export the run again"
        )
    absent = set(spec.labels) - {golden.label for golden in found}
    if absent and all(golden.own for golden in found):
        raise GoldenMismatch(f"no golden photo of {', '.join(sorted(absent))}: export the run again")
    for golden in found:
        second, first = sorted(golden.probabilities)[-2:]
        if golden.own and first - second < spec.goldens.margin:
            raise GoldenMismatch(f"{golden.photo}: margin {first - second:.3f} is below {spec.goldens.margin}")


def check(bundle: Path, spec: Spec, ask: Callable[[bytes], Iterable[float]]) -> float:
    """Ask every golden photo again.

    Args:
        ask: a photo's bytes -> its probabilities in label order (`engine.from_bytes`).

    Returns:
        the largest |p - p when made| over all photos and classes.

    Raises:
        GoldenMismatch: another label, or a difference above the recipe's tolerance.
    """
    largest = 0.0
    for golden in read(bundle):
        try:
            now = [float(p) for p in ask((bundle / golden.photo).read_bytes())]
        except RequestError as error:
            raise GoldenMismatch(f"{golden.photo}: {error}: export the run again") from error
        difference = max(abs(p - q) for p, q in zip(now, golden.probabilities, strict=True))
        label = spec.labels[now.index(max(now))]
        if label != golden.label or not difference <= spec.goldens.tolerance:
            raise GoldenMismatch(_explain(golden, label, [round(p, 4) for p in now], spec))
        largest = max(largest, difference)
    return largest


def _explain(golden: Golden, label: str, now: list[float], spec: Spec) -> str:
    return (
        f"{golden.photo}: was {golden.label} {list(golden.probabilities)}, is {label} {now} "
        f"(tolerance {spec.goldens.tolerance}): pack the model again on this kind of machine, "
        "or serve it where it was packed"
    )
