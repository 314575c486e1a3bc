"""Counts by region and week, and by institution and week."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reports.counting.photos import REGION_CODES, Photos

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Counted:
    """Numbers of photos of the same shape: (regions, weeks) or (institutions, weeks).

    photos = errors + outside + duplicates + counted. Of the counted ones, `positive` have the label, and `unsure` are
    below the recipe's confidence (whatever their label).
    """

    photos: Counts
    errors: Counts
    outside: Counts
    duplicates: Counts
    counted: Counts
    positive: Counts
    unsure: Counts


def by_region(photos: Photos) -> Counted:
    """Shape (regions + 1, weeks), in the order of `REGION_CODES`; the last row is the unknown region."""
    return _count(photos, photos.region, len(REGION_CODES))


def by_institution(photos: Photos) -> Counted:
    """Shape (institutions, weeks)."""
    return _count(photos, photos.institution, len(photos.institutions))


def _count(photos: Photos, group: npt.NDArray[np.int64], groups: int) -> Counted:
    place = group * photos.weeks + photos.week

    def of(chosen: npt.NDArray[np.bool_]) -> Counts:
        return np.bincount(place[chosen], minlength=groups * photos.weeks).reshape(groups, photos.weeks)

    outside = photos.outside & ~photos.error
    return Counted(
        photos=of(np.ones(len(place), np.bool_)),
        errors=of(photos.error),
        outside=of(outside & ~photos.duplicate),
        duplicates=of(photos.duplicate),
        counted=of(photos.counted),
        positive=of(photos.counted & photos.positive),
        unsure=of(photos.counted & photos.unsure),
    )
