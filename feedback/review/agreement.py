"""What opinions say about a photo: pure functions, so that its state can always be derived again.

An opinion's value is `label:NAME`, `unclear` or `broken`. Only the last opinion of an account counts, so nobody can
agree with themselves. A value is agreed when two accounts chose it, at least one of them blind (in the review, where
neither the uploader's nor the model's answer is shown), and more accounts than any other value.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

UNCLEAR, BROKEN = "unclear", "broken"
LABEL = "label:"
MOST_OPINIONS = 3
"""So many blind opinions without an agreement end the review of a photo."""


class State(Enum):
    """`NEW`, `PROPOSED` and `DISAGREED` wait for a reviewer; `ASIDE` is agreed to be broken or unclear."""

    NEW = "new"
    PROPOSED = "proposed"
    DISAGREED = "disagreed"
    AGREED = "agreed"
    ASIDE = "aside"
    DISPUTED = "disputed"


OPEN = (State.NEW.value, State.PROPOSED.value, State.DISAGREED.value)


@dataclass(frozen=True)
class Vote:
    """An opinion: the account (None: somebody without one), its value, and whether it was blind."""

    account: int | None
    value: str
    blind: bool


def derive(votes: Iterable[Vote]) -> tuple[State, str | None]:
    """The state of a photo.

    Args:
        votes: all opinions, oldest first.

    Returns:
        the state, and the agreed label if there is one.
    """
    last = {vote.account: vote for vote in votes if vote.account is not None}
    if not last:
        return State.NEW, None
    counts = Counter(vote.value for vote in last.values())
    seen_blind = {vote.value for vote in last.values() if vote.blind}
    (value, most), *others = counts.most_common()
    if most >= 2 and value in seen_blind and all(count < most for _, count in others):
        return (State.AGREED, value.removeprefix(LABEL)) if value.startswith(LABEL) else (State.ASIDE, None)
    if sum(vote.blind for vote in last.values()) >= MOST_OPINIONS:
        return State.DISPUTED, None
    return (State.DISAGREED if others else State.PROPOSED), None


def value_of(decision: str, labels: Iterable[str]) -> str:
    """The value of a decision: a label's name, `unclear` or `broken`.

    Raises:
        ValueError: it is none of them.
    """
    if decision in (UNCLEAR, BROKEN):
        return decision
    if decision.removeprefix(LABEL) in labels:
        return LABEL + decision.removeprefix(LABEL)
    raise ValueError(f"{decision[:100]!r} is not a label: choose one of the list")
