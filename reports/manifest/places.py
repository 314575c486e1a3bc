"""Where a photo is: why a path or a URL of a manifest leads to no photo."""

from pathlib import Path
from urllib.parse import urlsplit

SCHEMES = ("http", "https", "s3")


def problem_of_path(path: Path, given: str) -> str:
    """Why a path is not a file, and what to write instead; empty if it is one.

    Args:
        path: the path inside the manifest's folder.
        given: the path as the manifest writes it.
    """
    try:
        if path.is_file():
            return ""
        if path.exists():
            return "this is a folder" if path.is_dir() else "this is not a regular file"
    except (OSError, ValueError) as error:
        return f"the file cannot be opened ({getattr(error, 'strerror', '') or error})"
    return f"there is no such file{_advice(given)}"


def _advice(given: str) -> str:
    if given.startswith("~"):
        return ": write the folder's name instead of ~"
    if given.lower().startswith("file:"):
        return ": write the path without file://"
    if urlsplit(given.replace("[", "")).scheme.lower() in SCHEMES:
        return ": give an address in the column url"
    return ": write / instead of \\" if "\\" in given else ""


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
