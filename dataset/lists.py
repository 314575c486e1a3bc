"""A folder of labelled photos as lists: labels.txt, and trainval.txt and test.txt with lines `CLASS PATH`.

CLASS is counted from 0, the first line of labels.txt; PATH is relative to the folder and may have blanks. The photos of
trainval.txt are trained on, but for what the recipe holds out (`train.validation`); those of test.txt are a split's
`test` part. `dataset convert` writes such folders.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from common.errors import UserError
from common.files import write_whole
from dataset.tables import Row

LABELS = "labels.txt"
LISTS = {"trainval": "", "test": "test"}
"""Name of a list -> the part of a split that it is."""


def is_listed(folder: Path) -> bool:
    """Whether a folder is described by lists."""
    return (folder / LABELS).is_file() and (folder / "trainval.txt").is_file()


def read_lists(folder: Path, labels: Sequence[str]) -> list[Row]:
    """The photos of a folder of lists: rows of path, label and split.

    Raises:
        UserError: a list cannot be read, labels.txt is not the recipe's, a line is wrong, a photo is
            missing, or one is in both lists.
    """
    named = _lines(folder / LABELS)
    if named != list(labels):
        raise UserError(
            f"{folder / LABELS} is not the recipe's list of labels (of {len(named)} and {len(labels)}): "
            "name the recipe's labels as there, in that order"
        )
    rows: dict[str, Row] = {}
    for name, part in LISTS.items():
        path = folder / f"{name}.txt"
        if name != "trainval" and not path.is_file():
            continue
        for number, line in enumerate(_lines(path), 1):
            row = {**_row(folder, f"{path}:{number}", line, named), "split": part}
            if rows.setdefault(row["path"], row)["split"] != part:
                raise UserError(f"{path}:{number}: {row['path']} is in trainval.txt too: leave one")
    return list(rows.values())


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a list, whole.

    Raises:
        OSError: it cannot be written.
    """
    write_whole(path, "".join(f"{line}\n" for line in lines).encode())


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def _row(folder: Path, place: str, line: str, labels: Sequence[str]) -> Row:
    index, _, name = line.partition(" ")
    if not index.isdecimal() or int(index) >= len(labels) or not name:
        raise UserError(f"{place}: {line[:60]!r}: write CLASS PATH, CLASS from 0 to {len(labels) - 1}")
    if not (folder / name).is_file():
        raise UserError(f"{place}: {name}: there is no such file: paths are relative to {folder}")
    return {"path": name, "label": labels[int(index)]}
