"""Tables as people and spreadsheets read them: tab-separated, UTF-8, one row a photo, first line names the columns."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path

from common.errors import UserError
from common.files import write_whole, writing

Row = dict[str, str]


def read_rows(path: Path, need: Sequence[str] = ()) -> list[Row]:
    """Read a table.

    Args:
        need: columns that it must have.

    Returns:
        rows as csv.DictReader makes them: cells beyond the last column are a list under the key None.

    Raises:
        UserError: it cannot be read, or lacks a column.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t", restval="")
            columns = reader.fieldnames or []
            rows = list(reader)
    except (OSError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a table: {error}") from error
    absent = [column for column in need if column not in columns]
    if absent:
        raise UserError(f"{path}: no column {', '.join(absent)}: it has {', '.join(columns)}")
    return rows


def write_rows(
    path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]], fix: str = "give another --out"
) -> None:
    """Write a table completely or not at all; keys that are not a column are left out.

    Args:
        fix: what to do if it cannot be written.

    Raises:
        CannotWrite: the former content of `path` is unchanged.
    """
    text, kept = StringIO(), list(rows)
    returns = any("\r" in str(value) for row in kept for value in row.values())  # csv quotes all but these
    writer = csv.DictWriter(
        text,
        columns,
        restval="",
        extrasaction="ignore",
        delimiter="\t",
        lineterminator="\n",
        quoting=csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL,
    )
    writer.writeheader()
    writer.writerows(kept)
    with writing(path, fix):
        write_whole(path, text.getvalue().encode("utf-8", "surrogateescape"))
