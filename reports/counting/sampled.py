"""The folder of a sample: the table of the drawn photos, and the scores that it was drawn from."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from common.errors import InvalidInput, NotFound
from reports.manifest.spreadsheet import is_formula
from reports.manifest.tables import open_table
from reports.scoring.job import Job

SAMPLE = "sample.csv"
"""The table of the drawn photos, in the folder of the sample."""
ORIGIN = "sample.json"
"""The scores and the label that the sample was drawn for, in the same folder."""

POSITIVE, OTHER, OUTSIDE = "1", "0", "out_of_scope"
"""Values of the column `positive`: answered with the reported label, with another one, out of scope."""

COLUMNS = ("file", "photo_id", "positive", "photos", "label", "confidence")

_LEGAL = {
    "file": "(?s:.+)",
    "photo_id": "(?s:.+)",
    "positive": f"{POSITIVE}|{OTHER}|{OUTSIDE}",
    "photos": r"[0-9]+",
    "confidence": r"[0-9]*\.?[0-9]+(e-[0-9]+)?",
}


def require_drawn_with(folder: Path, **options: int | None) -> None:
    """Check that a sample was drawn with these options; None is not checked, nor are samples of earlier versions.

    Raises:
        InvalidInput: it was drawn with another value.
    """
    kept = json.loads((folder / ORIGIN).read_text(encoding="utf-8")) if (folder / ORIGIN).exists() else {}
    for name, value in options.items():
        if value is not None and (former := kept.get(name, value)) != value:
            fix = f"leave out --{name}, or draw another sample with another --out"
            raise InvalidInput(f"{folder} was drawn with --{name} {former}, not {value}", fix)


def origin_of(job: Job, label: str) -> dict[str, str]:
    """What a sample is drawn from, for `ORIGIN`."""
    return {"model_digest": job.digest, "manifest_digest": job.manifest_digest, "label": label}


def require_origin(folder: Path, job: Job, label: str) -> bool:
    """Check that a sample was drawn from these scores for this label.

    Returns:
        False: an earlier version drew the sample and did not write this down.

    Raises:
        InvalidInput: it was drawn from other scores, or for another label.
    """
    try:
        kept = json.loads((folder / ORIGIN).read_text(encoding="utf-8"))
        given = {name: str(kept[name]) for name in origin_of(job, label)}
    except FileNotFoundError:
        return False
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InvalidInput(f"{folder / ORIGIN} is damaged: {error}", "draw another sample") from error
    differs = [name for name, value in origin_of(job, label).items() if given[name] != value]
    if differs == ["label"]:
        former = given["label"]
        raise InvalidInput(
            f"{folder} was drawn for the label {former}, not {label}", f"give --label {former}, or draw another sample"
        )
    if differs:
        other = "another model" if "model_digest" in differs else "another manifest"
        raise InvalidInput(f"{folder} was drawn from scores of {other} than {job.folder}", "draw another sample")
    return True


def read_sample(folder: Path, columns: Sequence[str] = COLUMNS[:4]) -> list[dict[str, str]]:
    """The rows of `SAMPLE`, which must have some columns.

    Raises:
        NotFound, InvalidInput: there is no sample, or a row is damaged.
    """
    path = folder / SAMPLE
    if not path.is_file():
        raise NotFound(f"{folder} has no {SAMPLE}", "draw it with: photoloop reports sample")
    rows = rows_of(path, columns)
    for number, cells in rows:
        illegal = (name for name in columns if name in _LEGAL and not re.fullmatch(_LEGAL[name], cells[name]))
        if wrong := next(illegal, None):
            fix = "undo the change of the file, or draw another sample"
            raise InvalidInput(f"{path}, row {number}: {wrong} is {cells[wrong]!r}", fix)
    return [cells for _, cells in rows]


def rows_of(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """The rows of a table that must have some columns, with their numbers, as they were before `write_csv`.

    Raises:
        NotFound, InvalidInput: there is no such table, or a column is missing.
    """
    if not path.is_file():
        raise NotFound(f"{path}: there is no such file", "label the sample, or give the table with --labels")
    source = open_table(path)
    present = [_plain(name) for name in source.columns]
    if missing := [name for name in columns if name not in present]:
        raise InvalidInput(f"{path} has no column {', '.join(missing)}", f"its columns are {', '.join(present)}")
    return [(number, {_plain(name): _plain(cell) for name, cell in cells.items()}) for number, cells in source.rows]


def _plain(cell: str) -> str:
    """A cell without blanks around it, and without the apostrophe that `safe_cell` put before a formula."""
    cell = cell.strip()
    return cell[1:] if cell.startswith("'") and is_formula(cell[1:]) else cell
