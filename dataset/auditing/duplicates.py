"""Find photos that are the same image: byte for byte, or re-encoded, rescaled, slightly cropped or brightened.

Two photos are near duplicates if at most 22 of the 144 bits of their perceptual hashes
(`dataset.auditing.hashing.hash_photo`) differ. Share of changed copies found, and false pairs, among 281 real classroom
photos (many similar screenshots of calls), 120 drawn rooms and calls, and 180 drawn shapes:

| bits | threshold | JPEG 30 to 90, scale 0.25 to 2 | brightness 0.7, 1.3 | crop 2 % | crop 5 % | false pairs |
|---|---|---|---|---|---|---|
| 64 | 8 | 100 % | 100, 98.2 % | 98.6 to 99.3 % | 67 to 83 % | 2 of 39,340; closest pair: 8 bits |
| 144 | 22 | 100 % | 100, 100 % | 99.3 to 100 % | 42 to 80 % | 0; closest pair 30, and 40 in 1.1 million small pairs |
| 256 | 40 | 100 % | 100, 100 % | 98.9 to 100 % | 5 to 47 % | 0; closest pair 50 |

Mirrored and rotated copies are not found. Blank images have no perceptual hash, so only their bytes are compared.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.progress import track

from common.console import err_console
from dataset.auditing.hashing import HASH_SIDE
from dataset.auditing.inspect import Facts, inspect_all, inspector
from handler.spec import Limits

THRESHOLD = 22
"""Bits of 144; see the table above."""

_SMALL = 256
"""Width in pixels below which two pictures, of logos for example, may have near hashes and yet differ."""

_BLOCK = 128  # rows compared at a time: 10 MB of differences for 10,000 photos

Words = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]


def similar_groups(paths: Sequence[Path], limits: Limits, label: str = "comparing") -> list[int]:
    """Group photos that are the same image, hashing them on all cores with a progress bar.

    Args:
        label: text of the progress bar.

    Returns:
        for each path the index of the first of its group. Near duplicates and files with the same bytes share a
        group; an unreadable file is alone, unless another has the same bytes.
    """
    results = inspect_all(paths, inspector(limits))
    facts = dict(track(results, label, total=len(paths), console=err_console, transient=True))
    hashes = [facts[index].phash for index in range(len(paths))]
    first: dict[str, int] = {}
    twins = [first.setdefault(facts[index].sha256 or str(index), index) for index in range(len(paths))]
    groups = _join(np.array(near_groups(hashes), np.int64), np.arange(len(paths)), np.array(twins, np.int64))
    return [int(group) for group in groups]


def near_groups(hashes: Sequence[str], threshold: int = THRESHOLD) -> list[int]:
    """Group hashes that differ by at most `threshold` bits, directly or through a chain of others.

    Args:
        hashes: hexadecimal, all of one length; an empty one is alone.

    Returns:
        for each hash the index of the first of its group.
    """
    groups = np.arange(len(hashes))
    known = np.flatnonzero([bool(value) for value in hashes])
    words = packed_words([hashes[int(index)] for index in known])
    for start in range(0, len(known), _BLOCK):
        rows, columns = np.nonzero(distances(words[start : start + _BLOCK], words[start:]) <= threshold)
        groups = _join(groups, known[start + rows], known[start + columns])
    return [int(group) for group in groups]


def connected_groups(count: int, first: Indices, second: Indices) -> Indices:
    """Group the items 0 to `count` - 1 that are linked, directly or through others.

    Args:
        first, second: the links, as indices of items, shape (links,) each.

    Returns:
        for each item the index of the first of its group, shape (count,).
    """
    from scipy.sparse import coo_array  # imported here: it takes half a second
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(count, count))
    _, components = connected_components(graph, directed=False)
    _, firsts, inverse = np.unique(components, return_index=True, return_inverse=True)
    return np.asarray(firsts[inverse], np.int64)


def _join(groups: Indices, first: Indices, second: Indices) -> Indices:
    """Join the groups of linked items. In and out: for each item the index of the first of its group."""
    return connected_groups(len(groups), groups[first], groups[second])[groups]


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
    """Find the duplicates among the usable photos.

    Of files with the same bytes, the first by name is kept. Of near duplicates, the one with the most pixels is kept,
    and of several such the first by name.

    Returns:
        index of a photo that is not kept -> (verdict, reason, index of the kept one).
    """
    order = sorted((index for index, fact in enumerate(facts) if fact.verdict == "ok"), key=lambda index: names[index])
    verdicts, first = {}, dict[str, int]()
    for index in order:
        twin = first.setdefault(facts[index].sha256, index)
        if twin != index:
            verdicts[index] = ("exact_duplicate", f"has the same bytes as {names[twin]}", twin)
    left = [index for index in order if index not in verdicts]
    members: dict[int, list[int]] = {}
    for index, group in zip(left, near_groups([facts[index].phash for index in left]), strict=True):
        members.setdefault(group, []).append(index)
    for group_members in members.values():
        kept = max(group_members, key=lambda index: facts[index].width * facts[index].height)  # the first of equals
        near = {index: _near(names, facts, index, kept) for index in group_members if index != kept}
        verdicts |= {index: verdict for index, verdict in near.items() if verdict}
    return verdicts


def _near(names: Sequence[str], facts: Sequence[Facts], index: int, kept: int) -> tuple[str, str, int] | None:
    """None if the photo resembles the kept one only through others; frames of one call form such chains."""
    pair = packed_words([facts[index].phash, facts[kept].phash])
    bits = int(distances(pair[:1], pair[1:])[0, 0])
    if bits > THRESHOLD:
        return None
    differ = f"{bits} of {HASH_SIDE**2} bits differ"
    if min(fact.width for fact in (facts[index], facts[kept])) < _SMALL or bits > THRESHOLD // 2:
        return "near_duplicate", f"does it show the same as {names[kept]}? ({differ}: look at both)", kept
    return "near_duplicate", f"shows the same as {names[kept]} ({differ})", kept


def packed_words(hashes: Sequence[str]) -> Words:
    """Hexadecimal -> 64-bit words, shape (hashes, words), filled with zero bits on the left."""
    count = max((len(value) for value in hashes), default=0) // 16 + 1
    packed = b"".join(int(value, 16).to_bytes(8 * count, "big") for value in hashes)
    return np.frombuffer(packed, dtype=">u8").astype(np.uint64).reshape(-1, count)
