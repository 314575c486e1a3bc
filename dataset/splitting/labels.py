"""Photos that look the same and have different labels. Training on them teaches a model both."""

from collections.abc import Sequence

from common.words import number_of
from dataset.photos import Photo


def different_labels(photos: Sequence[Photo], alike: Sequence[int], labels: Sequence[str]) -> str:
    """A warning if photos that look the same have different labels; empty otherwise.

    Args:
        alike: a group number for each photo; photos of one group look the same.
        labels: the names of the photos' labels.
    """
    first: dict[int, Photo] = {}
    pairs: dict[int, tuple[Photo, Photo]] = {}
    for photo, name in zip(photos, alike, strict=True):
        if (other := first.setdefault(name, photo)).label != photo.label:
            pairs.setdefault(name, (other, photo))
    if not pairs:
        return ""
    example = " and ".join(f"{photo.path} ({labels[photo.label]})" for photo in next(iter(pairs.values())))
    return (
        f"photos that look the same have different labels in {number_of(len(pairs), 'group')} of near duplicates, "
        f"for example {example}: correct the label of one"
    )
