"""Load photos as batches, with the handler's preprocessing; for training with random augmentation."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler, Sampler, WeightedRandomSampler

from common.console import err_console
from common.errors import InvalidInput
from config.recipe import Recipe
from dataset.photos import Photo
from handler.errors import RequestError
from training.data.augment import Augmenter
from training.data.cache import Pictures, open_whole


class PhotoSet(Dataset[tuple[Tensor, int]]):
    """(uint8 (channels, H, W), label index), augmented if `augment`.

    Args:
        pictures: a cache of decoded photos; without it every photo is decoded each time.

    Raises (on access):
        InvalidInput: a photo cannot be read; the message names it.
    """

    def __init__(
        self, photos: Sequence[Photo], recipe: Recipe, augment: bool, pictures: Pictures | None = None
    ) -> None:
        self.photos = photos
        self.pictures = pictures or Pictures(recipe, megabytes=0)
        self.augmenter = Augmenter(recipe.augment, recipe.input) if augment else None

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        photo = self.photos[index]
        with naming(photo.path):
            if self.augmenter:
                pixels = self.augmenter(self.pictures.picture(photo.path))
            else:
                pixels = self.pictures.pixels(photo.path)
        return torch.from_numpy(pixels), photo.label


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the photo's path to the error of reading it.

    Raises:
        InvalidInput: in place of OSError and RequestError.
    """
    try:
        yield
    except (OSError, RequestError) as error:
        raise InvalidInput(f"{path}: {error}", "take it out of the folder") from error


def check_readable(photos: Sequence[Photo], recipe: Recipe) -> None:
    """Decode every photo once, so that an unreadable one is reported before hours of training.

    Raises:
        InvalidInput: names the first photo that cannot be read.
    """
    for photo in track(photos, "checking", console=err_console, transient=True):
        with naming(photo.path):
            open_whole(photo.path, recipe)


def read_all(photos: Sequence[Photo], pictures: Pictures) -> None:
    """Decode photos into a cache of pixels, so that an unreadable one is reported before training.

    Raises:
        InvalidInput: names the first photo that cannot be read.
    """
    for photo in track(photos, "reading held-out photos", console=err_console, transient=True):
        with naming(photo.path):
            pictures.pixels(photo.path)


def batches(
    photos: Sequence[Photo],
    recipe: Recipe,
    size: int,
    augment: bool = False,
    seed: int = 0,
    balanced: bool = False,
    pictures: Pictures | None = None,
    samples: int | None = None,
) -> DataLoader[tuple[Tensor, int]]:
    """A loader over photos; shuffled by `seed` and augmented in training, in order otherwise.

    Args:
        balanced: draw photos so that classes are equally frequent; photos repeat (training only).
        pictures: as in `PhotoSet`.
        samples: photos per epoch, drawn in repeated passes; by default each photo once (training only).
    """
    return shuffled(PhotoSet(photos, recipe, augment, pictures), photos, size, augment, seed, balanced, samples)


def shuffled(
    items: Dataset[Any],
    photos: Sequence[Photo],
    size: int,
    shuffle: bool,
    seed: int,
    balanced: bool,
    samples: int | None = None,
) -> DataLoader[Any]:
    """A loader over items, one per photo; order and arguments as in `batches`.

    In training, a last batch of one photo is left out; another photo is the last one in the next epoch.
    """
    order = torch.Generator().manual_seed(seed)
    sampler: Sampler[int] | None = None
    if shuffle and balanced:
        sampler = _balanced(photos, order, samples or len(photos))
    elif shuffle and samples:
        sampler = RandomSampler(range(len(photos)), num_samples=samples, generator=order)
    last = (samples or len(photos)) % size
    drop_last = shuffle and last == 1 and len(photos) > 1  # batch normalisation needs two values of each channel
    return DataLoader(items, size, shuffle and sampler is None, sampler, drop_last=drop_last, generator=order)


def _balanced(photos: Sequence[Photo], order: torch.Generator, samples: int) -> WeightedRandomSampler:
    """Photos without a label (-1) count as one more class."""
    counts = Counter(photo.label for photo in photos)
    return WeightedRandomSampler([1 / counts[photo.label] for photo in photos], samples, generator=order)
