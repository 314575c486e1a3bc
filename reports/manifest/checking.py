"""Check a manifest row by row, before anything is computed.

A row with an error cannot be counted, so nothing runs until it is corrected. A warning says what will happen.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from common.errors import InvalidInput
from common.words import number_of
from reports.manifest.dates import BadDate, read_date
from reports.manifest.places import problem_of_path, problem_of_url
from reports.manifest.regions import UNKNOWN, region_of
from reports.manifest.spreadsheet import is_formula
from reports.manifest.tables import Cells, Source

REQUIRED = ("photo_id", "institution", "region", "published_at")
_OTHER_HEADERS = {
    "photo_id": ("id", "照片编号", "图片编号", "编号"),
    "path": ("file", "路径", "文件", "照片"),
    "url": ("link", "链接", "网址"),
    "institution": ("school", "机构", "机构名称", "校区"),
    "region": ("province", "地区", "省份", "区域"),
    "published_at": ("published", "date", "发布时间", "发布日期", "日期"),
}
_MOST_PROBLEMS = 10_000
_FAR_YEARS = 5


@dataclass(frozen=True)
class Problem:
    """One finding. `row` as a spreadsheet counts, or 0; `error`: it must be corrected before the manifest is scored."""

    row: int
    column: str
    text: str
    error: bool = True


@dataclass(frozen=True)
class Entry:
    """One photo of a manifest, checked. `source` is an absolute path or a URL; `region` a code of `REGIONS` or ""."""

    photo_id: str
    source: str
    institution: str
    region: str
    region_given: str
    published_at: datetime
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Findings:
    """What a check found. `unknown_regions`: name -> photos. More than 10,000 problems are only counted."""

    problems: list[Problem] = field(default_factory=list)
    rows: int = 0
    errors: int = 0
    warnings: int = 0
    unknown_regions: Counter[str] = field(default_factory=Counter)

    def add(self, row: int, column: str, text: str, error: bool = True) -> None:
        """Note a problem."""
        self.errors += error
        self.warnings += not error
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(Problem(row, column, text, error))


class Check:
    """One pass over a manifest: yields its entries and collects what is wrong.

    Args:
        source: the open table.
        folder: paths in it are relative to this folder.

    Raises:
        InvalidInput: a column is missing or occurs twice.
    """

    def __init__(self, source: Source, folder: Path) -> None:
        self.findings = Findings()
        self._source, self._folder = source, folder
        self._names = _columns(source.columns)
        self.extra = [name for name in source.columns if name not in self._names.values()]
        self._file = ""  # of a folder, the file that is checked
        self._seen: dict[str, int] = {}
        self._styles: dict[str, list[int]] = {}  # way of writing a date -> photos, first row
        self._years: dict[int, list[int]] = {}  # year -> photos, first row

    def entries(self) -> Iterator[Entry]:
        """The rows without an error. `findings` is complete at the end."""
        for row in self._source.mixed:
            self.findings.add(row, "", "the row has another encoding than most rows: save the table as UTF-8")
        empty: list[int] = []
        for row, cells in self._source.rows:
            if not any(text.strip() for text in cells.values()):
                empty.append(row)
                continue
            self.findings.rows += 1
            self._file = cells["path"] if self._source.pattern else ""
            if (entry := self._entry(row, cells)) is not None:
                yield entry
        self._file = ""
        self._tell_left_out(empty)
        self._tell_styles()
        self._tell_years()
        if not self.findings.rows:
            raise InvalidInput("the manifest has no row below its header", "add one row per photo")

    def _add(self, row: int, column: str, text: str, error: bool = True) -> None:
        self.findings.add(row, column, f"{_printable(self._file)}: {text}" if self._file else text, error)

    def _entry(self, row: int, cells: Cells) -> Entry | None:
        before = self.findings.errors
        if extra := cells.get(""):
            self._add(row, "", f"more cells than columns ({extra[:40]!r}): quote cells that contain the separator")
        values = {name: cells.get(column, "").strip() for name, column in self._names.items()}
        photo_id, source = self._photo_id(row, values["photo_id"]), self._place(row, values)
        self._texts(row, cells, source)
        if not values["institution"]:
            pattern = self._source.pattern
            say = "the institution is empty: photos are counted once per institution"
            if pattern:
                say = f"the name does not match {pattern!r}: rename the file, or give --pattern"
            self._add(row, "institution", say)
        region = self._region(row, values["region"])
        moment = self._date(row, values["published_at"])
        if self.findings.errors > before or moment is None:
            return None
        more = {name: cells.get(name, "") for name in self.extra}
        return Entry(photo_id, source, values["institution"], region, values["region"], moment, more)

    def _photo_id(self, row: int, photo_id: str) -> str:
        if not photo_id:
            self._add(row, "photo_id", "the photo_id is empty")
        elif (first := self._seen.setdefault(photo_id, row)) != row:
            self._add(row, "photo_id", f"{photo_id[:60]!r} is in row {first} too: every photo needs its own id")
        return photo_id

    def _place(self, row: int, values: Cells) -> str:
        path, url = values.get("path", ""), values.get("url", "")
        if not path and not url:
            self._add(row, "path", "neither path nor url is given")
        if path:
            problem = problem_of_path(self._folder / path, path)
            if problem and not url:
                self._add(row, "path", f"{_printable(path)[:100]}: {problem}; it will be an error row", False)
            if not (problem and url):
                return str((self._folder / path).absolute())
        if url and (problem := problem_of_url(url)):
            self._add(row, "url", problem)
        return url

    def _region(self, row: int, text: str) -> str:
        region = region_of(text)
        if region == UNKNOWN:
            if text not in self.findings.unknown_regions:
                say = f"the region {text[:40]!r} is unknown; its photos are counted as unknown"
                self._add(row, "region", say if text else "the region is empty; it is counted as unknown", False)
            self.findings.unknown_regions[text] += 1
        return region

    def _date(self, row: int, text: str) -> datetime | None:
        try:
            written = read_date(text)
        except BadDate as error:
            self._add(row, "published_at", str(error))
            return None
        self._styles.setdefault(written.style, [0, row])[0] += 1
        self._years.setdefault(written.moment.year, [0, row])[0] += 1
        if written.moment > datetime.now(UTC):
            self._add(row, "published_at", f"the date {text!r} is in the future", False)
        return written.moment

    def _texts(self, row: int, cells: Cells, source: str) -> None:
        if not _is_utf8("".join((*cells.values(), source))):
            wrong = next((name for name, text in cells.items() if not _is_utf8(text)), "path")
            self._add(row, wrong, "not UTF-8: rename the file, or correct the cell")
        for column, text in cells.items():
            if text and is_formula(text):
                say = f"{text[:40]!r} is a formula for a spreadsheet; it is kept as text, and escaped in every CSV"
                self._add(row, column, say, False)

    def _tell_left_out(self, empty: list[int]) -> None:
        if empty:
            self._add(empty[0], "", f"{number_of(len(empty), 'empty row')} left out", False)
        if links := self._source.links:
            say = (
                f"{number_of(len(links), 'link')} left out, for example {_printable(links[0])}: copy the files instead"
            )
            self._add(0, "path", say, False)

    def _tell_styles(self) -> None:
        if len(self._styles) > 1:
            usual = max(self._styles, key=lambda style: self._styles[style][0])
            for style, (count, row) in self._styles.items():
                if style != usual:
                    dates = number_of(count, "date is", "dates are")
                    say = f"{dates} written like {style}, the others like {usual}; all are read"
                    self._add(row, "published_at", say, False)

    def _tell_years(self) -> None:
        usual = max(self._years, key=lambda year: self._years[year][0], default=0)
        for year, (count, row) in self._years.items():
            if year != usual and min(abs(year - other) for other in self._years if other != year) >= _FAR_YEARS:
                dates = number_of(count, "date is", "dates are")
                say = f"{dates} of {year}, {_FAR_YEARS} or more years from all others: correct wrong dates"
                self._add(row, "published_at", say, False)


def _is_utf8(text: str) -> bool:
    return text.isascii() or _printable(text) == text


def _printable(text: str) -> str:
    """The text with bytes that are not UTF-8 as backslash escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _columns(present: list[str]) -> dict[str, str]:
    """Field -> its column.

    Raises:
        InvalidInput: a column is missing or occurs twice.
    """
    plain = [name.strip().lower() for name in present]
    if repeated := next((name for name in plain if plain.count(name) > 1), None):
        raise InvalidInput(f"the manifest has the column {repeated!r} twice", "give every column its own name")
    names = {}
    for field_name, others in _OTHER_HEADERS.items():
        if found := next((name for name in (field_name, *others) if name in plain), None):
            names[field_name] = present[plain.index(found)]
    missing = [name for name in REQUIRED if name not in names]
    if "path" not in names and "url" not in names:
        missing.append("path (or url)")
    if missing:
        raise InvalidInput(f"the manifest has no column {', '.join(missing)}", f"its columns are {', '.join(present)}")
    return names
