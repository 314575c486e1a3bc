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
from training.recorder import Recorder

console = Console(stderr=True)
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def optimise(
    model: Classifier,
    training: Sequence[Photo],
    validation: Sequence[Photo],
    recipe: Recipe,
    settings: Fit,
    teacher: Classifier | None = None,
    recorder: Recorder | None = None,
) -> list[dict[str, Any]]:
    """Train a model in place; on return it holds the epoch that the settings keep (`best` or `last`), in eval.

    Runs on a GPU where there is one; the model comes back to the CPU.

    Args:
        recorder: keeps a checkpoint of every epoch, and goes on from the one that it holds.

    Returns:
        for each epoch: learning rate, losses, accuracies, seconds.
    """
    state = _State(model, training, recipe, settings, recorder)
    if teacher is not None:
        teacher.to(DEVICE)
    while not state.finished:
        started = time.perf_counter()
        loss, accuracy = _train_epoch(state, teacher)
        with autocast(recipe):
            found = score(predict(model, validation, recipe), validation, recipe.labels)
        state.close_epoch(loss, accuracy, found, time.perf_counter() - started)
    model.load_state_dict(state.kept or model.state_dict())
    model.cpu().eval()
    if recorder:
        recorder.finish(state.history)
    return state.history


class _State:
    """All that an epoch changes: what a checkpoint must hold so that going on equals never having stopped."""

    def __init__(
        self,
        model: Classifier,
        training: Sequence[Photo],
        recipe: Recipe,
        settings: Fit,
        recorder: Recorder | None,
    ) -> None:
        torch.manual_seed(recipe.train.seed)
        self.model, self.recipe, self.settings, self.recorder = model.to(DEVICE), recipe, settings, recorder
        self.loader = batches(
            training, recipe, settings.batch_size, True, recipe.train.seed, settings.sampling == "balanced"
        )
        self.optimizer = _optimizer(model, settings)
        self.schedule = _schedule(self.optimizer, settings, len(self.loader))
        weights = _weights(training, len(recipe.labels)).to(DEVICE) if settings.class_weights else None
        self.criterion = nn.CrossEntropyLoss(weights)
        self.history: list[dict[str, Any]] = []
        self.kept: dict[str, Tensor] = {}
        if recorder and (checkpoint := recorder.load()):
            self._restore(checkpoint)

    @property
    def finished(self) -> bool:
        """All epochs done, or none of the last few lowered the validation loss."""
        losses = [entry["validation_loss"] for entry in self.history]
        patience = self.settings.patience
        stalled = patience is not None and len(losses) - 1 - _lowest(losses) >= patience
        return len(losses) >= self.settings.epochs or stalled

    def close_epoch(self, loss: float, accuracy: float, found: Scores, seconds: float) -> None:
        entry = {
            "epoch": len(self.history) + 1,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "training_loss": round(loss, 5),
            "training_accuracy": round(accuracy, 5),
            "validation_loss": round(found.loss, 5),
            "validation_mean_accuracy": round(found.mean_accuracy, 5),
            "seconds": round(seconds, 2),
        }
        self.history.append(entry)
        if self.settings.keep == "best" and max(self.history, key=_rank) is entry:
            self.kept = copy.deepcopy(self.model.state_dict())
        console.print(
            f"epoch {entry['epoch']}/{self.settings.epochs}: training loss {loss:.4f}, accuracy {accuracy:.1%}; "
            f"validation loss {found.loss:.4f}, mean of classes {found.mean_accuracy:.1%}; {seconds:.1f} s"
        )
        if self.recorder:
            self.recorder.save(self._checkpoint())
            self.recorder.epoch(entry)

    def _checkpoint(self) -> dict[str, Any]:
        return {
            "history": self.history,
            "model": self.model.state_dict(),
            "kept": self.kept,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "random": torch.get_rng_state(),
            "order": self.loader.generator.get_state(),
        }

    def _restore(self, checkpoint: dict[str, Any]) -> None:
        self.history, self.kept = checkpoint["history"], checkpoint["kept"]
        self.model.load_state_dict(checkpoint["model"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        self.schedule.load_state_dict(checkpoint["schedule"])
        torch.set_rng_state(checkpoint["random"])
        self.loader.generator.set_state(checkpoint["order"])
        console.print(f"goes on after epoch {len(self.history)} of {self.settings.epochs}")


def _rank(entry: dict[str, Any]) -> tuple[float, float]:
    return entry["validation_mean_accuracy"], -entry["validation_loss"]


def _lowest(losses: Sequence[float]) -> int:
    return min(range(len(losses)), key=losses.__getitem__, default=-1)


def _train_epoch(state: _State, teacher: Classifier | None) -> tuple[float, float]:
    """One pass over the training photos; its mean loss and accuracy, as they were while it went on."""
    model, total, hits, count = state.model.train(), 0.0, 0, 0
    title = f"epoch {len(state.history) + 1}/{state.settings.epochs}"
    for photos, labels in track(state.loader, title, console=console, transient=True):
        photos, labels = photos.to(DEVICE), labels.to(DEVICE)
        state.optimizer.zero_grad()
        with autocast(state.recipe):
            logits = model(photos)
            loss = _loss(state.criterion, logits.float(), labels, photos, teacher, state.settings.distill)
        loss.backward()
        state.optimizer.step()
        state.schedule.step()
        total += float(loss.detach()) * len(labels)
        hits += int((logits.argmax(1) == labels).sum())
        count += len(labels)
    return total / count, hits / count


@torch.no_grad()
def predict(model: Classifier, photos: Sequence[Photo], recipe: Recipe) -> Tensor:
    """Logits, shape (photos, classes), in order, in f32 as they will be served (unless under `autocast`)."""
    model.eval()
    place = model.temperature.device
    return torch.cat([model(pixels.to(place)).float().cpu() for pixels, _ in batches(photos, recipe, 8)])


@torch.no_grad()
def predict_views(model: Classifier, photos: Sequence[Photo], recipe: Recipe, views: int) -> tuple[Tensor, Tensor]:
    """Logits of so many augmented views of each photo, and the views' labels."""
    model.eval()
    torch.manual_seed(recipe.train.seed)
    loader = batches(list(photos) * views, recipe, 8, augment=True)
    pairs = [(model(pixels), labels) for pixels, labels in loader]
    return torch.cat([logits for logits, _ in pairs]), torch.cat([labels for _, labels in pairs])


def autocast(recipe: Recipe) -> torch.autocast:
    """bf16 where the recipe and the processor agree on it."""
    return torch.autocast(DEVICE.type, torch.bfloat16, enabled=uses_bf16(recipe))


def uses_bf16(recipe: Recipe) -> bool:
    """Whether training multiplies in bf16 (always accumulating in f32)."""
    if recipe.train.precision != "auto":
        return recipe.train.precision == "bf16"
    if DEVICE.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
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
