"""One optimisation of one model: used by training, by pruning's fine-tune and by every fold."""

import copy
import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from config.recipe import Fit, Recipe
from dataset.photos import Photo
from training.backbones import Classifier
from training.data import batches
from training.metrics import Scores, score

console = Console(stderr=True)


def optimise(
    model: Classifier,
    training: Sequence[Photo],
    validation: Sequence[Photo],
    recipe: Recipe,
    settings: Fit,
    teacher: Classifier | None = None,
) -> list[dict[str, Any]]:
    """Train a model in place; on return it holds the epoch that the settings keep (`best` or `last`), in eval.

    Returns:
        for each epoch: learning rate, training loss, validation scores, seconds.
    """
    torch.manual_seed(recipe.train.seed)
    optimizer = _optimizer(model, settings)
    loader = batches(training, recipe, settings.batch_size, augment=True, seed=recipe.train.seed)
    schedule = _schedule(optimizer, settings, len(loader))
    criterion = nn.CrossEntropyLoss(_weights(training, len(recipe.labels)) if settings.class_weights else None)
    history: list[dict[str, Any]] = []
    best: tuple[float, float] | None = None
    kept: dict[str, Tensor] = {}
    for epoch in range(1, settings.epochs + 1):
        started, total = time.perf_counter(), 0.0
        model.train()
        for photos, labels in track(loader, f"epoch {epoch}/{settings.epochs}", console=console, transient=True):
            optimizer.zero_grad()
            with autocast(recipe):
                logits = model(photos)
                loss = _loss(criterion, logits.float(), labels, photos, teacher, settings.distill)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(labels)
        found = score(predict(model, validation, recipe), validation, recipe.labels)
        history.append(_record(epoch, optimizer, total / len(training), found, time.perf_counter() - started))
        rank = (found.mean_accuracy, -found.loss)
        if settings.keep == "best" and (best is None or rank > best):
            best, kept = rank, copy.deepcopy(model.state_dict())
    if kept:
        model.load_state_dict(kept)
    model.eval()
    return history


@torch.no_grad()
def predict(model: Classifier, photos: Sequence[Photo], recipe: Recipe) -> Tensor:
    """Logits, shape (photos, classes), in order, in f32 as they will be served."""
    model.eval()
    return torch.cat([model(pixels) for pixels, _ in batches(photos, recipe, 8)])


@torch.no_grad()
def predict_views(model: Classifier, photos: Sequence[Photo], recipe: Recipe, views: int) -> tuple[Tensor, Tensor]:
    """Logits of so many augmented views of each photo, and the views' labels."""
    model.eval()
    torch.manual_seed(recipe.train.seed)
    loader = batches(list(photos) * views, recipe, 8, augment=True)
    pairs = [(model(pixels), labels) for pixels, labels in loader]
    return torch.cat([logits for logits, _ in pairs]), torch.cat([labels for _, labels in pairs])


def autocast(recipe: Recipe) -> torch.autocast:
    """bf16 where the recipe and the CPU agree on it."""
    return torch.autocast("cpu", torch.bfloat16, enabled=uses_bf16(recipe))


def uses_bf16(recipe: Recipe) -> bool:
    """Whether training multiplies in bf16 (always accumulating in f32)."""
    if recipe.train.precision != "auto":
        return recipe.train.precision == "bf16"
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _loss(
    criterion: nn.Module, logits: Tensor, labels: Tensor, photos: Tensor, teacher: Classifier | None, share: float
) -> Tensor:
    hard: Tensor = criterion(logits, labels)
    if teacher is None or not share:
        return hard
    with torch.no_grad():
        wanted = teacher(photos).float().softmax(1)
    return (1 - share) * hard + share * nn.functional.cross_entropy(logits, wanted)


def _optimizer(model: Classifier, settings: Fit) -> torch.optim.Optimizer:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(trained, settings.learning_rate, weight_decay=settings.weight_decay)
    return torch.optim.SGD(trained, settings.learning_rate, settings.momentum, weight_decay=settings.weight_decay)


def _schedule(optimizer: torch.optim.Optimizer, settings: Fit, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """Stepped once a batch; `step` falls at whole epochs, as the document's StepLR does."""

    def stepped(batch: int) -> float:
        return float(settings.gamma ** (batch // max(1, steps) // settings.step_size))

    def cosine(batch: int) -> float:
        return 0.5 * (1 + math.cos(math.pi * batch / max(1, steps * settings.epochs)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, cosine if settings.schedule == "cosine" else stepped)


def _weights(photos: Sequence[Photo], classes: int) -> Tensor:
    counts = torch.bincount(torch.tensor([photo.label for photo in photos]), minlength=classes).clamp(min=1)
    return len(photos) / (classes * counts)


def _record(epoch: int, optimizer: torch.optim.Optimizer, loss: float, found: Scores, seconds: float) -> dict[str, Any]:
    entry = {
        "epoch": epoch,
        "learning_rate": optimizer.param_groups[0]["lr"],
        "training_loss": round(loss, 5),
        "validation_loss": round(found.loss, 5),
        "validation_mean_accuracy": round(found.mean_accuracy, 5),
        "seconds": round(seconds, 2),
    }
    console.print(
        f"epoch {epoch}: training loss {loss:.4f}, validation loss {found.loss:.4f}, "
        f"mean of classes {found.mean_accuracy:.1%}, {seconds:.1f} s"
    )
    return entry
