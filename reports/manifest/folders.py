"""A folder as a manifest: campus, subject and cohort come from file names, the region from a folder or the campus.

The source document's photos are called `xxx校区xxx学科xxx期开班合照`: campus, subject, cohort, "class photo".
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from common.errors import InvalidInput
from common.words import number_of
from dataset.listing import list_files
from reports.manifest.regions import region_of
from reports.manifest.tables import Cells, Source

PATTERN = "{campus}校区{subject}学科{cohort}期开班合照"
"""The file names of the source document."""

_FIELD = re.compile(r"\{(\w+)\}")
_KNOWN = ("campus", "subject", "cohort", "date", "region", "institution")


def open_folder(folder: Path, pattern: str = PATTERN, published_at: str = "") -> Source:
    """List a folder and its subfolders as a manifest.

    Args:
        pattern: file names without extension; `{campus}` and `{date}` are fields, everything else is literal.
        published_at: the date of all photos. Empty: `{date}` of the name, otherwise the file's time of modification.

    Raises:
        InvalidInput: the pattern is not valid, or no file name matches it.
    """
    names = _FIELD.findall(pattern)
    unknown = [name for name in names if name not in _KNOWN]
    if not names or unknown or not {"campus", "institution"}.intersection(names):
        raise InvalidInput(f"the pattern {pattern!r} is not valid", f"use {{campus}} and any of {', '.join(_KNOWN)}")
    try:
        compiled = re.compile(
            _FIELD.sub(r"(?P<\1>.+?)", re.sub(r"[.^$*+?()\[\]\\|]", r"\\\g<0>", pattern)) + r"(?:[-_ (（].*)?"
        )
    except re.error as error:
        raise InvalidInput(f"the pattern {pattern!r} is not valid: {error}", "use every field once") from error
    listing = list_files(folder)
    files, links = listing.files, tuple(link.relative_to(folder).as_posix() for link in sorted(listing.links))
    if not any(compiled.fullmatch(file.stem) for file in files):
        left_out = f" ({number_of(len(links), 'link')} left out)" if links else ""
        raise InvalidInput(f"no file name in {folder} matches {pattern!r}{left_out}", "give --pattern")
    columns = ["photo_id", "path", "institution", "region", "published_at", "campus", "subject", "cohort"]
    return Source(columns, _rows(folder, files, compiled, published_at), pattern=pattern, links=links)


def _rows(folder: Path, files: list[Path], pattern: re.Pattern[str], published_at: str) -> Iterator[tuple[int, Cells]]:
    for number, file in enumerate(files, 2):
        match = pattern.fullmatch(file.stem)
        fields = match.groupdict("") if match else {}
        inside = file.relative_to(folder)
        changed = datetime.fromtimestamp(file.stat().st_mtime, UTC).isoformat(timespec="seconds")
        yield (
            number,
            {
                "photo_id": inside.as_posix(),
                "path": inside.as_posix(),
                "institution": fields.get("institution") or fields.get("campus", ""),
                "region": fields.get("region") or _region(inside, fields.get("campus", "")),
                "published_at": fields.get("date") or published_at or changed,
                **{name: fields.get(name, "") for name in ("campus", "subject", "cohort")},
            },
        )


def _region(inside: Path, campus: str) -> str:
    """The name of a folder that is a region; otherwise the campus, whose name often begins with its city."""
    return next((part for part in inside.parts[:-1] if region_of(part)), campus)
