"""The scope of the graph that will be served: the model's, moved as far as the graph's features have moved.

int8 adds a little noise to the features, all of which counts as distance from the training photos. Without a correction
more photos of the classes would be out of scope than the threshold allows.
"""

import copy
import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch
from torch import Tensor

from common.console import note
from common.errors import CheckFailed
from config.recipe import Recipe
from dataset.photos import Photo
from training.bundles.scope_output import with_scope
from training.data.cache import Pictures
from training.data.loader import naming
from training.evaluation.inference import answer_for_scope
from training.evaluation.predictor import served
from training.models.classifier import Classifier
from training.models.scope import Scope
from training.records.run import GRAPH

WORTH_TELLING = 0.05
"""Log-odds."""


def aligned(model: Classifier, graph: onnx.ModelProto, recipe: Recipe, photos: Sequence[Photo]) -> onnx.ModelProto:
    """The graph with the output `in_scope`, which on these photos has the model's median log-odds.

    Raises:
        CheckFailed: the graph's output is not a number.
    """
    assert model.scope is not None
    scope = copy.deepcopy(model.scope)
    pictures = Pictures(recipe, megabytes=0)
    expected = torch.cat([_of_model(model, scope, photo, pictures) for photo in photos])
    moved = float((expected - _of_graph(with_scope(graph, scope, model.pool), recipe, photos, pictures)).median())
    if not abs(moved) < float("inf"):
        raise CheckFailed("the graph's in_scope is not a number", "export it with export.int8 never")
    if abs(moved) > WORTH_TELLING:
        note(f"scope: the graph's log-odds are moved by {moved:+.2f}, so that int8 costs no photo of a class")
    scope.bias += moved
    return with_scope(graph, scope, model.pool)


@torch.no_grad()
def _of_model(model: Classifier, scope: Scope, photo: Photo, pictures: Pictures) -> Tensor:
    with naming(photo.path):
        pixels = torch.from_numpy(pictures.pixels(photo.path))[None]
    return scope.logit(answer_for_scope(model.eval(), pixels).features)[0]


def _of_graph(graph: onnx.ModelProto, recipe: Recipe, photos: Sequence[Photo], pictures: Pictures) -> Tensor:
    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / GRAPH
        path.write_bytes(graph.SerializeToString())
        infer = served(path, recipe)
        rows = [infer.answer(pictures.pixels(photo.path)).in_scope for photo in photos]
    return torch.tensor(rows, dtype=torch.float64).logit(1e-7)
