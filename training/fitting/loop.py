"""One optimisation of one model: for training, for the fine-tune after pruning, and for every fold."""

import copy
import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from rich.progress import track
from torch import Tensor, nn

from common.console import err_console, note
from common.errors import CheckFailed, InvalidInput
from config.recipe import Fit, Recipe
from dataset.photos import UNLABELLED, Photo
from training.evaluation.inference import DEVICE, Answer, freeze_norms
from training.evaluation.metrics import Scores, score
from training.fitting import parallel
from training.fitting.batches import feed_for
from training.fitting.checkpoints import Recorder
from training.fitting.progress import Progress, progress, sample_held_out
from training.models.classifier import Classifier


def optimise(
    model: Classifier,
    training: Sequence[Photo],
    validation: Sequence[Photo],
    recipe: Recipe,
    settings: Fit,
    teacher: Classifier | None = None,
    recorder: Recorder | None = None,
) -> list[dict[str, Any]]:
    """Train a model in place; on return it has the weights that `settings.keep` chooses (`best` or `last`), in eval.

    Uses a GPU if there is one, and channels-last weights; afterwards the model is contiguous and on the CPU. If only
    the last layer trains, the other layers run once, not in every epoch (training/fitting/batches.py).

    Args:
        training: photos; those without a label (-1) only learn from the teacher.
        teacher: gives `settings.distill` of the loss, and the features to match (`settings.match`).
        recorder: keeps a checkpoint of every epoch, and resumes from the last one.

    Returns:
        for each epoch: learning rate, losses, accuracies, seconds.

    Raises:
        InvalidInput: a held-out photo cannot be read (before the first epoch), or the teacher's features are to be
            matched and the model has another number of them.
        CheckFailed: the loss is infinite or not a number.
    """
    if teacher is not None:
        _move(teacher.eval(), DEVICE, torch.channels_last)
    _move(model, DEVICE, torch.channels_last)
    state = _State(model, training, validation, recipe, settings, teacher, recorder)
    while not state.finished:
        started = time.perf_counter()
        loss, accuracy, reports = _train_epoch(state)
        scores = state.evaluate(state.step + len(state.feed))
        state.close_epoch(loss, accuracy, scores, time.perf_counter() - started, reports)
    if recorder and state.history:
        recorder.write_portable(len(state.history) - 1, model.network, state.optimizer)
    model.load_state_dict(state.kept or model.state_dict())
    for moved in filter(None, (model.eval(), teacher)):
        _move(moved, torch.device("cpu"), torch.contiguous_format)
    if recorder:
        recorder.finish(state.history)
    return state.history


class _State:
    """Everything that an epoch changes, so everything that a checkpoint must contain for an exact resume."""

    def __init__(
        self,
        model: Classifier,
        training: Sequence[Photo],
        validation: Sequence[Photo],
        recipe: Recipe,
        settings: Fit,
        teacher: Classifier | None,
        recorder: Recorder | None,
    ) -> None:
        if teacher is not None and settings.match:
            _refuse_other_features(model, teacher)
        torch.manual_seed(recipe.train.seed)
        self.model, self.settings, self.recorder = model, settings, recorder
        self.validation, self.labels, self.seed = validation, recipe.labels, recipe.train.seed
        self.feed = feed_for(model, training, validation, recipe, settings, teacher)
        self.optimizer = _optimizer(model, settings)
        self.schedule = _schedule(self.optimizer, settings, len(self.feed))
        weights = _weights(training, len(recipe.labels)).to(DEVICE) if settings.class_weights else None
        self.criterion = nn.CrossEntropyLoss(weights, ignore_index=UNLABELLED)
        self.history: list[dict[str, Any]] = []
        self.kept: dict[str, Tensor] = {}
        if recorder and (checkpoint := recorder.load()):
            self._restore(checkpoint)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the last `patience` epochs did not lower the validation loss."""
        losses = [entry["validation_loss"] for entry in self.history]
        patience = self.settings.patience
        stalled = patience is not None and len(losses) - 1 - _lowest(losses) >= patience
        return len(losses) >= self.settings.rounds or stalled

    def evaluate(self, step: int) -> Scores:
        """Scores on the held-out photos, or on some batches of them that are drawn with the step as seed."""
        chosen = sample_held_out(len(self.validation), self.settings, self.seed + step)
        photos = self.validation if chosen is None else [self.validation[index] for index in chosen]
        return score(self.feed.validate(chosen), photos, self.labels)

    @property
    def step(self) -> int:
        """Batches of the finished epochs or rounds."""
        return len(self.history) * len(self.feed)

    def backward(self, loss: Tensor, labels: Tensor) -> None:
        """Compute the gradients of a batch; in several processes, of the whole batch (training/fitting/parallel.py)."""
        factor = parallel.share(labels, self.criterion.weight, UNLABELLED)
        (loss if factor == 1 else loss * factor).backward()

    def close_epoch(
        self, loss: float, accuracy: float, scores: Scores, seconds: float, reports: list[dict[str, float]]
    ) -> None:
        entry: dict[str, Any] = {
            "epoch": len(self.history) + 1,
            **({"step": self.step + len(self.feed)} if self.settings.max_steps else {}),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "training_loss": round(loss, 5),
            "training_accuracy": round(accuracy, 5),
            "validation_loss": round(scores.loss, 5),
            "validation_mean_accuracy": round(scores.mean_accuracy, 5),
            "seconds": round(seconds, 2),
        }
        if reports:
            entry["running_loss"] = reports
        self.history.append(entry)
        if self.settings.keep == "best" and max(self.history, key=_rank) is entry:
            self.kept = copy.deepcopy(self.model.state_dict())
        note(
            f"{progress(self.settings, len(self.history))}: training loss {loss:.4f}, accuracy {accuracy:.1%}; "
            f"validation loss {scores.loss:.4f}, balanced accuracy {scores.mean_accuracy:.1%}; {seconds:.1f} s"
        )
        if self.recorder:
            best = self.settings.keep == "last" or max(self.history, key=_rank) is entry
            if best and self.settings.keep_checkpoints:
                self.recorder.keep(self.model, self.step, self.settings.keep_checkpoints)
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
            "order": self.feed.order.get_state(),
        }

    def _restore(self, checkpoint: dict[str, Any]) -> None:
        self.history, self.kept = checkpoint["history"], checkpoint["kept"]
        self.model.load_state_dict(checkpoint["model"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        self.schedule.load_state_dict(checkpoint["schedule"])
        torch.set_rng_state(checkpoint["random"])
        self.feed.order.set_state(checkpoint["order"])
        note(f"resuming after {progress(self.settings, len(self.history))}")


def _refuse_other_features(model: Classifier, teacher: Classifier) -> None:
    ours, theirs = (network.network.get_submodule(network.head).in_features for network in (model, teacher))
    if ours != theirs:
        raise InvalidInput(
            f"match compares the {ours} features of this model with the teacher's {theirs}",
            "give a teacher with the same backbone, or set match to 0 and distill to 1",
        )


def _rank(entry: dict[str, Any]) -> tuple[float, float]:
    return entry["validation_mean_accuracy"], -entry["validation_loss"]


def _lowest(losses: Sequence[float]) -> int:
    return min(range(len(losses)), key=losses.__getitem__, default=-1)


def _train_epoch(state: _State) -> tuple[float, float, list[dict[str, float]]]:
    """One pass over the training photos; returns mean loss and accuracy during the pass, and the printed losses."""
    total, hits, count, labelled, epoch = 0.0, 0.0, 0.0, 0.0, len(state.history)
    title = progress(state.settings, epoch + 1)
    parallel.reseed(state.seed, epoch)
    steps = track(state.feed.epoch(epoch), title, len(state.feed), console=err_console, transient=True)
    shown = Progress(state.settings, state.recorder, state.evaluate, epoch)
    for step, (inputs, labels, target) in enumerate(steps, state.step + 1):
        state.model.train()
        if state.settings.norms == "frozen":
            freeze_norms(state.model)
        state.optimizer.zero_grad()
        output = state.feed.answer(inputs)
        loss = _loss(state.criterion, output, labels, target, state.settings)
        state.backward(loss, labels)
        state.optimizer.step()
        state.schedule.step()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise CheckFailed(
                f"the training diverged: the loss of step {step}, in {title}, is {value}",
                f"lower the learning rate ({state.optimizer.param_groups[0]['lr']:g} in this step)",
            )
        total += value * len(labels)
        hits += int((output.logits.argmax(1) == labels).sum())
        labelled += int((labels != UNLABELLED).sum())
        count += len(labels)
        shown.step(step, value, state.optimizer.param_groups[0]["lr"])
    total, hits, labelled, count = parallel.summed([total, hits, labelled, count])
    return total / count, hits / max(1, labelled), shown.reports


def _loss(criterion: nn.Module, output: Answer, labels: Tensor, target: Answer | None, settings: Fit) -> Tensor:
    """Cross-entropy with the labels, averaged over labelled photos; with a teacher, also with its probabilities.

    `match` adds the mean squared difference between the features, in units of the teacher's variance.

    Args:
        output, target: what the model and the teacher give for the same photos.
    """
    labelled = bool((labels != UNLABELLED).any())
    hard: Tensor = criterion(output.logits, labels) if labelled else output.logits.sum() * 0  # an empty mean is NaN
    if target is None:
        return hard
    soft = nn.functional.cross_entropy(output.logits, target.logits.softmax(1))
    loss = (1 - settings.distill) * hard + settings.distill * soft
    if not settings.match:
        return loss
    return loss + settings.match * nn.functional.mse_loss(output.features, target.features) / target.features.var()


def _move(model: Classifier, place: torch.device, layout: torch.memory_format) -> None:
    """Move a model to a device and memory layout: channels-last is faster on CPUs, other code expects contiguous."""
    model.to(place, memory_format=layout)  # type: ignore[call-overload]


def _optimizer(model: Classifier, settings: Fit) -> torch.optim.Optimizer:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if settings.optimizer == "adam":
        return torch.optim.Adam(trained, settings.learning_rate, weight_decay=settings.weight_decay)
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(trained, settings.learning_rate, weight_decay=settings.weight_decay)
    return torch.optim.SGD(trained, settings.learning_rate, settings.momentum, weight_decay=settings.weight_decay)


def _schedule(optimizer: torch.optim.Optimizer, settings: Fit, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """Stepped once per batch; `step` changes at whole epochs, like the StepLR of the classroom document."""

    def stepped(batch: int) -> float:
        return float(settings.gamma ** (batch // max(1, steps) // settings.step_size))

    def cosine(batch: int) -> float:
        return 0.5 * (1 + math.cos(math.pi * batch / max(1, steps * settings.rounds)))

    def decayed(batch: int) -> float:
        return float(settings.decay ** (batch // settings.every))

    factors = {"step": stepped, "cosine": cosine, "decay": decayed}
    return torch.optim.lr_scheduler.LambdaLR(optimizer, factors[settings.schedule])


def _weights(photos: Sequence[Photo], classes: int) -> Tensor:
    labels = [photo.label for photo in photos if photo.label != UNLABELLED]
    counts = torch.bincount(torch.tensor(labels, dtype=torch.long), minlength=classes).clamp(min=1)
    return len(labels) / (classes * counts)
