"""CSV files that are safe to open in a spreadsheet, which runs a cell that begins like a formula.

https://owasp.org/www-community/attacks/CSV_Injection
"""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path

from common.files import write_whole, writing

_FORMULA = re.compile(r"\s*[=+\-@\t\r＝＋－＠]")
_NUMBER = re.compile(r"[+-]?[\d.,]+(e[+-]?\d+)?%?", re.IGNORECASE)


def is_formula(text: str) -> bool:
    """Whether a spreadsheet may run this cell; a number is none."""
    return bool(_FORMULA.match(text)) and not _NUMBER.fullmatch(text)


def safe_cell(value: object) -> object:
    """The value, or a text that a spreadsheet shows instead of running it: with an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and is_formula(value) else value


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write a CSV that Excel opens as UTF-8 and without running a cell; completely or not at all.

    Raises:
        CannotWrite: the disk is full, or the folder is read-only.
    """
    text = StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([safe_cell(name) for name in columns])
    for row in rows:
        writer.writerow([safe_cell("" if row.get(name) is None else row[name]) for name in columns])
    with writing(path):
        write_whole(path, text.getvalue().encode("utf-8-sig", "backslashreplace"))
