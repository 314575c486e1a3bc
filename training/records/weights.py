"""A run's weights: model.safetensors in its folder."""

from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError

from common.console import note
from common.errors import InvalidInput, NotFound
from common.words import number_of
from config.recipe import Recipe
from training.models.classifier import Classifier
from training.models.registry import build
from training.models.reshape import reshape, shapes_in
from training.models.scope import LEVELS, scope_of
from training.records.run import RunRecord, read_recipe_of, read_record

WEIGHTS = "model.safetensors"


def save_model(folder: Path, model: Classifier, name: str = WEIGHTS) -> None:
    """Write a model's weights into a folder.

    Raises:
        OSError: they cannot be written.
    """
    try:
        safetensors.torch.save_model(model, str(folder / name))
    except SafetensorError as error:
        raise OSError(0, str(error)) from error


def load_model(folder: Path) -> tuple[Recipe, Classifier, RunRecord]:
    """Read a run: its recipe, its model in eval with the shapes that were saved, its record.

    Raises:
        UserError: it is not a complete run, or its weights are damaged.
    """
    recipe, record = read_recipe_of(folder), read_record(folder)
    return recipe, load_weights(folder / WEIGHTS, recipe), record


def load_weights(path: Path, recipe: Recipe) -> Classifier:
    """Build the recipe's model and load a file of weights into it; in eval.

    Raises:
        NotFound: there is no such file, or it is of another network.
        InvalidInput: it is damaged, or has another number of labels.
    """
    model = build(recipe.backbone.model_copy(update={"weights": "none"}), len(recipe.labels), recipe.input)
    try:
        shapes = shapes_in(path)
        reshape(model, shapes)
        model.scope = scope_of(shapes)
        safetensors.torch.load_model(model, str(path))
        outputs = model.network.get_parameter(f"{model.head}.weight").shape[0]
    except SafetensorError as error:
        raise _damaged(path, error) from error
    except (OSError, RuntimeError) as error:
        raise NotFound(f"{path.parent} is not a run with a model: {error}") from error
    if outputs != len(recipe.labels):
        raise InvalidInput(
            f"{path} has {number_of(outputs, 'output')}, but its recipe has {number_of(len(recipe.labels), 'label')}",
            "train it again",
        )
    model.eval()
    if model.scope is not None and len(model.scope.mean) != _seen_by_scope(model, recipe):
        note(
            f"{path.parent}: in_scope was fitted by an earlier version and is left out: fit it again with "
            "training export --outside"
        )
        model.scope = None
    return model


@torch.no_grad()
def _seen_by_scope(model: Classifier, recipe: Recipe) -> int:
    """The number of features that `features_of` makes."""
    with model.watched() as maps:
        model(torch.zeros(1, *recipe.input.shape, dtype=torch.uint8))
    last = model.network.get_parameter(f"{model.head}.weight").shape[1]
    return last + LEVELS + sum(2 * map_.shape[1] for map_ in maps)


def saved_shapes(folder: Path) -> dict[str, list[int]]:
    """The shapes of a run's tensors; of a bundle, those that differ from the recipe's network.

    Raises:
        InvalidInput: its weights are damaged.
    """
    path = folder / WEIGHTS
    if not path.exists():
        exported = read_record(folder).exported
        shapes = exported.shapes if exported else {}
        return {name: [int(size) for size in shape.split("x")] for name, shape in shapes.items()}
    try:
        return shapes_in(path)
    except (OSError, SafetensorError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> InvalidInput:
    return InvalidInput(f"{path} is damaged ({error})", "train it again")
