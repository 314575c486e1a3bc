"""Words of messages that depend on a number."""


def number_of(count: int, noun: str, plural: str = "") -> str:
    """A number with its noun: "1 photo", "2 photos".

    Args:
        plural: for a noun whose plural is not itself and an s.
    """
    return f"{count} {noun if count == 1 else plural or noun + 's'}"
