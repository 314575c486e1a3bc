"""What the current model says of photos that nobody has labelled yet, found in one background thread.

The page is usable meanwhile. Least sure first: photos below the bundle's `unsure_below`, then those that the
model has not said anything of, then those that it is sure of, by probability.
"""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from pydantic import ValidationError

from common.errors import UserError
from handler.engine import load
from handler.errors import RequestError, TooLarge
from handler.image import open_photo, to_input
from handler.spec import Limits, Spec, read_spec


@dataclass(frozen=True)
class Suggestion:
    """The likeliest label and its probability."""

    label: str
    probability: float


class Suggestions:
    """Suggestions of a bundle's model, or of none.

    Args:
        bundle: a folder with `model.onnx` and `recipe.json`.
        labels: what the model must tell apart.

    Raises:
        UserError: the bundle cannot be read, or has other labels.
    """

    def __init__(self, bundle: Path | None, labels: Sequence[str]) -> None:
        self.bundle = bundle
        self.busy = False
        self.fault = ""
        self._said: dict[int, Suggestion] = {}
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._spec = _read(bundle, labels) if bundle else None

    def start(self, photos: Iterable[tuple[int, Path]]) -> None:
        """Score photos, given by index and path, in a thread of its own."""
        if self.bundle and self._spec:
            self.busy = True
            arguments = (self.bundle, self._spec, list(photos))
            self._thread = threading.Thread(target=self._run, args=arguments, name="suggestions", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Let the thread end after its photo, and wait for it."""
        self._stopped.set()
        if self._thread:
            self._thread.join(timeout=30)

    def of(self, index: int) -> Suggestion | None:
        return self._said.get(index)

    def rank(self, index: int) -> tuple[int, float]:
        """Order of showing, smaller is sooner."""
        said = self._said.get(index)
        if said is None or self._spec is None:
            return 1, 0.0
        return (0 if said.probability < self._spec.answer.unsure_below else 2), said.probability

    def _run(self, bundle: Path, spec: Spec, photos: Sequence[tuple[int, Path]]) -> None:
        try:
            engine = load(bundle / "model.onnx", spec)
            for index, path in photos:
                if self._stopped.is_set():
                    return
                try:
                    photo = read_photo(path, spec.limits)
                except (RequestError, OSError):
                    continue  # nothing is suggested for what cannot be opened
                scores = engine(to_input(photo, spec.input))
                best = int(scores.argmax())
                self._said[index] = Suggestion(spec.labels[best], float(scores[best]))
        except Exception as error:  # labelling goes on without suggestions; the page says why
            self.fault = f"no suggestions: {error}"
        finally:
            self.busy = False


def read_photo(path: Path, limits: Limits) -> Image.Image:
    """Open a photo as a model would, upright and in RGB.

    Raises:
        RequestError: it cannot be opened as a photo.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    if size > limits.bytes:
        raise TooLarge("image_too_large", f"the photo has {size} bytes, at most {limits.bytes} are taken")
    return open_photo(path.read_bytes(), limits)


def _read(bundle: Path, labels: Sequence[str]) -> Spec:
    try:
        if not (bundle / "model.onnx").is_file():
            raise UserError(f"{bundle} has no model.onnx: give a bundle with --model, or --no-model")
        spec = read_spec(bundle / "recipe.json")
    except (OSError, ValueError, ValidationError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{bundle}: {reason}: give a bundle with --model, or --no-model") from error
    if set(spec.labels) != set(labels):
        raise UserError(
            f"{bundle} tells {', '.join(spec.labels)} apart, not {', '.join(labels)}: "
            "give another --model or --recipe, or --no-model"
        )
    return spec
