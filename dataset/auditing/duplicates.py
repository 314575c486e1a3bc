"""Photos that are the same picture: byte for byte, or re-encoded, rescaled, a little cropped or brightened.

Perceptual hash of 144 bits (`dataset.auditing.inspect.hash_photo`), near where at most 22 bits differ. Measured on the
281 real classroom photos (many alike screenshots of calls), 120 drawn rooms and calls, 180 drawn shapes:

| bits | threshold | JPEG 30 to 90, scale 0.25 to 2 | brightness 0.7, 1.3 | crop 2 % | crop 5 % | false pairs |
|---|---|---|---|---|---|---|
| 64 | 8 | 100 % | 100, 98.2 % | 98.6 to 99.3 % | 67 to 83 % | 2 of 39,340; nearest two pictures: 8 bits |
| 144 | 22 | 100 % | 100, 100 % | 99.3 to 100 % | 42 to 80 % | 0; nearest 30, and 40 in 1.1 million small pairs |
| 256 | 40 | 100 % | 100, 100 % | 98.9 to 100 % | 5 to 47 % | 0; nearest 50 |

Mirrored and turned copies are not found. Blank pictures have no hash: each is alone, unless its bytes are the same.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from dataset.auditing.inspect import HASH_SIDE, Facts, inspect_all, inspector
from handler.spec import Limits

THRESHOLD = 22
"""Bits of 144; see above."""

_BLOCK = 128  # rows compared at a time: 10 MB of differences for 10,000 photos

Words = npt.NDArray[np.uint64]


def similar_groups(paths: Sequence[Path], limits: Limits, label: str = "comparing") -> list[int]:
    """Group photos that are the same picture, hashing them on all cores with a progress bar.

    Args:
        label: what the progress bar says.

    Returns:
        a group for each path, as `near_groups`; files of the same bytes share one too. Unreadable files are alone.
    """
    found = inspect_all(paths, inspector(limits))
    console = Console(stderr=True)
    facts = dict(track(found, label, total=len(paths), console=console, transient=True))
    groups = near_groups([facts[index].phash for index in range(len(paths))])
    return _joined(groups, [facts[index].sha256 for index in range(len(paths))])


def near_groups(hashes: Sequence[str], threshold: int = THRESHOLD) -> list[int]:
    """Group hashes of which a chain of neighbours differs by at most `threshold` bits.

    Args:
        hashes: hexadecimal, all of one length; an empty one is alone.

    Returns:
        for each hash the index of the first of its group.
    """
    groups = np.arange(len(hashes))
    known = np.flatnonzero([bool(value) for value in hashes])
    words = _words([hashes[int(index)] for index in known])
    for start in range(0, len(known), _BLOCK):
        near = distances(words[start : start + _BLOCK], words[start:]) <= threshold
        for row in near:
            members = np.unique(groups[known[start:][row]])
            if len(members) > 1:
                groups[np.isin(groups, members)] = members[0]
    return [int(group) for group in groups]


def distances(some: Words, others: Words) -> npt.NDArray[np.uint16]:
    """Hamming distances of packed hashes.

    Args:
        some, others: shapes (a, words) and (b, words).

    Returns:
        uint16, shape (a, b).
    """
    bits = np.zeros((len(some), len(others)), dtype=np.uint16)
    for word in range(some.shape[1]):
        bits += np.bitwise_count(some[:, word, None] ^ others[None, :, word])
    return bits


def duplicates(names: Sequence[str], facts: Sequence[Facts]) -> dict[int, tuple[str, str, int]]:
    """Judge sound photos that are there more than once.

    Of the same bytes the first by name is kept; of nearly the same pictures the one with the most pixels, then
    the first by name.

    Returns:
        index of a photo that is not kept -> (verdict, reason, index of the kept one).
    """
    order = sorted((index for index, fact in enumerate(facts) if fact.verdict == "ok"), key=lambda index: names[index])
    verdicts, first = {}, dict[str, int]()
    for index in order:
        twin = first.setdefault(facts[index].sha256, index)
        if twin != index:
            verdicts[index] = ("exact_duplicate", f"the same bytes as {names[twin]}", twin)
    left = [index for index in order if index not in verdicts]
    for group in _groups(near_groups([facts[index].phash for index in left]), left):
        kept = max(group, key=lambda index: facts[index].width * facts[index].height)  # the first of equals
        near = {index: _near(names, facts, index, kept) for index in group if index != kept}
        verdicts |= {index: verdict for index, verdict in near.items() if verdict}
    return verdicts


def _near(names: Sequence[str], facts: Sequence[Facts], index: int, kept: int) -> tuple[str, str, int] | None:
    """None for a photo that is alike only through others: frames of one call make such chains."""
    pair = _words([facts[index].phash, facts[kept].phash])
    bits = int(distances(pair[:1], pair[1:])[0, 0])
    if bits > THRESHOLD:
        return None
    return "near_duplicate", f"the same picture as {names[kept]} ({bits} of {HASH_SIDE**2} bits differ)", kept


def _groups(groups: Sequence[int], members: Sequence[int]) -> Iterable[list[int]]:
    found: dict[int, list[int]] = {}
    for group, member in zip(groups, members, strict=True):
        found.setdefault(group, []).append(member)
    return found.values()


def _joined(groups: list[int], digests: Sequence[str]) -> list[int]:
    """Join the groups of files with the same bytes: blank pictures have no hash to be near by."""
    joined, first = np.array(groups, dtype=np.int64), dict[str, int]()
    for index, digest in enumerate(digests):
        pair = joined[[first.setdefault(digest, index) if digest else index, index]]
        joined[joined == pair.max()] = pair.min()
    return [int(group) for group in joined]


def _words(hashes: Sequence[str]) -> Words:
    """Hexadecimal -> 64-bit words, shape (hashes, words), filled with zero bits on the left."""
    count = max((len(value) for value in hashes), default=0) // 16 + 1
    packed = b"".join(int(value, 16).to_bytes(8 * count, "big") for value in hashes)
    return np.frombuffer(packed, dtype=">u8").astype(np.uint64).reshape(-1, count)
