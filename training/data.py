"""Photos -> batches: the handler's preprocessing for evaluation, the augmenter on top for training."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

from config.recipe import Recipe
from dataset.photos import Photo
from handler.errors import RequestError
from handler.image import Pixels, open_photo, preprocess
from training.augment import Augmenter


class PhotoSet(Dataset[tuple[Tensor, int]]):
    """(uint8 (3, H, W), label index), augmented if `augment`.

    Raises (on access):
        click.ClickException: a photo cannot be read, naming it.
    """

    def __init__(self, photos: Sequence[Photo], recipe: Recipe, augment: bool) -> None:
        self.photos = photos
        self.recipe = recipe
        self.augmenter = Augmenter(recipe.augment, recipe.input) if augment else None

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        photo = self.photos[index]
        return torch.from_numpy(self._pixels(photo.path)), photo.label

    def _pixels(self, path: Path) -> Pixels:
        with naming(path):
            data = path.read_bytes()
            if self.augmenter:
                return self.augmenter(open_photo(data, self.recipe.limits))
            return preprocess(data, self.recipe.input, self.recipe.limits)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn what is wrong with a photo into one line that names it.

    Raises:
        click.ClickException: in place of OSError and RequestError.
    """
    try:
        yield
    except (OSError, RequestError) as error:
        raise click.ClickException(f"{path}: {error}: take it out of the folder") from error


def check_readable(photos: Sequence[Photo], recipe: Recipe) -> None:
    """Decode every photo once, before hours are spent on the others.

    Raises:
        click.ClickException: the first that cannot be read.
    """
    for photo in track(photos, "checking", console=Console(stderr=True), transient=True):
        with naming(photo.path):
            open_photo(photo.path.read_bytes(), recipe.limits)


def batches(
    photos: Sequence[Photo], recipe: Recipe, size: int, augment: bool = False, seed: int = 0, balanced: bool = False
) -> DataLoader[tuple[Tensor, int]]:
    """A loader over photos; shuffled by `seed` and augmented in training, in order otherwise.

    Args:
        balanced: draw photos so that classes come equally often, some photos again and again (training only).
    """
    order = torch.Generator().manual_seed(seed)
    sampler = _balanced(photos, order) if augment and balanced else None
    shuffle = augment and sampler is None
    return DataLoader(PhotoSet(photos, recipe, augment), size, shuffle, sampler, generator=order)


def _balanced(photos: Sequence[Photo], order: torch.Generator) -> WeightedRandomSampler:
    counts = Counter(photo.label for photo in photos)
    return WeightedRandomSampler([1 / counts[photo.label] for photo in photos], len(photos), generator=order)
