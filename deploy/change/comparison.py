"""Compare the archive that serves with a new one on the same photos, before a rollout changes anything.

Both graphs are computed in this process by the engine that serves them, so clients wait for nothing but the processor.
"""

import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.progress import track

from common.console import err_console
from common.errors import InvalidInput, NotFound
from common.statistics import Paired
from config.recipe import Recipe, from_saved
from dataset.photos import PARTS, Photo, read_photos
from handler import engine
from handler.errors import RequestError

Predict = Callable[[bytes], engine.Answer]
_FILES = ("model.onnx", "recipe.json")


def compare(former: Path, new: Path, place: Path) -> Paired:
    """Count the photos that either archive answers rightly.

    Args:
        former, new: archives of the same task.
        place: label folders, a split or a table; of a split, the parts that were not trained on.

    Raises:
        UserError: an archive is missing, the labels differ, or a photo cannot be read (the message names it).
    """
    with tempfile.TemporaryDirectory() as work:
        recipes, predicts = zip(*(_open(mar, Path(work) / str(i)) for i, mar in enumerate((former, new))), strict=True)
        if set(recipes[0].labels) != set(recipes[1].labels):
            raise InvalidInput(f"{former.stem} and {new.stem} have different labels", "leave --photos out")
        return _count(_held_out(place, recipes[1]), recipes, predicts)


def _open(mar: Path, folder: Path) -> tuple[Recipe, Predict]:
    try:
        with zipfile.ZipFile(mar) as archive:
            for name in _FILES:
                archive.extract(name, folder)
        recipe = from_saved((folder / "recipe.json").read_text(encoding="utf-8"))
        return recipe, engine.from_bytes(engine.load(folder / "model.onnx", recipe), recipe)
    except (OSError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        raise InvalidInput(f"{mar} cannot be compared with: {error}", "leave --photos out") from error


def _held_out(place: Path, recipe: Recipe) -> list[Photo]:
    photos = read_photos(place, recipe.labels, aliases=recipe.aliases)
    chosen = [photo for photo in photos if photo.part != PARTS[0]]
    if not chosen:
        raise NotFound(f"--photos {place} has only photos for training", "give photos that were held out")
    return chosen


def _count(photos: Sequence[Photo], recipes: Sequence[Recipe], predicts: Sequence[Predict]) -> Paired:
    counts = {(was, now): 0 for was in (True, False) for now in (True, False)}
    for photo in track(photos, "comparing", console=err_console, transient=True):
        label = recipes[1].labels[photo.label]
        answers = [_answer(photo, *pair) for pair in zip(recipes, predicts, strict=True)]
        counts[answers[0] == label, answers[1] == label] += 1
    return Paired(counts[True, True], counts[True, False], counts[False, True], counts[False, False])


def _answer(photo: Photo, recipe: Recipe, predict: Predict) -> str:
    try:
        return recipe.labels[int(predict(photo.path.read_bytes()).probabilities.argmax())]
    except (OSError, RequestError) as error:
        raise InvalidInput(f"--photos: {photo.path}: {error}", "remove it, or audit the photos first") from error
