"""The columns of the two kinds of Parquet files in a scores folder: the checked manifest, and the scored parts."""

from collections.abc import Sequence

import pyarrow as pa

PART = 2000
"""Photos of one part, unless the command says otherwise."""

PROBABILITY = "p_"
"""Prefix of the columns with the probability of each label."""

_MANIFEST = [
    ("row", pa.int64()),
    ("photo_id", pa.string()),
    ("source", pa.string()),
    ("institution", pa.string()),
    ("region", pa.string()),
    ("region_given", pa.string()),
    ("published_at", pa.timestamp("s", "UTC")),
]
_RESULT = [
    ("sha256", pa.string()),
    ("bytes", pa.int64()),
    ("phash", pa.string()),
    ("brightness", pa.float32()),
    ("label", pa.string()),
    ("confidence", pa.float32()),
    ("unsure", pa.bool_()),
    ("in_scope", pa.bool_()),
    ("scope", pa.float32()),
    ("error_code", pa.string()),
    ("error", pa.string()),
    ("model", pa.string()),
    ("model_digest", pa.string()),
    ("scored_at", pa.timestamp("s", "UTC")),
]


def manifest_schema(extra: Sequence[str]) -> pa.Schema:
    """Columns of `manifest.parquet`; `extra` are those of `columns_of`, as text."""
    return pa.schema([*_MANIFEST, *((name, pa.string()) for name in extra)])


def part_schema(extra: Sequence[str], labels: Sequence[str]) -> pa.Schema:
    """Columns of a part: those of the manifest, then the result, then a probability per label."""
    probabilities = [(f"{PROBABILITY}{label}", pa.float32()) for label in labels]
    return pa.schema([*manifest_schema(extra), *(pa.field(*column) for column in (*_RESULT, *probabilities))])


def columns_of(names: Sequence[str]) -> tuple[str, ...]:
    """The columns for the other columns of a table: their own names, or with `x_` before a name that is taken.

    Names that differ only in case are the same, because they are for SQL.
    """
    taken = {name.casefold() for name, _ in (*_MANIFEST, *_RESULT)}
    columns: list[str] = []
    for name in names:
        column = name
        while column.casefold() in taken or column.casefold().startswith(PROBABILITY):
            column = f"x_{column}"
        taken.add(column.casefold())
        columns.append(column)
    return tuple(columns)
