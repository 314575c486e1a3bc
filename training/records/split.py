"""Which photos a run trained on and which it held out, reconstructed from the same data."""

from collections.abc import Sequence
from pathlib import Path

from common.errors import InvalidInput, NotFound
from config.recipe import Recipe
from dataset.photos import PARTS, Photo
from training.data.selection import divide, fingerprint, fingerprint_unlabelled, read_data
from training.records.run import RunRecord


def choose_part(
    photos: Sequence[Photo], part: str | None, recipe: Recipe, record: RunRecord
) -> tuple[list[Photo], str]:
    """The photos to measure a run on; by default none that it was trained on.

    Data without a split is divided as the run divided it, if the run was made from exactly these photos.

    Returns:
        the photos, and which they are: a part of the split, `held out`, or `all`.

    Raises:
        NotFound: the data is not split, or the part has no photo.
    """
    split = any(photo.part in PARTS[:2] for photo in photos)
    if part is None and not split and fingerprint(photos, recipe.labels) == record.inputs.data:
        return divide(photos, recipe)[1], "held out"
    name = part or ("val" if split else "all")
    chosen = [photo for photo in photos if name in ("all", photo.part)]
    if not chosen:
        parts = ", ".join(dict.fromkeys(photo.part for photo in photos)) if split else "no split"
        raise NotFound(f"--part {name}: the data has {parts}", "split it first (python -m dataset split)")
    return chosen, name


def split_of_run(
    run: Path, recipe: Recipe, record: RunRecord, data: Sequence[Path], where: Sequence[str]
) -> tuple[list[Photo], list[Photo]]:
    """The training and held-out photos of a run.

    Args:
        run: the folder that messages name.

    Raises:
        InvalidInput: the run was made from other photos, or held out others of them.
    """
    photos = read_data(data, where, recipe)
    training, validation = divide(photos, recipe)
    if fingerprint(validation, recipe.labels) != record.inputs.validation:
        raise InvalidInput(f"{run} held out other photos", "give the --data and --where it was trained with")
    if fingerprint(photos, recipe.labels) != record.inputs.data:
        raise InvalidInput(f"{run} was trained on other photos", "give its --data and --where, or train a new run")
    return training, validation


def outside_of_run(run: Path, record: RunRecord, outside: Sequence[Photo]) -> Sequence[Photo]:
    """Photos of no class, if they are those of the run, or it had none.

    Raises:
        InvalidInput: the run was made with others.
    """
    expected = record.inputs.outside
    if expected is not None and (not outside or fingerprint_unlabelled(outside) != expected):
        raise InvalidInput(f"{run} was trained with other photos of no class", "give its --outside again")
    return outside
