"""Read a manifest row by row: CSV or TSV in any encoding that Excel writes, or Parquet.

UTF-8 (with or without a byte order mark) and UTF-16 are read as `dataset.tables` reads them. A file that is not UTF-8
is read as GBK (GB 18030), the encoding of Excel's CSV on a Chinese Windows. A file in both encodings is not guessed.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from io import StringIO
from pathlib import Path

from common.errors import InvalidInput
from dataset.tables import delimiter_of, text_of_table

Cells = dict[str, str]

PARQUET = {".parquet", ".pq"}
_CHINESE_UTF8 = re.compile(rb"[\xe3-\xe9][\x80-\xbf]{2}")
_BATCH = 10_000


@dataclass(frozen=True)
class Source:
    """A manifest that is open: its columns as written, and its rows.

    Attributes:
        rows: (row number as a spreadsheet counts, so the first below the header is 2; cells by column). Cells beyond
            the last column are joined under the key "".
        mixed: row numbers in another encoding than most rows.
    """

    columns: list[str]
    rows: Iterator[tuple[int, Cells]]
    mixed: tuple[int, ...] = ()


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
    reader = csv.DictReader(lines, delimiter=delimiter_of(lines), restkey="", restval="")
    try:
        columns = list(reader.fieldnames or [])
    except csv.Error as error:
        raise InvalidInput(f"{path} cannot be read as a table: {error}") from error
    if not columns:
        raise InvalidInput(f"{path} is empty", "its first line must name the columns")
    return Source(columns, _text_rows(reader, path), mixed)


def _text_rows(reader: "csv.DictReader[str]", path: Path) -> Iterator[tuple[int, Cells]]:
    number = 1
    try:
        for number, row in enumerate(reader, 2):
            extra = row.pop("", None)  # a list: cells beyond the last column
            yield number, {**row, **({"": ",".join(extra)} if extra else {})}
    except csv.Error as error:
        raise InvalidInput(f"{path}, row {number + 1}: {error}") from error


def _without_surrogates(text: str, path: Path) -> tuple[str, tuple[int, ...]]:
    """The text with bytes that are not UTF-8 read as GBK, and the lines in the rarer encoding if both occur."""
    if text.isascii() or not re.search("[\udc80-\udcff]", text):
        return text, ()
    raw = [line.encode("utf-8", "surrogateescape") for line in text.split("\n")]
    utf8 = [number for number, line in enumerate(raw, 1) if _is_utf8_chinese(line)]
    gbk = [number for number, line in enumerate(raw, 1) if not _is_utf8(line)]
    decoded = [_decode(line, path, number) for number, line in enumerate(raw, 1)]
    return "\n".join(decoded), tuple(utf8 if len(utf8) < len(gbk) else gbk) if utf8 else ()


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
            f"{path}, row {number} is neither UTF-8 nor GBK", "save the table as UTF-8 (in Excel: CSV UTF-8)"
        ) from error


def _open_parquet(path: Path) -> Source:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise InvalidInput(f"{path} cannot be read as Parquet: {' '.join(str(error).split())[:200]}") from error
    return Source(list(file.schema_arrow.names), _parquet_rows(file))


def _parquet_rows(file: "pq.ParquetFile") -> Iterator[tuple[int, Cells]]:  # type: ignore[name-defined]  # noqa: F821
    number = 1
    for batch in file.iter_batches(_BATCH):
        for row in batch.to_pylist():
            number += 1
            yield number, {name: _cell(value) for name, value in row.items()}


def _cell(value: object) -> str:
    if value is None:
        return ""
    return value.isoformat() if isinstance(value, datetime) else str(value)
