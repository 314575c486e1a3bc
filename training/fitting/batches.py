"""The batches of an epoch: augmented pixels, or cached features if only the last layer trains.

A frozen network gives the same features for the same view of a photo in every epoch. So `train.copies` augmented views
of each photo, and the held-out photos, go through it once, and all epochs train the last layer on these features.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import Protocol

import torch
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from common.console import err_console, note
from common.words import number_of
from config.recipe import Fit, Recipe
from dataset.photos import Photo
from training.data.cache import Pictures
from training.data.loader import PhotoSet, batches, read_all, shuffled
from training.evaluation.inference import BATCH, DEVICE, Answer, adapt_norms, answer, autocast, folded, predict
from training.fitting import parallel
from training.models.classifier import Classifier

Batch = tuple[Tensor, Tensor, Answer | None]
"""Inputs, labels (-1: none), the teacher's answer if there is a teacher."""
Teacher = Callable[[Tensor], Answer]
"""uint8 photos -> the teacher's answer."""


class Feed(Protocol):
    """Batches for each epoch, and the model's answers to them."""

    order: torch.Generator
    """Decides the order of photos."""

    def __len__(self) -> int:
        """Batches of an epoch."""

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of an epoch, counted from 0."""

    def answer(self, inputs: Tensor) -> Answer:
        """The model's answer to the inputs of a batch."""

    def validate(self, chosen: Sequence[int] | None = None) -> Tensor:
        """The model's logits for the held-out photos, or for the chosen ones."""


def feed_for(
    model: Classifier,
    training: Sequence[Photo],
    validation: Sequence[Photo],
    recipe: Recipe,
    settings: Fit,
    teacher: Classifier | None,
) -> Feed:
    """Features if only the last layer trains, otherwise pixels."""
    kind = Features if only_head_trains(model) else Pixels
    parallel.refuse(settings, teacher is not None, kind is Features)
    ask = partial(answer, folded(teacher), teacher.head) if teacher and settings.learns_from_teacher else None
    return kind(model, training, validation, recipe, settings, ask)


def only_head_trains(model: Classifier) -> bool:
    """Whether only the last layer trains (`Classifier.freeze`)."""
    head = {id(parameter) for parameter in model.network.get_submodule(model.head).parameters()}
    return {id(parameter) for parameter in model.parameters() if parameter.requires_grad} == head


def photos_per_round(settings: Fit) -> int | None:
    """Photos between two checkpoints if steps are counted; None: every photo once."""
    return settings.round_steps * settings.batch_size if settings.max_steps else None


class Pixels:
    """Every epoch augments every photo again; decoded photos are cached while there is memory."""

    def __init__(
        self,
        model: Classifier,
        training: Sequence[Photo],
        validation: Sequence[Photo],
        recipe: Recipe,
        settings: Fit,
        teacher: Teacher | None,
    ) -> None:
        self.model, self.teacher, self.recipe, self.validation = model, teacher, recipe, validation
        self.pictures = Pictures(recipe)
        read_all(validation, self.pictures)
        balanced = settings.sampling == "balanced"
        seed, samples = recipe.train.seed, photos_per_round(settings)
        whole = batches(training, recipe, settings.batch_size, True, seed, balanced, self.pictures, samples)
        self.order: torch.Generator = whole.generator
        self.loader = parallel.divided(whole)
        self.trained = parallel.wrapped(model)

    def __len__(self) -> int:
        return len(self.loader)

    def epoch(self, number: int) -> Iterator[Batch]:
        for pixels, labels in self.loader:
            pixels = pixels.to(DEVICE)
            yield pixels, labels.to(DEVICE), _ask(self.teacher, pixels, self.recipe)

    def answer(self, inputs: Tensor) -> Answer:
        with autocast(self.recipe):
            return answer(self.model, self.model.head, inputs, self.trained)

    def validate(self, chosen: Sequence[int] | None = None) -> Tensor:
        photos = self.validation if chosen is None else [self.validation[index] for index in chosen]
        mine = [photos[index] for index in parallel.own(len(photos))]
        with autocast(self.recipe):
            return parallel.gathered(predict(folded(self.model), mine, self.recipe, self.pictures), len(photos))


class Features:
    """Epoch e trains the last layer on view e mod `copies` of every photo."""

    def __init__(
        self,
        model: Classifier,
        training: Sequence[Photo],
        validation: Sequence[Photo],
        recipe: Recipe,
        settings: Fit,
        teacher: Teacher | None,
    ) -> None:
        self.model, self.teacher, self.recipe = model, teacher, recipe
        self.training, self.validation = training, validation
        self.copies = min(recipe.train.copies, max(1, settings.rounds))
        self.adapts = settings.norms == "adapted"
        self.pictures = Pictures(recipe)
        read_all(validation, self.pictures)
        self.items = _Rows(len(training))
        balanced = settings.sampling == "balanced"
        self.loader: DataLoader[tuple[Tensor, ...]] = shuffled(
            self.items, training, settings.batch_size, True, recipe.train.seed, balanced, photos_per_round(settings)
        )
        self.order: torch.Generator = self.loader.generator

    def __len__(self) -> int:
        return len(self.loader)

    def epoch(self, number: int) -> Iterator[Batch]:
        self.items.columns = self.views[number % self.copies]
        for features, labels, *target in self.loader:
            features = features.to(DEVICE)
            # The features are frozen and cannot be matched, so the teacher's are given as equal.
            yield features, labels.to(DEVICE), Answer(target[0].to(DEVICE), features) if target else None

    def answer(self, inputs: Tensor) -> Answer:
        head = self.model.network.get_submodule(self.model.head)  # applies the recipe's dropout
        return Answer(head(inputs) / self.model.temperature, inputs)

    @torch.no_grad()
    def validate(self, chosen: Sequence[int] | None = None) -> Tensor:
        self.model.eval()
        rows = self.held_out if chosen is None else self.held_out[list(chosen)]
        return self.answer(rows.to(DEVICE)).logits.cpu()

    @cached_property
    def views(self) -> list[tuple[Tensor, ...]]:
        """For each copy: features (photos, channels), labels and, with a teacher, its logits; always the same views."""
        note(
            f"frozen: {number_of(self.copies, 'augmented view')} of each of {number_of(len(self.training), 'photo')} "
            "go through the network once (train.copies); the epochs train the last layer on the resulting features"
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.recipe.train.seed)
            pictures = Pictures(self.recipe)
            if self.adapts:
                self._adapt(pictures)
            return [
                self._run(self.training, f"view {n + 1}/{self.copies}", pictures, augment=True)
                for n in range(self.copies)
            ]

    @cached_property
    def held_out(self) -> Tensor:
        """Features of the held-out photos, preprocessed as in serving."""
        with torch.random.fork_rng(devices=[]):  # a loader draws a random number, which must not change dropout
            return self._run(self.validation, "held out", self.pictures, augment=False)[0]

    def _adapt(self, augmenting: Pictures) -> None:
        several = len(self.training) > BATCH  # a batch of one has no variance
        loader = DataLoader(PhotoSet(self.training, self.recipe, True, augmenting), BATCH, drop_last=several)
        shown = track(loader, "statistics", console=err_console, transient=True)
        with autocast(self.recipe):
            adapt_norms(self.model, (pixels.to(DEVICE) for pixels, _ in shown))

    @torch.no_grad()
    def _run(self, photos: Sequence[Photo], title: str, pictures: Pictures, augment: bool) -> tuple[Tensor, ...]:
        network = folded(self.model)
        loader = DataLoader(PhotoSet(photos, self.recipe, augment, pictures), BATCH)
        rows: list[tuple[Tensor, ...]] = []
        for pixels, labels in track(loader, title, console=err_console, transient=True):
            pixels = pixels.to(DEVICE)
            with autocast(self.recipe):
                features = answer(network, self.model.head, pixels).features.cpu()
            target = _ask(self.teacher, pixels, self.recipe) if augment else None
            rows.append((features, labels) if target is None else (features, labels, target.logits.cpu()))
        return tuple(torch.cat(column) for column in zip(*rows, strict=True))


class _Rows(Dataset[tuple[Tensor, ...]]):
    """Rows of equally long columns, which each epoch may replace."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.columns: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return tuple(column[index] for column in self.columns)


@torch.no_grad()
def _ask(teacher: Teacher | None, pixels: Tensor, recipe: Recipe) -> Answer | None:
    if teacher is None:
        return None
    with autocast(recipe):
        return teacher(pixels)
