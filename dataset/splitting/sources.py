"""Sources of photos whose table names none: from folders, file names, a column, or a regular expression.

Photos of one source show the same rooms, people and screens. Where no source is known, each photo counts as its own,
and a split cannot keep such photos together.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from common.errors import InvalidInput
from dataset.photos import Photo

RULES = "folder, prefix, a column of the table, or a regular expression"
_NUMBER = re.compile(r"[\s._()-]*\d*[\s._()-]*$")
Rule = Callable[[str], str | None]


def assign_sources(photos: Sequence[Photo], names: Sequence[str], rule: str) -> list[Photo]:
    """Give photos the sources that a rule finds; a photo for which it finds none keeps its own.

    Args:
        names: the photos' paths relative to their folder or table.
        rule: `folder`: the folder of the photo. `prefix`: its file name without the number at the end
            (`call_a-017.jpg` -> call_a). The name of a column: its value. Anything else: a regular expression that is
            searched in the path; its first group, or else the whole match, is the source.

    Raises:
        InvalidInput: the rule is not a regular expression, or it finds no source for any photo.
    """
    if any(rule in photo.row for photo in photos):
        found = [photo.row.get(rule) or None for photo in photos]
    else:
        find = _rule(rule)
        found = [find(name) for name in names]
    if not any(found):
        raise InvalidInput(f"--source-from {rule}: no photo matches, for example {names[0]}", f"give {RULES}")
    return [
        replace(photo, source=source, row={**photo.row, "source": source}) if source else photo
        for photo, source in zip(photos, found, strict=True)
    ]


def missing_sources(photos: Sequence[Photo]) -> str:
    """A warning if none of the photos names its source; empty otherwise. Copies name the photo that they show."""
    originals = [photo for photo in photos if not photo.is_copy]
    if len(originals) < 2 or any(photo.row.get("source") for photo in originals):
        return ""
    return (
        f"none of the {len(originals)} photos names its source, so photos of the same room or people can be in "
        "training and in validation, and the accuracy will look too high"
    )


def _rule(rule: str) -> Rule:
    if rule == "folder":
        return lambda name: name.rpartition("/")[0] or None
    if rule == "prefix":
        return lambda name: _NUMBER.sub("", name.rpartition("/")[2].rpartition(".")[0]) or None
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise InvalidInput(f"--source-from {rule} is not a regular expression: {error}", f"give {RULES}") from error

    def search(name: str) -> str | None:
        match = pattern.search(name)
        return match and (match[1] if pattern.groups else match[0])

    return search
