"""Read and extend SOURCES.tsv, the table of the photos of a folder."""

from collections.abc import Iterable
from pathlib import Path

from dataset.listing import composed
from dataset.photos import TABLE
from dataset.tables import Row, read_rows, write_rows


def recorded(folder: Path) -> dict[str, Row]:
    """The rows of a folder's SOURCES.tsv by path (`composed`); none if there is no table.

    Raises:
        InvalidInput: it cannot be read, or has no column path.
    """
    table = folder / TABLE
    return {composed(row["path"]): row for row in read_rows(table, ("path",))} if table.is_file() else {}


def record(folder: Path, rows: Iterable[Row]) -> None:
    """Add rows to a folder's SOURCES.tsv. A row replaces that of the same photo; all others stay.

    Raises:
        InvalidInput: as `recorded`.
        CannotWrite: the table is unchanged.
    """
    merged = recorded(folder) | {composed(row["path"]): row for row in rows}
    columns = dict.fromkeys(["path", "source", *(key for row in merged.values() for key in row if key)])
    write_rows(folder / TABLE, list(columns), merged.values(), "free some disk space and try again")
