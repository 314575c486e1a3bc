"""Labelled photos as text files: tab-separated tables, and the lists of a converted data set.

A table is UTF-8 with one row per photo; its first line names the columns. Tables from Excel are read too: UTF-16, with
a byte order mark, and with commas or semicolons instead of tabs. A folder of lists has labels.txt (one class
per line), and trainval.txt and test.txt with lines `CLASS PATH`. CLASS is counted from 0, the first line of labels.txt;
PATH is relative to the folder and may contain blanks. The photos of trainval.txt are trained on, except those that the
recipe holds out (`train.validation`); test.txt is the `test` part of the split. `dataset convert` writes such folders.
"""

import codecs
import csv
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path

from common.console import note
from common.errors import InvalidInput
from common.files import write_whole, writing
from common.words import number_of
from dataset.listing import identity_in, problem_of_path

Row = dict[str, str]

_MARKS = {"\t": "a tab", ";": "a semicolon", ",": "a comma"}
"""What may separate the columns of a table, and its name."""
_CONTROL = re.compile(rb"[\x01-\x08\x0e-\x1f\x7f]")
"""Bytes that no header of a table has."""
LABELS = "labels.txt"
LISTS = {"trainval": "", "test": "test"}
"""Name of a list -> the part of a split that it holds."""


def read_rows(path: Path, columns: Sequence[str] = ()) -> list[Row]:
    """Read a table.

    Args:
        columns: the columns that it must have.

    Raises:
        InvalidInput: it cannot be read, is in another encoding, or lacks a column; the quotation marks of a cell do
            not match; a row has more cells than the table has columns.
    """
    try:
        text = text_of_table(path.read_bytes(), path)
    except IsADirectoryError as error:
        raise InvalidInput(f"{path} is a folder, not a table", "give the table in it") from error
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read as a table: {error.strerror}") from error
    lines = StringIO(text, newline="")
    mark = delimiter_of(lines)
    rows = numbered_rows(csv.reader(lines, delimiter=mark, strict=True), number_of_header(text, lines), path)
    present = [name.strip() for name in next(rows, (0, []))[1]]
    missing = [column for column in columns if column not in present]
    if missing and not any(present):
        raise InvalidInput(f"{path} is empty", f"write its header, with the columns {', '.join(columns)}, and its rows")
    if missing:
        found = ", ".join(present)
        found = found if len(found) < 200 else f"{found[:80]} ..."
        fix = wrong_encoding(found) or f"its columns are {found}"
        raise InvalidInput(f"{path} has no column {', '.join(missing)}", fix)
    return [_row_of(cells, present, mark, f"{path}, row {number}") for number, cells in rows if cells]


def number_of_header(text: str, lines: StringIO) -> int:
    """The header's row number in a spreadsheet, which hides the line `sep=,`. `lines` is at the header."""
    above = text[: lines.tell()].splitlines()
    return len(above) + 1 - any("sep=" in line.lower() for line in above)


def numbered_rows(reader: Iterator[list[str]], first: int, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number the rows of a strict csv.reader, beginning with `first`.

    Raises:
        InvalidInput: the quotation marks of a cell do not match.
    """
    number = first - 1
    try:
        for number, cells in enumerate(reader, first):
            yield number, cells
    except csv.Error as error:
        raise unmatched(f"{path}, row {number + 1}", f" ({error})") from error


def unmatched(place: str, reason: str = "") -> InvalidInput:
    """The error for a quotation mark that has no partner."""
    problem = f"{place}: the quotation marks of a cell do not match{reason}"
    return InvalidInput(problem, 'enclose the cell in " and write each " inside it as ""')


def holds_rows(cells: Sequence[str], columns: int, mark: str, is_row: Callable[[str], bool] = bool) -> bool:
    """Whether a quotation mark has joined several rows in a cell.

    Then a line of the cell holds as many cells as the rows have there.

    Args:
        columns: of the table.
        mark: what separates the columns.
        is_row: further evidence, from the text of such a line.
    """
    return any(
        count > 1 and line.count(mark) == count - 1 and is_row(line)
        for index, cell in enumerate(cells)
        if "\n" in cell or "\r" in cell
        for line, count in _joined(cell.splitlines(), index, columns)
    )


def _joined(lines: Sequence[str], index: int, columns: int) -> Iterator[tuple[str, int]]:
    """The lines of the `index`-th cell of a row, with the number of cells that each holds if it joins rows."""
    yield lines[0], columns - index
    yield from ((line, columns) for line in lines[1:-1])
    yield from ((line, index + 1) for line in lines[1:][-1:])


def _row_of(cells: list[str], columns: Sequence[str], mark: str, place: str) -> Row:
    if holds_rows(cells, len(columns), mark):
        raise unmatched(place)
    if any(cell.strip() for cell in cells[len(columns) :]):
        raise InvalidInput(
            f"{place} has more cells than the table has columns", f'enclose a cell that contains {_MARKS[mark]} in "'
        )
    return {name: cells[index] if index < len(cells) else "" for index, name in enumerate(columns)}


def wrong_encoding(text: str) -> str:
    """What to do if a cell holds bytes that are not UTF-8; empty if it holds none.

    They are legal in the name of a file, so only a cell that names no file or no label is a mistake.
    """
    raw = text.encode("utf-8", "surrogateescape")
    if raw == text.encode("utf-8", "ignore"):
        return ""
    try:
        pairs = re.search(rb"[\x81-\xfe]{2}", raw)  # most Chinese characters have two such bytes, an accent has one
        chinese = raw.decode("gb18030") if pairs else ""
    except UnicodeDecodeError:
        chinese = ""
    guess = f"it looks like GBK ({chinese})"
    if not chinese:
        guess = f"it looks like Windows-1252 ({raw.decode('cp1252', 'replace')})"
    return f"the table is not UTF-8, {guess}: save it as UTF-8 (in Excel: CSV UTF-8)"


def text_of_table(data: bytes, path: Path) -> str:
    """The text of a table: UTF-8 or UTF-16, without a byte order mark; other bytes are surrogate escapes.

    Raises:
        InvalidInput: it is not text.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # Excel's "Unicode text"
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError as error:
            raise InvalidInput(f"{path} is damaged UTF-16: {error}", "save the table as UTF-8") from error
    if b"\0" in data:
        raise InvalidInput(f"{path} {_kind_of(data)}", "save it as UTF-8 (in Excel: CSV UTF-8)")
    if _CONTROL.search(data[: data.find(b"\n") + 1] or data):
        raise InvalidInput(f"{path} is a binary file, not a table", "give a table of text, in UTF-8")
    return data.decode("utf-8-sig", "surrogateescape")


def _kind_of(data: bytes) -> str:
    """What data with a NUL byte is. In UTF-16 every separator, digit and line break holds one."""
    if data.startswith((b"PK", b"\xd0\xcf\x11\xe0")):  # .xlsx, .xls
        return "is a spreadsheet or another binary file, not a table in UTF-8"
    if data.count(0) > len(data) / 20:
        return "is UTF-16 without a byte order mark, not a table in UTF-8"
    line = data[: data.index(0)].count(b"\n") + 1
    return f"has a NUL byte in line {line}, so it is damaged or not a table"


def delimiter_of(lines: StringIO) -> str:
    """What separates the columns: a tab, or in Excel's CSV a comma or, in many countries, a semicolon.

    `lines` is then at the header, after empty lines and Excel's line `sep=,`.
    """
    start, header = 0, lines.readline()
    while header and header.strip('",;\t \r\n').lower() in ("", "sep="):
        start, header = lines.tell(), lines.readline()
    lines.seek(start)
    return max(_MARKS, key=re.sub('"[^"]*"', "", header).count)


def refused_by(audit: Path | None, photos: Sequence[Path] = ()) -> frozenset[Path]:
    """The files (resolved) that the table of an audit does not call ok; none without a table.

    Args:
        photos: files (resolved) that the audit is expected to list; a note says how many it does not.

    Raises:
        InvalidInput: it is not a table of `dataset audit`, or lists none of the photos.
    """
    if audit is None:
        return frozenset()
    rows = read_rows(audit, ("path", "verdict"))
    verdicts = {(audit.parent / row["path"]).resolve(): row["verdict"] for row in rows}
    unlisted = sum(photo not in verdicts for photo in photos)
    if unlisted and unlisted == len(photos):
        raise InvalidInput(f"{audit} lists none of the {len(photos)} photos", "give the table of their audit")
    if unlisted:
        are = number_of(unlisted, "photo is", "photos are")
        note(f"{are} not in {audit} and may be broken: audit the folder again to check")
    return frozenset(path for path, verdict in verdicts.items() if verdict != "ok")


def write_rows(
    path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]], fix: str = "give another --out"
) -> None:
    """Write a table completely or not at all; keys that are not a column are left out.

    Args:
        fix: what to do if it cannot be written.

    Raises:
        CannotWrite: the former content of `path` is unchanged.
    """
    text, rows = StringIO(), list(rows)
    returns = any("\r" in str(value) for row in rows for value in row.values())  # csv does not quote \r otherwise
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
    writer.writerows(rows)
    with writing(path, fix):
        write_whole(path, text.getvalue().encode("utf-8", "surrogateescape"))


def has_lists(folder: Path) -> bool:
    """Whether a folder describes its photos by lists."""
    return (folder / LABELS).is_file() and (folder / "trainval.txt").is_file()


def read_lists(folder: Path, labels: Sequence[str]) -> list[Row]:
    """Read the photos of a folder of lists, as rows of path, label and split.

    Raises:
        InvalidInput: a list cannot be read, labels.txt differs from the recipe, a line is invalid, a photo is
            missing, in both lists, or has two labels.
    """
    listed = _lines(folder / LABELS)
    if listed != list(labels):
        raise InvalidInput(
            f"{folder / LABELS} is not the recipe's list of labels ({number_of(len(listed), 'label')}, "
            f"not {len(labels)})",
            "give the recipe the same labels in the same order",
        )
    rows: dict[str, Row] = {}
    identity = identity_in(folder)
    for name, part in LISTS.items():
        path = folder / f"{name}.txt"
        if name != "trainval" and not path.is_file():
            continue
        for number, line in enumerate(_lines(path), 1):
            row = {**_row(folder, f"{path}:{number}", line, listed), "split": part}
            before = rows.setdefault(identity(row["path"]), row)
            if before["split"] != part:
                raise InvalidInput(f"{path}:{number}: {row['path']} is in trainval.txt too", "delete one of the lines")
            if before["label"] != row["label"]:
                problem = f"{path}:{number}: {row['path']} is {row['label']} here and {before['label']} before"
                raise InvalidInput(problem, "delete one of the lines")
    return list(rows.values())


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a list completely or not at all.

    Raises:
        OSError: it cannot be written.
    """
    write_whole(path, "".join(f"{line}\n" for line in lines).encode())


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from error


def _row(folder: Path, place: str, line: str, labels: Sequence[str]) -> Row:
    index, _, name = line.partition(" ")
    if not index.isdecimal() or int(index) >= len(labels) or not name:
        raise InvalidInput(
            f"{place}: invalid line {line[:60]!r}", f"write CLASS PATH, CLASS from 0 to {len(labels) - 1}"
        )
    name = os.path.normpath(name)
    problem, fix = problem_of_path(folder / name, name)
    if problem:
        raise InvalidInput(f"{place}: {name}: {problem}", fix or f"paths are relative to {folder}")
    return {"path": name, "label": labels[int(index)]}
