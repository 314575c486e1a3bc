"""Which photos to train, validate and measure on, and fingerprints that identify them without naming a photo."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from common.console import note
from common.errors import CheckFailed, InvalidInput, NotFound, UserError
from common.words import number_of
from config.recipe import Recipe
from dataset.listing import files_of
from dataset.photos import PARTS, UNLABELLED, Photo, counts, read_photos
from dataset.splitting.folds import hold_out


class Fingerprint(BaseModel):
    """Photos by label (or one count), number of sources, and one digest of all bytes and labels."""

    model_config = ConfigDict(frozen=True)

    photos: dict[str, int] | int
    sources: int
    sha256: str

    @property
    def count(self) -> int:
        return self.photos if isinstance(self.photos, int) else sum(self.photos.values())


def read_data(folders: Sequence[Path], where: Sequence[str], recipe: Recipe) -> list[Photo]:
    """The photos of all folders and tables.

    Args:
        where: conditions COLUMN=VALUE on a photo's row in the table.

    Raises:
        UserError: as `dataset.photos.read_photos`; or a condition has no "=", or two folders have the same photo.
    """
    conditions = conditions_of(where)
    parts = [read_photos(folder, recipe.labels, conditions, recipe.aliases) for folder in folders]
    if len(folders) > 1:
        _refuse_twice(folders, parts)
    return [photo for part in parts for photo in part]


def _refuse_twice(folders: Sequence[Path], parts: Sequence[Sequence[Photo]]) -> None:
    places: dict[Path, Path] = {}
    for folder, photos in zip(folders, parts, strict=True):
        for photo in photos:
            if (first := places.setdefault(photo.path.resolve(), folder)) is not folder:
                raise InvalidInput(f"{photo.path} is in --data {first} and in --data {folder}", "give one of them")


def read_extra(folders: Sequence[Path], recipe: Recipe) -> list[Photo]:
    """Photos that are used for training only; of a split, only its `train` part. A table may lack labels."""
    photos = [
        photo
        for folder in folders
        for photo in read_photos(folder, recipe.labels, aliases=recipe.aliases, every_label=False)
    ]
    return [photo for photo in photos if photo.part in ("", PARTS[0])]


def read_unlabelled(folders: Sequence[Path]) -> list[Photo]:
    """All photos below these folders, without labels.

    Raises:
        NotFound: a folder contains no photo.
    """
    photos = []
    for folder in folders:
        files = files_of(folder, links=True)
        if not files:
            raise NotFound(f"--unlabelled {folder} has no photo", "give another folder")
        photos += [Photo(path, UNLABELLED, str(path)) for path in files]
    return photos


def divide(photos: Sequence[Photo], recipe: Recipe) -> tuple[list[Photo], list[Photo]]:
    """Training and validation photos: the parts of a split, or else a held-out share of the sources.

    Photos of a `test` part are in neither.

    Raises:
        InvalidInput: only some photos are split, or a part lacks a label.
    """
    if not any(photo.part in PARTS[:2] for photo in photos):  # not split, or only a test part set aside
        return hold_out([photo for photo in photos if not photo.part], recipe.train.validation, recipe.train.seed)
    if not all(photo.part for photo in photos):
        raise InvalidInput(
            "some of --data is split and some is not", "split all of it, or give the unsplit part with --extra"
        )
    parts = [[photo for photo in photos if photo.part == part] for part in PARTS[:2]]
    for part, members in zip(PARTS, parts, strict=False):
        missing = [label for label, count in counts(members, recipe.labels).items() if not count]
        if missing:
            raise InvalidInput(f"the split has no {part} photo of {', '.join(missing)}", "split the photos again")
    return parts[0], parts[1]


def refuse_leak(added: Sequence[Photo], validation: Sequence[Photo], option: str = "--extra") -> None:
    """Refuse photos that would be used both for training and for validation.

    Args:
        option: the command-line option that added the photos.

    Raises:
        CheckFailed: naming the first such photo.
    """
    held_out = {sha256(photo.path): photo.path for photo in validation} if added else {}
    for photo in added:
        if (twin := held_out.get(sha256(photo.path))) is not None:
            raise CheckFailed(f"{option} {photo.path} is held out as {twin}", "leave it out")


def tell_leak(training: Sequence[Photo], validation: Sequence[Photo]) -> None:
    """Say how many held-out photos have the source or the bytes of one that is trained on."""
    sources, digests = {photo.source for photo in training}, {sha256(photo.path) for photo in training}
    for found, what in (
        ([photo for photo in validation if photo.source in sources], "of the source"),
        ([photo for photo in validation if sha256(photo.path) in digests], "with the bytes"),
    ):
        if found:
            note(
                f"warning: {len(found)} of {number_of(len(validation), 'held-out photo')} {what} of a photo that is "
                f"trained on, for example {found[0].path}: the figures will be too good; "
                "dataset split keeps such photos together"
            )


def refuse_both(outside: Sequence[Photo], labelled: Sequence[Photo]) -> None:
    """Refuse a photo that would count both as one of a class and as one of none.

    Raises:
        CheckFailed: naming the first such photo.
    """
    classes = {sha256(photo.path): photo.path for photo in labelled} if outside else {}
    for photo in outside:
        if (twin := classes.get(sha256(photo.path))) is not None:
            raise CheckFailed(f"{photo.path} shows no class, but {twin} has a label", "take out one of them")


def sha256(path: Path) -> str:
    """A file's digest.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", "remove it from the photos") from error


def fingerprint(photos: Sequence[Photo], labels: Sequence[str]) -> Fingerprint:
    """Identify labelled photos."""
    return Fingerprint(photos=counts(photos, labels), sources=_sources(photos), sha256=_digest(photos))


def fingerprint_unlabelled(photos: Sequence[Photo]) -> Fingerprint:
    """Identify photos without labels."""
    return Fingerprint(photos=len(photos), sources=_sources(photos), sha256=_digest(photos))


def _sources(photos: Sequence[Photo]) -> int:
    return len({photo.source for photo in photos})


def _digest(photos: Sequence[Photo]) -> str:
    digest = hashlib.sha256()
    for entry in sorted(f"{photo.label} {sha256(photo.path)}" for photo in photos):
        digest.update(entry.encode())
    return digest.hexdigest()


def conditions_of(where: Sequence[str]) -> Mapping[str, str]:
    """Conditions COLUMN=VALUE as a mapping.

    Raises:
        InvalidInput: one has no "=".
    """
    wrong = [condition for condition in where if "=" not in condition]
    if wrong:
        raise InvalidInput(f"--where {wrong[0]}: write COLUMN=VALUE, for example open_licence=yes")
    return {column: value for column, _, value in (condition.partition("=") for condition in where)}
