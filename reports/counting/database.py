"""Scores as a SQLite database, for questions that the report does not answer."""

import sqlite3
from pathlib import Path

import pyarrow as pa

from common.errors import CannotWrite
from common.files import new_folder
from reports.scoring.job import Job

TABLE = "scores"

_TYPES = {"int64": "INTEGER", "float": "REAL", "bool": "INTEGER"}
_INDEXED = ("region", "institution", "label", "published_at", "error_code")


def export(job: Job, folder: Path) -> Path:
    """Write `scores.db` into a new folder: one table with a row per photo, with indices on what people filter by.

    Returns:
        its path.

    Raises:
        InvalidInput: parts are missing, or one is damaged.
        AlreadyExists, CannotWrite: the folder exists, or the disk is full.
    """
    job.require_complete()
    with new_folder(folder) as work:
        database = sqlite3.connect(work / "scores.db")
        try:
            for part in range(job.parts):
                rows = job.read(part)
                if not part:
                    _create(database, rows.schema)
                _insert(database, rows)
            for column in _INDEXED:
                database.execute(f'CREATE INDEX "by_{column}" ON {TABLE} ("{column}")')
            database.commit()
        except sqlite3.OperationalError as error:  # the disk is full
            raise CannotWrite(folder, error) from error
        finally:
            database.close()
    return folder / "scores.db"


def _create(database: sqlite3.Connection, schema: pa.Schema) -> None:
    columns = [f"{_quoted(field.name)} {_TYPES.get(str(field.type), 'TEXT')}" for field in schema]
    database.execute(f"CREATE TABLE {TABLE} ({', '.join(columns)})")


def _insert(database: sqlite3.Connection, table: pa.Table) -> None:
    texts = [
        column.cast(pa.string()) if pa.types.is_timestamp(column.type) else column for column in table.itercolumns()
    ]
    rows = zip(*(column.to_pylist() for column in texts), strict=True)
    marks = ", ".join("?" * table.num_columns)
    database.executemany(f"INSERT INTO {TABLE} VALUES ({marks})", rows)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
