"""Photos of no class: from --outside, and those that --data and --extra label `no_class`.

Their kind (logo, chart, flower ...) is their column `kind`, or else the subfolder that they are in; figures are given
by kind. A `test` part is never trained on, as for photos of a class, and a `val` part is left for `evaluate`. With
fewer than LEAST photos left, --outside is refused; photos that are only labelled are left out, with a warning.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from common.console import note
from common.errors import InvalidInput, NotFound
from common.words import number_of
from config.recipe import NO_CLASS, Recipe
from dataset.listing import files_of, listed_name, problem_of_path
from dataset.photos import PARTS, TABLE, Photo, read_photos, read_sources
from dataset.tables import Row, read_rows
from training.data.selection import conditions_of

OUTSIDE = -2
"""The label index of a photo of no class."""
FOLDS = 5
"""At least."""
LEAST = 2 * FOLDS
"""Photos of no class that the folds of training/fitting/scope.py need."""


def read_outside(
    places: Sequence[Path], where: Sequence[str], data: Sequence[Path], extra: Sequence[Path], recipe: Recipe
) -> list[Photo]:
    """Photos of no class, label OUTSIDE; each path once.

    Args:
        places: folders of nothing else, or tables of them (columns path, optional source, kind and split).
        where: conditions COLUMN=VALUE on a photo's row, of `places` and of `data`.
        data, extra: as `read_data` and `read_extra` read them; only photos with the label `no_class` are taken.

    Raises:
        UserError: a place has no photo, or a table has a row of a class.
    """
    conditions = conditions_of(where)
    photos = [photo for place in places for photo in _read_place(place, conditions)]
    for folders, chosen in ((data, conditions), (extra, {})):
        for folder in folders:
            photos += _labelled(folder, chosen, recipe)
    return list({photo.path.resolve(): photo for photo in reversed(photos)}.values())[::-1]


def trained_on(photos: Sequence[Photo], asked: bool = True) -> list[Photo]:
    """Those that a training may use.

    Args:
        asked: whether --outside was given. A few labelled photos alone must not stop a training: they are left out.

    Raises:
        InvalidInput: --outside was given, and fewer than LEAST are left.
    """
    chosen = [photo for photo in photos if photo.part in ("", PARTS[0])]
    if not photos or len(chosen) >= LEAST:
        return chosen
    held_out = len(photos) - len(chosen)
    others = f" ({held_out} of {len(photos)} are held out)" if held_out else ""
    problem = f"{number_of(len(chosen), 'photo')} of no class to train on{others}, but {LEAST} are needed"
    fix = ", or split with a larger --train, for example 0.6" if held_out else ""
    if asked:
        raise InvalidInput(f"--outside: {problem}", f"add photos{fix}")
    without = "the model is made without a scope and gives every photo one of its classes"
    note(f"warning: {problem}, so {without}: label more photos {NO_CLASS}{fix}")
    return []


def kind_of(photo: Photo) -> str:
    return photo.row["kind"]


def _labelled(place: Path, where: Mapping[str, str], recipe: Recipe) -> list[Photo]:
    every = read_photos(place, recipe.labels, where, recipe.aliases, outside=True, every_label=False)
    base = place if place.is_dir() else place.parent
    return [_outside(photo, base) for photo in every if photo.label == len(recipe.labels)]


def _read_place(place: Path, where: Mapping[str, str]) -> list[Photo]:
    rows = _rows_of_folder(place, where) if place.is_dir() else _rows_of_table(place, where)
    photos = [
        Photo(path, OUTSIDE, row.get("group") or row.get("source") or str(path), row.get("split", ""), row)
        for path, row in rows
        if all(row.get(column) == value for column, value in where.items())
    ]
    if not photos:
        raise NotFound(f"--outside {place} has no photo", "give a folder or a table of photos that show no class")
    return [_outside(photo, place if place.is_dir() else place.parent) for photo in photos]


def _rows_of_folder(folder: Path, where: Mapping[str, str]) -> list[tuple[Path, Row]]:
    """The files of a folder with their rows of its SOURCES.tsv, or of the folder above."""
    table = next((place / TABLE for place in (folder, folder.parent) if (place / TABLE).is_file()), None)
    if table is None and where:
        raise NotFound(f"photos of {folder} cannot be selected by {', '.join(where)}: it has no {TABLE}")
    base = table.parent if table else folder
    rows = read_sources(base, where)
    return [(path, rows.get(listed_name(os.path.relpath(path, base)), {})) for path in files_of(folder, links=True)]


def _rows_of_table(table: Path, where: Mapping[str, str]) -> list[tuple[Path, Row]]:
    rows = read_rows(table, ("path", *where))
    for row in rows:
        if row.get("label", "") not in ("", NO_CLASS):
            problem = f"--outside {table}: {row['path']} has the label {row['label']}"
            raise InvalidInput(problem, f"leave it out, or give it the label {NO_CLASS}")
        if row.get("split", "") not in ("", *PARTS):
            problem = f"--outside {table}: {row['path']} has the split {row['split']!r}"
            raise InvalidInput(problem, f"write {', '.join(PARTS)}, or nothing")
        problem, fix = problem_of_path(table.parent / row["path"], row["path"])
        if problem:
            fix = fix or "paths are relative to the table"
            raise InvalidInput(f"{table}: {row['path']}: {problem}", fix)
    return [(table.parent / row["path"], row) for row in rows]


def _outside(photo: Photo, base: Path) -> Photo:
    kind = photo.row.get("kind") or _folder_kind(Path(os.path.relpath(photo.path, base)), base)
    return replace(photo, label=OUTSIDE, row={**photo.row, "kind": kind})


def _folder_kind(path: Path, base: Path) -> str:
    """The subfolder of a photo, below its part and `no_class`; without one, the name of the folder.

    The photos of a table may lie elsewhere (`../..`): then it is the folder of the photo.
    """
    folders = [name for name in path.parts[:-1] if name not in (*PARTS, NO_CLASS, "..")]
    elsewhere = path.parts[0] == ".."
    return folders[-1 if elsewhere else 0] if folders else base.resolve().name
