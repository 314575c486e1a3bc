"""The current model's suggestions for photos that nobody has labelled yet, computed in a background thread.

The page works meanwhile. The most uncertain photos come first: those below the bundle's `unsure_below`, then
those that the model has not classified yet, then the confident ones; each group by ascending probability.
"""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from common.errors import InvalidInput, NotFound
from handler.engine import load
from handler.errors import RequestError, TooLarge
from handler.image import open_photo, to_input
from handler.spec import Limits, Spec, read_spec

_FIX = "give a bundle with --model, or use --no-model"


@dataclass(frozen=True)
class Suggestion:
    """The most likely label and its probability."""

    label: str
    probability: float


class Suggestions:
    """Suggestions of a bundle's model.

    Args:
        bundle: a folder with `model.onnx` and `recipe.json`; None: no suggestions.
        labels: the labels that the model must have.

    Raises:
        UserError: the bundle cannot be read, or has other labels.
    """

    def __init__(self, bundle: Path | None, labels: Sequence[str]) -> None:
        self.bundle = bundle
        self.busy = False
        self.fault = ""
        self._suggestions: dict[int, Suggestion] = {}
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._spec = _read(bundle, labels) if bundle else None

    def start(self, photos: Iterable[tuple[int, Path]]) -> None:
        """Classify photos (index, path) in a background thread."""
        if self.bundle and self._spec:
            self.busy = True
            arguments = (self.bundle, self._spec, list(photos))
            self._thread = threading.Thread(target=self._run, args=arguments, name="suggestions", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop the thread after its current photo, and wait for it."""
        self._stopped.set()
        if self._thread:
            self._thread.join(timeout=30)

    def of(self, index: int) -> Suggestion | None:
        return self._suggestions.get(index)

    def rank(self, index: int) -> tuple[int, float]:
        """A photo's place in the order; smaller is shown sooner."""
        suggestion = self._suggestions.get(index)
        if suggestion is None or self._spec is None:
            return 1, 0.0
        return (0 if suggestion.probability < self._spec.answer.unsure_below else 2), suggestion.probability

    def _run(self, bundle: Path, spec: Spec, photos: Sequence[tuple[int, Path]]) -> None:
        try:
            engine = load(bundle / "model.onnx", spec)
            for index, path in photos:
                if self._stopped.is_set():
                    return
                try:
                    photo = read_photo(path, spec.limits)
                except (RequestError, OSError):
                    continue  # no suggestion for a photo that cannot be opened
                probabilities = engine(to_input(photo, spec.input))
                best = int(probabilities.argmax())
                self._suggestions[index] = Suggestion(spec.labels[best], float(probabilities[best]))
        except Exception as error:  # labelling continues without suggestions, and the page shows the reason
            self.fault = f"no suggestions: {error}"
        finally:
            self.busy = False


def read_photo(path: Path, limits: Limits) -> Image.Image:
    """Open a photo as serving does, upright and in RGB.

    Raises:
        RequestError: it cannot be decoded, or is over a limit.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    if size > limits.bytes:
        raise TooLarge("image_too_large", f"the photo has {size} bytes, more than the limit of {limits.bytes}")
    return open_photo(path.read_bytes(), limits)


def _read(bundle: Path, labels: Sequence[str]) -> Spec:
    if not (bundle / "model.onnx").is_file():
        raise NotFound(f"{bundle} has no model.onnx", _FIX)
    try:
        spec = read_spec(bundle / "recipe.json")
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{bundle}: {' '.join(str(error).split())}", _FIX) from error
    if set(spec.labels) != set(labels):
        raise InvalidInput(
            f"the model in {bundle} has the labels {', '.join(spec.labels)}, not {', '.join(labels)}",
            "give another --model or --recipe, or use --no-model",
        )
    return spec
