"""Folds for cross-validation and a held-out part, without a source on both sides."""

from collections import Counter
from collections.abc import Sequence

from common.errors import InvalidInput
from dataset.photos import Photo

_ATTEMPTS = 8


def folds(photos: Sequence[Photo], count: int, seed: int) -> list[list[int]]:
    """Divide photos into folds by source, with the classes as even as the sources allow.

    Returns:
        for each fold the indices of its photos, ascending; each index is in one fold.

    Raises:
        InvalidInput: there are fewer sources than folds, or every class has fewer photos than folds.

    Source: scikit-learn's StratifiedGroupKFold.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # imported here: it takes a second

    sources = [photo.source for photo in photos]
    if len(set(sources)) < count:
        raise InvalidInput(
            f"{count} folds need at least {count} sources, and there are {len(set(sources))}",
            "add photos from other sources, or use fewer folds",
        )
    labels = [photo.label for photo in photos]
    largest = max(Counter(labels).values())
    if largest < count:
        raise InvalidInput(
            f"{count} folds need at least {count} photos of a class, and the largest class has {largest}",
            "add photos, use fewer folds, or hold out a larger share",
        )
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    return [sorted(map(int, test)) for _, test in splitter.split(sources, labels, sources)]


def hold_out(photos: Sequence[Photo], share: float, seed: int) -> tuple[list[Photo], list[Photo]]:
    """Divide photos into a training and a held-out part, without a source in both.

    Returns:
        training, held out. Of several random divisions it is the one whose shares come closest to `share` in the
        class that differs most.

    Raises:
        InvalidInput: there are too few sources to have every class in both parts.
    """
    count = max(2, round(1 / share))
    candidates = [fold for attempt in range(_ATTEMPTS) for fold in folds(photos, count, seed + attempt)]
    usable = [(distance, fold) for fold in candidates if (distance := _distance(photos, fold, share)) is not None]
    if not usable:
        raise InvalidInput(
            "a class has too few sources to be in both the training and the held-out part",
            "add photos of it from other sources",
        )
    held_out = set(min(usable, key=lambda pair: pair[0])[1])
    return [p for i, p in enumerate(photos) if i not in held_out], [p for i, p in enumerate(photos) if i in held_out]


def _distance(photos: Sequence[Photo], fold: Sequence[int], share: float) -> float | None:
    """Largest difference from `share` over the classes; None if a class is entirely inside or outside the fold."""
    distance = 0.0
    for label in {photo.label for photo in photos}:
        inside = sum(photos[i].label == label for i in fold)
        total = sum(photo.label == label for photo in photos)
        if inside in (0, total):
            return None
        distance = max(distance, abs(inside / total - share))
    return distance
