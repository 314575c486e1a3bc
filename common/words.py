"""Words of messages: a number with its noun, and the name that a person may have meant."""

import difflib
import re
from collections.abc import Collection

_MOST = 8


def number_of(count: int, noun: str, plural: str = "") -> str:
    """A number with its noun: "1 photo", "2 photos".

    Args:
        plural: for a noun whose plural is not itself and an s.
    """
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def nearest(given: str, legal: Collection[str]) -> str:
    """The legal name that is nearest to a wrong one; empty if none is near."""
    return next(iter(difflib.get_close_matches(given, legal, 1)), "")


def did_you_mean(given: str, legal: Collection[str]) -> str:
    """`nearest` as a question and a blank; empty if none is near."""
    near = nearest(given, legal)
    return f"did you mean {near}? " if near else ""


def instead_of(given: str, legal: Collection[str], place: object) -> str:
    """What there is instead of a name that `place` does not have: the nearest, and the highest numbers of all."""
    names = sorted(legal, key=_by_number)
    if not names:
        return f"{place} is empty"
    more = f" and {len(names) - _MOST} others" if len(names) > _MOST else ""
    return f"{did_you_mean(given, names)}{place} has {', '.join(names[-_MOST:])}{more}"


def _by_number(name: str) -> list[tuple[str, int]]:
    """A key that sorts 1.9 before 1.10."""
    return [(word, int(digits or 0)) for word, digits in re.findall(r"(\D*)(\d*)", name)]
