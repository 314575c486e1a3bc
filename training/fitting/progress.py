"""What is printed and logged between two checkpoints; training that counts steps instead of epochs."""

from collections.abc import Callable

import torch

from common.console import note
from config.recipe import Fit
from training.evaluation.metrics import Scores
from training.fitting.checkpoints import Recorder


def progress(settings: Fit, finished: int) -> str:
    """How far training is after some epochs, or rounds of steps: `epoch 2/5`, `step 400/3000`."""
    if settings.max_steps:
        return f"step {finished * settings.round_steps}/{settings.max_steps}"
    return f"epoch {finished}/{settings.epochs}"


def sample_held_out(count: int, settings: Fit, seed: int) -> list[int] | None:
    """Indices of `evaluate_batches` batches out of `count` held-out photos, drawn with a seed; None means all."""
    size = (settings.evaluate_batches or count) * settings.batch_size
    if settings.evaluate_batches is None or size >= count:
        return None
    drawn: list[int] = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:size].tolist()
    return drawn


class Progress:
    """Prints and logs the mean loss every `report_every` batches, and held-out accuracy every `evaluate_every` steps.

    Batches are counted within the epoch and printed as in the CIFAR-10 document (section 4.4); steps are counted over
    all rounds.

    Args:
        evaluate: step -> scores of the model in its present state.
        epoch: counted from 0; use one object per epoch.
    """

    def __init__(
        self, settings: Fit, recorder: Recorder | None, evaluate: Callable[[int], Scores], epoch: int = 0
    ) -> None:
        self.settings, self.recorder, self.evaluate, self.epoch = settings, recorder, evaluate, epoch
        self.batches = 0
        self.losses: list[float] = []
        self.reports: list[dict[str, float]] = []

    def step(self, step: int, loss: float, learning_rate: float) -> None:
        """Call after every step, counted from 1 over the whole training."""
        self.losses.append(loss)
        self.batches += 1
        number = step if self.settings.max_steps else self.batches
        if self.settings.report_every and number % self.settings.report_every == 0:
            self._report(step, number, learning_rate)
        if self.settings.evaluate_every and step % self.settings.evaluate_every == 0:
            scores = self.evaluate(step)
            note(f"step {step}: held out: loss {scores.loss:.5f}, balanced accuracy {scores.mean_accuracy:.1%}")
            self._log(step, held_out_loss=scores.loss, held_out_mean_accuracy=scores.mean_accuracy)

    def _report(self, step: int, number: int, learning_rate: float) -> None:
        mean = sum(self.losses) / len(self.losses)
        self.losses = []
        if self.settings.max_steps:
            note(f"step {step}: loss {mean:.5f}, learning rate {learning_rate:.6g}")
        else:
            note(f"[{self.epoch + 1}, {self.batches:5d}] loss: {mean:.3f}")
        self.reports.append({"batch": number, "loss": round(mean, 5)})
        self._log(step, loss=mean, learning_rate=learning_rate)

    def _log(self, step: int, **figures: float) -> None:
        if self.recorder:
            self.recorder.log_step(step, figures)
