"""What is printed between two checkpoints, and which held-out photos are asked; training that is counted in steps."""

from collections.abc import Callable

import torch

from common.console import err_console
from config.recipe import Fit
from training.evaluation.metrics import Scores
from training.fitting.checkpoints import Recorder


def progress(settings: Fit, closed: int) -> str:
    """How far so many epochs, or rounds of steps, are: `epoch 2/5`, `step 400/3000`."""
    if settings.max_steps:
        return f"step {closed * settings.round_steps}/{settings.max_steps}"
    return f"epoch {closed}/{settings.epochs}"


def drawn_photos(count: int, settings: Fit, seed: int) -> list[int] | None:
    """Indices of `evaluate_batches` batches of held-out photos, drawn by a seed; None: all of them, in order."""
    wanted = (settings.evaluate_batches or count) * settings.batch_size
    if settings.evaluate_batches is None or wanted >= count:
        return None
    found: list[int] = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:wanted].tolist()
    return found


class Watch:
    """Prints and records the mean loss every `report_every` batches, and held-out accuracy every `evaluate_every`.

    Batches are counted within the epoch, and told as the CIFAR document does (section 4.4); steps over all rounds.

    Args:
        evaluate: step -> scores of the model as it is.
        epoch: counted from 0; each has a watch of its own.
    """

    def __init__(
        self, settings: Fit, recorder: Recorder | None, evaluate: Callable[[int], Scores], epoch: int = 0
    ) -> None:
        self.settings, self.recorder, self.evaluate, self.epoch = settings, recorder, evaluate, epoch
        self.batches = 0
        self.losses: list[float] = []
        self.reports: list[dict[str, float]] = []

    def look(self, step: int, loss: float, learning_rate: float) -> None:
        """To be told of every step, counted from 1 over the whole training."""
        self.losses.append(loss)
        self.batches += 1
        number = step if self.settings.max_steps else self.batches
        if self.settings.report_every and number % self.settings.report_every == 0:
            mean = sum(self.losses) / len(self.losses)
            self.losses = []
            told = f"step {step}: loss {mean:.5f}, learning rate {learning_rate:.6g}"
            if not self.settings.max_steps:
                told = f"[{self.epoch + 1}, {self.batches:5d}] loss: {mean:.3f}"
            err_console.print(told, markup=False, highlight=False)
            self.reports.append({"batch": number, "loss": round(mean, 5)})
            self._record(step, loss=mean, learning_rate=learning_rate)
        if self.settings.evaluate_every and step % self.settings.evaluate_every == 0:
            found = self.evaluate(step)
            err_console.print(
                f"step {step}: held out: loss {found.loss:.5f}, balanced accuracy {found.mean_accuracy:.1%}"
            )
            self._record(step, held_out_loss=found.loss, held_out_mean_accuracy=found.mean_accuracy)

    def _record(self, step: int, **figures: float) -> None:
        if self.recorder:
            self.recorder.look(step, figures)
