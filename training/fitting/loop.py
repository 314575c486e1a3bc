"""One optimisation of one model: used by training, by pruning's fine-tune and by every fold."""

import copy
import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from rich.progress import track
from torch import Tensor, nn

from common.console import err_console
from common.errors import UserError
from config.recipe import Fit, Recipe
from dataset.photos import UNLABELLED, Photo
from training.evaluation.inference import DEVICE, Answer, freeze_norms
from training.evaluation.metrics import Scores, score
from training.fitting.batches import feed_for
from training.fitting.checkpoints import Recorder
from training.fitting.progress import Watch, drawn_photos, progress
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
    """Train a model in place; on return it holds the epoch that the settings keep (`best` or `last`), in eval.

    Runs on a GPU where there is one, with channels-last weights; the model comes back to the CPU as it was. Where
    only the last layer trains, the others are run once, not in every epoch (training/fitting/batches.py).

    Args:
        training: photos; those without a label (-1) are learnt from the teacher alone.
        teacher: gives `settings.distill` of the loss, and the features to match (`settings.match`).
        recorder: keeps a checkpoint of every epoch, and goes on from the one that it holds.

    Returns:
        for each epoch: learning rate, losses, accuracies, seconds.

    Raises:
        UserError: the teacher's features are to be matched, and the model has another number of them.
    """
    if teacher is not None:
        _move(teacher.eval(), DEVICE, torch.channels_last)
    _move(model, DEVICE, torch.channels_last)
    state = _State(model, training, validation, recipe, settings, teacher, recorder)
    while not state.finished:
        started = time.perf_counter()
        loss, accuracy, reports = _train_epoch(state)
        found = state.evaluate(state.step + len(state.feed))
        state.close_epoch(loss, accuracy, found, time.perf_counter() - started, reports)
    if recorder and state.history:
        recorder.leave(len(state.history) - 1, model.network, state.optimizer)
    model.load_state_dict(state.kept or model.state_dict())
    for moved in filter(None, (model.eval(), teacher)):
        _move(moved, torch.device("cpu"), torch.contiguous_format)
    if recorder:
        recorder.finish(state.history)
    return state.history


class _State:
    """All that an epoch changes: what a checkpoint must hold so that going on equals never having stopped."""

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
        """All epochs done, or none of the last few lowered the validation loss."""
        losses = [entry["validation_loss"] for entry in self.history]
        patience = self.settings.patience
        stalled = patience is not None and len(losses) - 1 - _lowest(losses) >= patience
        return len(losses) >= self.settings.rounds or stalled

    def evaluate(self, step: int) -> Scores:
        """The model as it is on the held-out photos, or on so many batches of them, drawn by the step."""
        chosen = drawn_photos(len(self.validation), self.settings, self.seed + step)
        photos = self.validation if chosen is None else [self.validation[index] for index in chosen]
        return score(self.feed.validate(chosen), photos, self.labels)

    @property
    def step(self) -> int:
        """Batches of the epochs, or rounds, that are closed."""
        return len(self.history) * len(self.feed)

    def close_epoch(
        self, loss: float, accuracy: float, found: Scores, seconds: float, reports: list[dict[str, float]]
    ) -> None:
        entry: dict[str, Any] = {
            "epoch": len(self.history) + 1,
            **({"step": self.step + len(self.feed)} if self.settings.max_steps else {}),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "training_loss": round(loss, 5),
            "training_accuracy": round(accuracy, 5),
            "validation_loss": round(found.loss, 5),
            "validation_mean_accuracy": round(found.mean_accuracy, 5),
            "seconds": round(seconds, 2),
        }
        if reports:
            entry["running_loss"] = reports
        self.history.append(entry)
        if self.settings.keep == "best" and max(self.history, key=_rank) is entry:
            self.kept = copy.deepcopy(self.model.state_dict())
        err_console.print(
            f"{progress(self.settings, len(self.history))}: training loss {loss:.4f}, accuracy {accuracy:.1%}; "
            f"validation loss {found.loss:.4f}, mean of classes {found.mean_accuracy:.1%}; {seconds:.1f} s"
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
        err_console.print(f"goes on after {progress(self.settings, len(self.history))}")


def _refuse_other_features(model: Classifier, teacher: Classifier) -> None:
    own, wanted = (each.network.get_submodule(each.head).in_features for each in (model, teacher))
    if own != wanted:
        raise UserError(
            f"match compares the {own} features of this model with the teacher's {wanted}: give a teacher of the same "
            "backbone, or set match to 0 and distill to 1"
        )


def _rank(entry: dict[str, Any]) -> tuple[float, float]:
    return entry["validation_mean_accuracy"], -entry["validation_loss"]


def _lowest(losses: Sequence[float]) -> int:
    return min(range(len(losses)), key=losses.__getitem__, default=-1)


def _train_epoch(state: _State) -> tuple[float, float, list[dict[str, float]]]:
    """One pass over the training photos; its mean loss and accuracy, as they were while it went on, and its reports."""
    total, hits, count, known, epoch = 0.0, 0, 0, 0, len(state.history)
    title = progress(state.settings, epoch + 1)
    steps = track(state.feed.epoch(epoch), title, len(state.feed), console=err_console, transient=True)
    watch = Watch(state.settings, state.recorder, state.evaluate, epoch)
    for step, (inputs, labels, wanted) in enumerate(steps, state.step + 1):
        state.model.train()
        if state.settings.norms == "frozen":
            freeze_norms(state.model)
        state.optimizer.zero_grad()
        given = state.feed.answer(inputs)
        loss = _loss(state.criterion, given, labels, wanted, state.settings)
        loss.backward()
        state.optimizer.step()
        state.schedule.step()
        value = float(loss.detach())
        total += value * len(labels)
        hits += int((given.logits.argmax(1) == labels).sum())
        known += int((labels != UNLABELLED).sum())
        count += len(labels)
        watch.look(step, value, state.optimizer.param_groups[0]["lr"])
    return total / count, hits / max(1, known), watch.reports


def _loss(criterion: nn.Module, given: Answer, labels: Tensor, wanted: Answer | None, settings: Fit) -> Tensor:
    """Mean over labelled photos against their labels; with a teacher, its share is the mean over all against it.

    `match` adds the mean squared difference of the features, in units of the variance of the teacher's.
    """
    labelled = bool((labels != UNLABELLED).any())
    hard: Tensor = criterion(given.logits, labels) if labelled else given.logits.sum() * 0  # a mean of none is NaN
    if wanted is None:
        return hard
    soft = nn.functional.cross_entropy(given.logits, wanted.logits.softmax(1))
    loss = (1 - settings.distill) * hard + settings.distill * soft
    if not settings.match:
        return loss
    return loss + settings.match * nn.functional.mse_loss(given.features, wanted.features) / wanted.features.var()


def _move(model: Classifier, place: torch.device, layout: torch.memory_format) -> None:
    """To a device and a memory layout: channels-last is faster on CPUs, and other code does not expect it."""
    model.to(place, memory_format=layout)  # type: ignore[call-overload]


def _optimizer(model: Classifier, settings: Fit) -> torch.optim.Optimizer:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if settings.optimizer == "adam":
        return torch.optim.Adam(trained, settings.learning_rate, weight_decay=settings.weight_decay)
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(trained, settings.learning_rate, weight_decay=settings.weight_decay)
    return torch.optim.SGD(trained, settings.learning_rate, settings.momentum, weight_decay=settings.weight_decay)


def _schedule(optimizer: torch.optim.Optimizer, settings: Fit, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """Stepped once a batch; `step` falls at whole epochs, as the document's StepLR does."""

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
