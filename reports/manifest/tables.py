"""Read a manifest row by row: CSV or TSV in any encoding that Excel writes, or Parquet.

UTF-8 (with or without a byte order mark) and UTF-16 are read as `dataset.tables` reads them. A file that is not UTF-8
is read as GBK (GB 18030), the encoding of Excel's CSV on a Chinese Windows. A file in both encodings is not guessed.
"""

import csv
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from common.errors import InvalidInput
from dataset.tables import delimiter_of, holds_rows, number_of_header, numbered_rows, text_of_table, unmatched
from reports.manifest.dates import BadDate, read_date

Cells = dict[str, str]

PARQUET = {".parquet", ".pq"}
_CHINESE_UTF8 = re.compile(rb"[\xe3-\xe9][\x80-\xbf]{2}")
_BATCH = 10_000


@dataclass(frozen=True)
class Source:
    """A manifest that is open: its columns as written, and its rows.

    Attributes:
        rows: (row number as a spreadsheet counts, so the first below the header is 2; cells by column). Cells beyond
            the last column are joined under the key "". A column without a name is left out.
        mixed: row numbers in another encoding than most rows.
        pattern: of a folder, the pattern of its file names.
        links: of a folder, the links in it, which are left out.
    """

    columns: list[str]
    rows: Iterator[tuple[int, Cells]]
    mixed: tuple[int, ...] = ()
    pattern: str = ""
    links: tuple[str, ...] = ()


def open_table(path: Path) -> Source:
    """Open a manifest.

    Raises:
        InvalidInput: it cannot be read as a table.
    """
    return _open_parquet(path) if path.suffix.lower() in PARQUET else _open_text(path)


def _open_text(path: Path) -> Source:
    try:
        text = text_of_table(path.read_bytes(), path)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error
    text, mixed = _without_surrogates(text, path)
    lines = StringIO(text, newline="")
    mark = delimiter_of(lines)
    above, first = len(text[: lines.tell()].splitlines()), number_of_header(text, lines)
    rows = numbered_rows(csv.reader(lines, delimiter=mark, strict=True), first, path)
    _, columns = next(rows, (0, []))
    if not columns:
        raise InvalidInput(f"{path} is empty", "its first line must name the columns")
    places = _rows_at(mixed, text, mark, first - above, path) if mixed else ()
    return Source(_named(columns), _text_rows(rows, columns, mark, path), places)


def _rows_at(places: Collection[int], text: str, mark: str, first: int, path: Path) -> tuple[int, ...]:
    """The rows that hold these lines of the text; a row with a cell of several lines holds several."""
    reader = csv.reader(StringIO(text, newline=""), delimiter=mark)
    before, found = 0, []
    for row, _ in numbered_rows(reader, first, path):
        if any(line in places for line in range(before + 1, reader.line_num + 1)):
            found.append(row)
        before = reader.line_num
    return tuple(found)


def _named(columns: list[str]) -> list[str]:
    """The columns that have a name: pandas writes its index without one, Excel empty columns."""
    return [name for name in columns if name.strip()]


def _text_rows(
    rows: Iterator[tuple[int, list[str]]], columns: list[str], mark: str, path: Path
) -> Iterator[tuple[int, Cells]]:
    named = [(index, name) for index, name in enumerate(columns) if name.strip()]
    for number, cells in rows:
        if not cells:
            continue
        if holds_rows(cells, len(columns), mark, lambda line: any(map(_is_date, line.split(mark)))):
            raise unmatched(f"{path}, row {number}")
        row = {name: cells[index] if index < len(cells) else "" for index, name in named}
        extra = ",".join(cells[len(columns) :])
        yield number, {**row, "": extra} if extra.strip(", ") else row


def _is_date(text: str) -> bool:
    try:
        read_date(text)
    except BadDate:
        return False
    return True


def _without_surrogates(text: str, path: Path) -> tuple[str, set[int]]:
    """The text with bytes that are not UTF-8 read as GBK, and the lines in the rarer encoding if both occur."""
    if text.isascii() or not re.search("[\udc80-\udcff]", text):
        return text, set()
    raw = [line.encode("utf-8", "surrogateescape") for line in text.split("\n")]
    utf8 = [number for number, line in enumerate(raw, 1) if _is_utf8_chinese(line)]
    gbk = [number for number, line in enumerate(raw, 1) if not _is_utf8(line)]
    decoded = [_decode(line, path, number) for number, line in enumerate(raw, 1)]
    return "\n".join(decoded), set(utf8 if len(utf8) < len(gbk) else gbk) if utf8 else set()


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _is_utf8_chinese(line: bytes) -> bool:
    return bool(_CHINESE_UTF8.search(line)) and _is_utf8(line)


def _decode(line: bytes, path: Path, number: int) -> str:
    if _is_utf8_chinese(line):
        return line.decode("utf-8")
    try:
        return line.decode("gb18030")
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"{path}, line {number} is neither UTF-8 nor GBK", "save the table as UTF-8 (in Excel: CSV UTF-8)"
        ) from error


def _open_parquet(path: Path) -> Source:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise InvalidInput(f"{path} cannot be read as Parquet: {' '.join(str(error).split())[:200]}") from error
    return Source(_named(file.schema_arrow.names), _parquet_rows(file, path))


def _parquet_rows(file: Any, path: Path) -> Iterator[tuple[int, Cells]]:
    import pyarrow as pa

    number = 1
    try:
        for batch in file.iter_batches(_BATCH):
            for row in _with_text_dates(batch).to_pylist():
                number += 1
                yield number, {name: _cell(value) for name, value in row.items() if name.strip()}
    except (OSError, pa.ArrowException) as error:
        raise InvalidInput(f"{path} is damaged below row {number}: {error}", "write the file again") from error


def _with_text_dates(batch: Any) -> Any:
    """The batch with its dates as text: Python has no years before 1 or after 9999."""
    import pyarrow as pa

    dates = [pa.types.is_timestamp(field.type) or pa.types.is_date(field.type) for field in batch.schema]
    columns = [column.cast(pa.string()) if date else column for column, date in zip(batch.columns, dates, strict=True)]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _cell(value: object) -> str:
    if value is None or value != value:  # NaN
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)
