"""Run a PyTorch model on photos; precision, devices and batch norms of training."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from torch.nn.utils.prune import is_pruned

from config.recipe import Recipe
from dataset.photos import Photo
from training.data.cache import Pictures
from training.data.loader import batches
from training.models.classifier import Classifier
from training.models.scope import COLOUR_STEP, colours_of, features_of

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BATCH = 8


@dataclass(frozen=True)
class Answer:
    """A network's output: logits (N, classes), and features (N, channels), the input of its last layer."""

    logits: Tensor
    features: Tensor


def answer(model: nn.Module, head: str, pixels: Tensor, run: nn.Module | None = None) -> Answer:
    """Logits and features of uint8 photos (N, channels, H, W), in f32; `network.HEAD` is the model's last layer.

    Args:
        run: what is called; it contains the model.
    """
    seen: list[Tensor] = []
    hook = model.get_submodule(f"network.{head}").register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        logits = (run or model)(pixels)
    finally:
        hook.remove()
    return Answer(logits.float(), seen[0].float())


def answer_for_scope(model: Classifier, pixels: Tensor) -> Answer:
    """As `answer`, with the features that the model's scope sees."""
    with model.watched() as maps:
        output = answer(model, model.head, pixels)
    return Answer(output.logits, features_of(output.features, maps, colours_of(pixels, COLOUR_STEP * model.pool)))


@torch.no_grad()
def predict(model: nn.Module, photos: Sequence[Photo], recipe: Recipe, pictures: Pictures | None = None) -> Tensor:
    """Logits, shape (photos, classes), in order, in f32 as they will be served (unless under `autocast`).

    Args:
        pictures: a cache of decoded photos.
    """
    model.eval()
    place = next(model.parameters()).device
    loader = batches(photos, recipe, BATCH, pictures=pictures)
    return torch.cat([model(pixels.to(place)).float().cpu() for pixels, _ in loader])


@torch.no_grad()
def predict_views(model: Classifier, photos: Sequence[Photo], recipe: Recipe, views: int) -> tuple[Tensor, Tensor]:
    """Logits of `views` augmented views of each photo, shape (views x photos, classes), and the views' labels."""
    model.eval()
    torch.manual_seed(recipe.train.seed)
    loader = batches(list(photos) * views, recipe, BATCH, augment=True, pictures=Pictures(recipe))
    pairs = [(model(pixels), labels) for pixels, labels in loader]
    return torch.cat([logits for logits, _ in pairs]), torch.cat([labels for _, labels in pairs])


def folded(model: Classifier) -> nn.Module:
    """A copy for evaluation only, with each batch norm folded into the convolution before it, channels-last.

    Its logits equal the model's except for rounding. Returns the model itself if folding is impossible: masked weights
    are not plain parameters, and timm's batch norms contain an activation.
    """
    model.eval()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    if is_pruned(model) or any(type(norm) is not nn.BatchNorm2d for norm in norms):
        return model
    return fuse(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def freeze_norms(model: nn.Module) -> None:
    """Make batch norms use their stored statistics instead of a small batch's; their weights still train."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


@torch.no_grad()
def adapt_norms(model: nn.Module, views: Iterable[Tensor]) -> None:
    """Replace the statistics of batch norms by the mean over batches, each uint8 (N, channels, H, W)."""
    norms = [module for module in model.eval().modules() if isinstance(module, nn.BatchNorm2d)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # None: PyTorch averages over all batches
        norm.train()
    for pixels in views:
        model(pixels)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
        norm.eval()


def autocast(recipe: Recipe) -> torch.autocast:
    """Mixed precision with bf16, if the recipe and the processor allow it."""
    return torch.autocast(DEVICE.type, torch.bfloat16, enabled=uses_bf16(recipe))


def uses_bf16(recipe: Recipe) -> bool:
    """Whether training multiplies in bf16 (always accumulating in f32)."""
    if recipe.train.precision != "auto":
        return recipe.train.precision == "bf16"
    if DEVICE.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
