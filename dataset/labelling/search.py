"""Find photos of a labelling by their names and decisions, for the page's list."""

import unicodedata
from collections.abc import Sequence

from dataset.labelling.entries import Decision, Entry

UNDECIDED = "undecided"


def find(entries: Sequence[Entry], text: str = "", kind: str = "") -> list[int]:
    """The photos that match, in their order.

    Args:
        text: words that all occur in the photo's name, its source or its labeller; upper and lower case are the same.
        kind: `label:LABEL`, `aside:REASON`, `undecided`, or empty for all.
    """
    words = _folded(text).split()
    return [
        index
        for index, entry in enumerate(entries)
        if kind in ("", kind_of(entry.decision)) and all(word in _searched(entry) for word in words)
    ]


def kind_of(decision: Decision) -> str:
    """The filter that finds a decision."""
    if decision.label:
        return f"label:{decision.label}"
    return f"aside:{decision.set_aside}" if decision.set_aside else UNDECIDED


def _searched(entry: Entry) -> str:
    return _folded("\n".join((entry.name, entry.row["source"], entry.row["labelled_by"])))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()
