"""Dates as tables write them. A date without a zone is one of China (UTC+8, without summer time since 1991)."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

CHINA = timezone(timedelta(hours=8), "Asia/Shanghai")


class BadDate(ValueError):
    """A date that cannot be read, or only by guessing; the message says what to write."""


@dataclass(frozen=True)
class Written:
    """A date and the way in which it is written, for example 2022/3/14."""

    moment: datetime
    style: str


_CLOCK = r"(?:[T\s]+(\d{1,2}):(\d{2})(?::(\d{2})(?:\.\d+)?)?\s*(Z|[+-]\d{2}(?::?\d{2})?)?)?"
_STYLES = (
    ("2022-03-14", re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})" + _CLOCK, re.IGNORECASE)),
    ("2022/3/14", re.compile(r"(\d{4})/(\d{1,2})/(\d{1,2})" + _CLOCK, re.IGNORECASE)),
    ("2022.3.14", re.compile(r"(\d{4})\.(\d{1,2})\.(\d{1,2})" + _CLOCK, re.IGNORECASE)),
    ("2022年3月14日", re.compile(r"(\d{4})年(\d{1,2})月(\d{1,2})[日号]" + _CLOCK)),
    ("20220314", re.compile(r"(\d{4})(\d{2})(\d{2})" + _CLOCK, re.IGNORECASE)),
    ("Unix seconds", re.compile(r"1\d{9}")),
    ("Unix milliseconds", re.compile(r"1\d{12}")),
)
_EXCEL = re.compile(r"\d{5}(\.\d+)?")  # days since 1899-12-30
_FIRST_YEAR = 1990  # the web
_AMBIGUOUS = re.compile(r"\d{1,2}[/.-]\d{1,2}[/.-](\d{4}|\d{2})(\s.*)?")


def read_date(text: str) -> Written:
    """Read a date.

    Raises:
        BadDate: it is empty, impossible (month 13), before 1990, in an unknown form, or ambiguous (03/04/2022).
    """
    text = text.strip()
    if not text:
        raise BadDate("the date is empty: write it as 2022-03-14")
    for style, pattern in _STYLES:
        if match := pattern.fullmatch(text):
            moment = _moment(text, style, match)
            if moment.year < _FIRST_YEAR:
                raise BadDate(
                    f"the date {text[:40]!r} is before {_FIRST_YEAR}: write the day on which it was published"
                )
            return Written(moment, style)
    if _AMBIGUOUS.fullmatch(text):
        raise BadDate(f"the date {text!r} may be day/month or month/day: write it as 2022-03-14")
    if _EXCEL.fullmatch(text):
        day = datetime(1899, 12, 30) + timedelta(days=float(text))
        raise BadDate(f"the date {text[:40]!r} looks like Excel's number of a date: write it as {day:%Y-%m-%d}")
    raise BadDate(f"the date {text[:40]!r} cannot be read: write it as 2022-03-14")


def _moment(text: str, style: str, match: re.Match[str]) -> datetime:
    try:
        if style.startswith("Unix"):
            return datetime.fromtimestamp(int(text) / (1000 if "milli" in style else 1), UTC)
        year, month, day, hour, minute, second, zone = match.groups()
        clock = (int(hour or 0), int(minute or 0), int(second or 0))
        return datetime(int(year), int(month), int(day), *clock, tzinfo=_zone(zone)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise BadDate(f"the date {text[:40]!r} does not exist ({error}): write it as 2022-03-14") from error


def _zone(text: str | None) -> timezone:
    if text is None:
        return CHINA
    if text.upper() == "Z":
        return UTC
    sign = -1 if text[0] == "-" else 1
    return timezone(sign * timedelta(hours=int(text[1:3]), minutes=int(text[3:].removeprefix(":") or 0)))
