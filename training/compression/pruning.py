"""Pruning by the method that the recipe names."""

from collections.abc import Callable, Sequence

from config.recipe import Recipe
from dataset.photos import Photo
from training.compression.structured import prune_channels
from training.compression.unstructured import prune_unstructured
from training.fitting.checkpoints import Recorder
from training.models.classifier import Classifier
from training.records.run import PrunedChannels, PrunedWeights

Method = Callable[
    [Classifier, Recipe, Sequence[Photo], Sequence[Photo], Recorder | None],
    tuple[Classifier, PrunedWeights | PrunedChannels],
]
METHODS: dict[str, Method] = {"unstructured": prune_unstructured, "channel": prune_channels}


def prune_model(
    parent: Classifier,
    recipe: Recipe,
    training: Sequence[Photo],
    validation: Sequence[Photo],
    recorder: Recorder | None = None,
) -> tuple[Classifier, PrunedWeights | PrunedChannels]:
    """A pruned and fine-tuned copy of a model, and its figures before and after."""
    return METHODS[recipe.prune.method](parent, recipe, training, validation, recorder)
