"""Fit whether a photo is in scope (training/models/scope.py) on the features of a trained model.

    python -m training train classroom --data PHOTOS --outside LOGOS

The network does not change. Its features of all photos of the classes, those held out of its training too, and of the
photos of no class, each unchanged, augmented, and in grey, fit the two parts. How their sum becomes a probability, and
the threshold, are fitted on photos that the parts did not see: the photos are divided by source into folds, and each
fold is scored by parts that were fitted on the others (stacking, Wolpert 1992).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader

from common.console import err_console, note
from common.errors import InvalidInput
from common.words import number_of
from config.recipe import Recipe
from dataset.photos import Photo
from training.data.cache import Pictures
from training.data.loader import PhotoSet
from training.data.outside import FOLDS, LEAST, kind_of
from training.evaluation.inference import BATCH, DEVICE, answer_for_scope
from training.evaluation.scope import Scoped, scored
from training.models.classifier import Classifier
from training.models.scope import Scope, outside_of
from training.records.run import ScopeFit

Floats = npt.NDArray[np.float64]
VIEWS = ("unchanged", "augmented", "grey")
"""Without the last, photos in black and white would be out of scope: many pictures of no class have few colours."""
FOLDED = 25_000
"""Photos in all folds together: few photos get more folds, which leave more of them to be fitted on."""
MOST_FOLDS = 20
MOST_PHOTOS = 4000
"""Photos of each side whose features are computed; more would hardly change the fit."""
COMPONENTS = 32
KEPT = 0.98
"""Share of held-out photos of the classes that the threshold keeps in scope."""
SCALE = 10.0
STRENGTH = 0.01
"""Features of length SCALE, and scikit-learn's C; a weak head generalises better to other sources (docs/log.md)."""
DISTANCE_WEIGHT = 0.4
"""Of the distance next to the linear head, both in units of their spread over photos of the classes (docs/log.md)."""


@dataclass(frozen=True)
class _Side:
    """Photos of the classes or of none: features of each view, shape (views, photos, channels), and sources."""

    features: Tensor
    sources: Sequence[str]


@dataclass(frozen=True)
class _Parts:
    """The two parts before they are combined: a linear head, and a mean with principal components."""

    weight: Tensor
    intercept: float
    mean: Tensor
    basis: Tensor

    def scores(self, features: Tensor) -> Tensor:
        """Linear score and negative distance, shape (N, 2)."""
        distance = outside_of(features, self.mean, self.basis)
        return torch.cat([features @ self.weight + self.intercept, -distance], 1)


@dataclass(frozen=True)
class _Mix:
    """How the scores of the two parts become a probability."""

    factors: Tensor
    bias: float

    def probability(self, scores: Tensor) -> Tensor:
        """Scores (photos, 2) -> in_scope, shape (photos,)."""
        return ((scores * self.factors).sum(1) + self.bias).sigmoid()


def fit_scope(
    model: Classifier, photos: Sequence[Photo], added: Sequence[Photo], outside: Sequence[Photo], recipe: Recipe
) -> ScopeFit:
    """Give a model its scope, and measure it on photos of other sources than it was fitted on.

    Args:
        photos: labelled ones, whether the model was trained on them or not.
        added: labelled photos of --extra, for example drawn ones: used for the parts, not for the threshold.
        outside: photos of no class.

    Raises:
        InvalidInput: there are too few photos of no class or of the classes, or one cannot be read.
    """
    require_enough(photos, outside)
    judged, extra, outside = (_some(listed) for listed in (photos, added, outside))
    note(
        f"scope: features of {number_of(len(judged) + len(extra), 'photo')} of the classes and "
        f"{len(outside)} of no class"
    )
    pictures = Pictures(recipe)
    inner, outer = (
        _Side(_features(model, listed, recipe, pictures), [photo.source for photo in listed])
        for listed in ([*judged, *extra], outside)
    )
    parts = _fit(inner.features.flatten(0, 1), outer.features.flatten(0, 1))
    seen, unseen = _out_of_fold(inner, outer)
    seen = seen[: len(judged)]
    mix = _mixed(seen, unseen)
    model.scope = _scope(parts, mix, threshold_of(mix.probability(seen)))
    labels = [recipe.labels[photo.label] for photo in judged]
    kinds = [kind_of(photo) for photo in outside]
    scoped = Scoped(labels, mix.probability(seen), kinds, mix.probability(unseen))
    return scored(scoped, float(model.scope.threshold))


def require_enough(photos: Sequence[Photo], outside: Sequence[Photo]) -> None:
    """Raises: InvalidInput: too few photos of the classes, or of no class, for the folds."""
    if min(len(photos), len(outside)) < LEAST:
        raise InvalidInput(
            f"scope: {number_of(len(outside), 'photo')} of no class and {len(photos)} of the classes "
            f"cannot be divided into {FOLDS} folds",
            f"give at least {LEAST} of each",
        )


def _some(photos: Sequence[Photo]) -> list[Photo]:
    """At most MOST_PHOTOS, evenly over the list, whose parts are sorted by label."""
    count = min(len(photos), MOST_PHOTOS)
    return [photos[index * len(photos) // count] for index in range(count)]


def _features(model: Classifier, photos: Sequence[Photo], recipe: Recipe, pictures: Pictures) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.train.seed)
        return torch.stack([_of_view(model, photos, recipe, pictures, view) for view in VIEWS])


@torch.no_grad()
def _of_view(model: Classifier, photos: Sequence[Photo], recipe: Recipe, pictures: Pictures, view: str) -> Tensor:
    """Features of one of VIEWS, shape (photos, channels)."""
    model.eval().to(DEVICE)
    loader = DataLoader(PhotoSet(photos, recipe, view == "augmented", pictures), BATCH)
    shown = track(loader, f"scope, photos {view}", console=err_console, transient=True)
    seen = (_grey(pixels) if view == "grey" else pixels for pixels, _ in shown)
    rows = [answer_for_scope(model, pixels.to(DEVICE)).features.cpu() for pixels in seen]
    model.cpu()
    return torch.cat(rows)


def _grey(photos: Tensor) -> Tensor:
    """The same uint8 photos in shades of grey."""
    return photos.float().mean(1, keepdim=True).round().to(torch.uint8).expand_as(photos)


def _fit(inner: Tensor, outer: Tensor) -> _Parts:
    """Fit both parts to features of the classes and of no class, each (N, channels)."""
    from sklearn.linear_model import LogisticRegression  # takes a second to import

    inner, outer = inner.double(), outer.double()
    x, y = torch.cat([inner, outer]).numpy() * SCALE, [1] * len(inner) + [0] * len(outer)
    head = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=2000).fit(x, y)
    mean = inner.mean(0)
    count = min(COMPONENTS, inner.shape[1] // 4, len(inner) // 4)
    basis = torch.linalg.svd(inner - mean, full_matrices=False).Vh[: max(1, count)].T
    weight = torch.from_numpy(head.coef_.T * SCALE)
    return _Parts(weight.float(), float(head.intercept_[0]), mean.float(), basis.float().contiguous())


def _out_of_fold(inner: _Side, outer: _Side) -> tuple[Tensor, Tensor]:
    """Scores of every unchanged photo, shape (photos, 2), by parts that saw no photo of its source."""
    folds = _folds(inner.sources, outer.sources)
    inside, outside = folds[: len(inner.sources)], folds[len(inner.sources) :]
    scores = [torch.zeros(side.features.shape[1], 2) for side in (inner, outer)]
    for fold in np.unique(folds):
        parts = _fit(
            inner.features[:, torch.from_numpy(inside != fold)].flatten(0, 1),
            outer.features[:, torch.from_numpy(outside != fold)].flatten(0, 1),
        )
        for rows, side, of in zip(scores, (inner, outer), (inside, outside), strict=True):
            held = torch.from_numpy(of == fold)
            rows[held] = parts.scores(side.features[0][held])
    return scores[0], scores[1]


def _folds(inner: Sequence[str], outer: Sequence[str]) -> npt.NDArray[np.int64]:
    """A fold for each photo, by source; with too few sources of a side by photo.

    Parts that are fitted on fewer photos are worse: with few folds the threshold would be too low for the parts that
    are fitted on all of them.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    sides = [0] * len(inner) + [1] * len(outer)
    sources: list[object] = [*inner, *outer]
    for side, names in enumerate((inner, outer)):
        if len(set(names)) < FOLDS:
            note(
                f"scope: {number_of(len(set(names)), 'source')} of {('the classes', 'no class')[side]}: "
                "folds are made by photo"
            )
            sources = [number if sides[number] == side else name for number, name in enumerate(sources)]
    result = np.zeros(len(sides), np.int64)
    fewest = min(len({name for name, of in zip(sources, sides, strict=True) if of == side}) for side in (0, 1))
    count = min(MOST_FOLDS, fewest, max(FOLDS, FOLDED // len(sides)))
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=0)
    for fold, (_, held) in enumerate(splitter.split(sources, sides, [str(name) for name in sources])):
        result[held] = fold
    return result


def _mixed(seen: Tensor, unseen: Tensor) -> _Mix:
    """Add the two parts and turn the sum into a probability (Platt, 1999).

    Args:
        seen, unseen: scores of photos of the classes and of the others that the parts did not see, shape (photos, 2).
    """
    from sklearn.linear_model import LogisticRegression

    factors = torch.tensor([1.0, DISTANCE_WEIGHT]) / seen.std(0).clamp(min=1e-6)
    sums = [(rows * factors).sum(1) for rows in (seen, unseen)]
    centre = float(sums[0].mean())
    x = torch.cat(sums)[:, None].double().numpy() - centre
    fitted = LogisticRegression(class_weight="balanced").fit(x, [1] * len(seen) + [0] * len(unseen))
    steepness = max(1e-3, float(fitted.coef_[0, 0]))  # a scope that tells nothing apart must not turn around
    return _Mix(factors * steepness, float(fitted.intercept_[0]) - steepness * centre)


def threshold_of(seen: Tensor) -> Tensor:
    """The probability that a share of KEPT exceeds.

    Harrell and Davis, "A new distribution-free quantile estimator" (1982): a weighted mean of the lowest ones. A single
    order statistic of so few photos would move with every change of the training photos, and in log-odds one photo that
    looks like no class at all would lower the mean without limit (docs/log.md).

    Args:
        seen: probabilities of photos of the classes that the parts did not see, shape (photos,).
    """
    from scipy.stats import beta

    count, share = len(seen), 1 - KEPT
    edges = beta.cdf(np.linspace(0, 1, count + 1), (count + 1) * share, (count + 1) * KEPT)
    return (seen.double().sort().values @ torch.from_numpy(np.diff(edges))).float()


def _scope(parts: _Parts, mix: _Mix, threshold: Tensor) -> Scope:
    scope = Scope(*parts.basis.shape)
    scope.weight.copy_(parts.weight * mix.factors[0])
    scope.mean.copy_(parts.mean)
    scope.basis.copy_(parts.basis)
    scope.scale.fill_(mix.factors[1])
    scope.bias.fill_(mix.bias + float(mix.factors[0]) * parts.intercept)
    scope.threshold.fill_(threshold)
    return scope
