"""Propose which photos show the same room or call, by the distances of their features."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dataset.auditing.duplicates import connected_groups
from dataset.auditing.features import Features

DISTANCE = 0.25
"""Mean cosine distance within a group; docs/benchmarks.md has precision and recall."""


def propose(features: Features, alike: Sequence[int], distance: float = DISTANCE) -> list[int]:
    """Group photos whose features are near each other on average, and those that look alike.

    Average linkage: two groups become one if the mean distance of their photos is at most `distance`. Linking single
    photos would chain different rooms into one group.

    Args:
        features: shape (photos, features), rows of length 1 or 0 (`dataset.auditing.features`).
        alike: for each photo the first that is the same image (`dataset.auditing.duplicates`).

    Returns:
        for each photo the index of the first of its group.
    """
    near = _clusters(features, distance)
    groups = connected_groups(2 * len(near), np.array(near, np.int64), np.array(alike, np.int64) + len(near))
    return _firsts([int(groups[label]) for label in near])


def _clusters(features: Features, distance: float) -> list[int]:
    from scipy.cluster.hierarchy import fcluster, linkage  # imported here: it takes half a second
    from scipy.spatial.distance import pdist

    known = np.flatnonzero(np.linalg.norm(features, axis=1) > 0)
    clusters = np.arange(len(features))
    if len(known) > 1:
        apart = np.clip(pdist(features[known], "cosine"), 0, None)
        labels: npt.NDArray[np.int64] = fcluster(linkage(apart, "average"), distance, "distance")
        clusters[known] = known[_first_index(labels)]
    return [int(cluster) for cluster in clusters]


def _first_index(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.asarray(first[inverse], np.int64)


def _firsts(labels: Sequence[int]) -> list[int]:
    first: dict[int, int] = {}
    return [first.setdefault(label, index) for index, label in enumerate(labels)]
