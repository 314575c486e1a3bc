"""Where a photo is: why a path or a URL of a manifest leads to no photo."""

from pathlib import Path
from urllib.parse import urlsplit

from dataset import listing

SCHEMES = ("http", "https", "s3")


def problem_of_path(path: Path, given: str) -> str:
    """Why a path is not a file, and what to write instead; empty if it is one. Args: as `dataset.listing`'s."""
    problem, fix = listing.problem_of_path(path, given)
    if problem and urlsplit(given.replace("[", "")).scheme.lower() in SCHEMES:
        fix = "give an address in the column url"
    return f"{problem}: {fix}" if fix else problem


def problem_of_url(url: str) -> str:
    """What is wrong with a URL, as far as its text shows; empty if nothing is."""
    try:
        parts = urlsplit(url)
        valid = bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        return f"{url[:60]!r} is not a valid address ({error})"
    if parts.scheme.lower() not in SCHEMES:
        return f"{url[:60]!r} does not begin with http://, https:// or s3://"
    return "" if valid else f"{url[:60]!r} is not a valid address"
