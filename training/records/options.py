"""Options that several steps share, and how they are read."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from common.errors import UserError
from config.recipe import Recipe
from dataset.photos import PARTS, Photo, counts, hold_out, read_photos
from training.records.run import RUNS, fingerprint, sha256

Command = Callable[..., Any]


def data_options(command: Command) -> Command:
    """--data (again and again), --where."""
    command = click.option(
        "--where", metavar="COLUMN=VALUE", multiple=True, help="Keep photos whose row in the table has this value."
    )(command)
    return click.option(
        "--data",
        multiple=True,
        required=True,
        type=click.Path(exists=True, path_type=Path),
        help="Label folders, a split (dataset split), or a table of path and label; may be given again.",
    )(command)


extra_option = click.option(
    "--extra",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="As --data, but only ever trained on, never held out or tested: drawn photos, say.",
)
runs_option = click.option(
    "--runs", "root", default=RUNS, show_default=True, type=click.Path(path_type=Path), help="Where runs are written."
)
fresh_option = click.option(
    "--fresh", is_flag=True, help="Start anew where the same command was interrupted (it would go on)."
)
part_option = click.option(
    "--part",
    type=click.Choice([*PARTS, "all"]),
    help="Of a split.  [default: val; of unsplit data what RUN held out, or all if RUN never saw it]",
)
run_argument = click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))


def read_data(folders: Sequence[Path], where: Sequence[str], recipe: Recipe) -> list[Photo]:
    """The photos of all folders and tables.

    Raises:
        UserError: as `dataset.photos.read_photos`; or `where` has no "=".
    """
    wanted = _conditions(where)
    return [photo for folder in folders for photo in read_photos(folder, recipe.labels, wanted, recipe.aliases)]


def read_extra(folders: Sequence[Path], recipe: Recipe) -> list[Photo]:
    """Photos to train on besides; of a split only its `train` part."""
    return [photo for photo in read_data(folders, (), recipe) if photo.part in ("", PARTS[0])]


def refuse_leak(added: Sequence[Photo], validation: Sequence[Photo], option: str = "--extra") -> None:
    """Refuse photos that are trained on and validated on.

    Args:
        option: by which they were given.

    Raises:
        UserError: naming the first.
    """
    held = {sha256(photo.path): photo.path for photo in validation} if added else {}
    for photo in added:
        if (twin := held.get(sha256(photo.path))) is not None:
            raise UserError(f"{option} {photo.path} is held out as {twin}: leave it out")


def divide(photos: Sequence[Photo], recipe: Recipe) -> tuple[list[Photo], list[Photo]]:
    """Training and validation photos: as the data is split, or else a held-out share of the sources.

    Photos of a `test` part are in neither.

    Raises:
        UserError: some photos are split and others not; a part lacks a label.
    """
    if not any(photo.part in PARTS[:2] for photo in photos):  # not split, or only a test part set aside
        return hold_out([photo for photo in photos if not photo.part], recipe.train.validation, recipe.train.seed)
    if not all(photo.part for photo in photos):
        raise UserError("some of --data is split and some not: split all of it, or give it with --extra")
    parts = [[photo for photo in photos if photo.part == part] for part in PARTS[:2]]
    for part, chosen in zip(PARTS, parts, strict=False):
        absent = [label for label, count in counts(chosen, recipe.labels).items() if not count]
        if absent:
            raise UserError(f"the split has no {part} photo of {', '.join(absent)}: split it again")
    return parts[0], parts[1]


def choose_part(
    photos: Sequence[Photo], part: str | None, recipe: Recipe, facts: Mapping[str, Any]
) -> tuple[list[Photo], str]:
    """The photos to measure on, by default none that was trained on.

    Args:
        facts: the run's; the photos that it was made from and that are not split are divided again as it did.

    Returns:
        the photos, and which they are: a part of the split, `held out`, or `all`.

    Raises:
        UserError: nothing is split, or the part has no photo.
    """
    split = any(photo.part in PARTS[:2] for photo in photos)
    if part is None and not split and fingerprint(photos, recipe.labels) == facts.get("data"):
        return divide(photos, recipe)[1], "held out"
    wanted = part or ("val" if split else "all")
    chosen = [photo for photo in photos if wanted in ("all", photo.part)]
    if not chosen:
        have = ", ".join(dict.fromkeys(photo.part for photo in photos)) if split else "no split"
        raise UserError(f"--part {wanted}: the data has {have}: split it first (python -m dataset split)")
    return chosen, wanted


def split_of_run(
    run: Path, recipe: Recipe, facts: Mapping[str, Any], data: Sequence[Path], where: Sequence[str]
) -> tuple[list[Photo], list[Photo]]:
    """The training and held-out photos of a run, found again.

    Raises:
        UserError: these photos give another split than the run's.
    """
    photos = read_data(data, where, recipe)
    training, validation = divide(photos, recipe)
    if fingerprint(validation, recipe.labels) != facts["validation"]:
        raise UserError(f"{run} held out other photos: give the --data and --where it was trained with")
    if fingerprint(photos, recipe.labels) != facts["data"]:
        raise UserError(f"{run} was trained on other photos: give its --data and --where, or train anew")
    return training, validation


def _conditions(where: Sequence[str]) -> Mapping[str, str]:
    wrong = [condition for condition in where if "=" not in condition]
    if wrong:
        raise UserError(f"--where {wrong[0]}: write COLUMN=VALUE, for example open_licence=yes")
    return {column: value for column, _, value in (condition.partition("=") for condition in where)}
