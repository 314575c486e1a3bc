"""What is kept of an optimisation while it goes on: a checkpoint, TensorBoard's logs, the curves.

tensorboard --logdir runs          # while it trains, or after
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from training.runs import CHECKPOINT

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Recorder:
    """Records epochs into a run's folder."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        self.folder = folder
        self.writer = SummaryWriter(str(folder / "tensorboard"))

    def load(self) -> dict[str, Any] | None:
        """The last checkpoint, or None where there is none or it cannot be read."""
        try:
            state: dict[str, Any] = torch.load(self.folder / CHECKPOINT, weights_only=True)
        except FileNotFoundError:
            return None
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Keep a checkpoint, whole."""
        beside = self.folder / f".{CHECKPOINT}"
        torch.save(state, beside)
        beside.replace(self.folder / CHECKPOINT)

    def epoch(self, entry: dict[str, Any]) -> None:
        """Log one epoch's figures."""
        for name, value in entry.items():
            if name != "epoch":
                self.writer.add_scalar(name, value, entry["epoch"])
        self.writer.flush()

    def finish(self, history: Sequence[dict[str, Any]]) -> None:
        """Draw the curves: curves.png."""
        self.writer.close()
        if history:
            draw_curves(history).savefig(self.folder / "curves.png", dpi=100)


def draw_curves(history: Sequence[dict[str, Any]]) -> "Figure":
    """Loss and accuracy by epoch, training and validation."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    epochs = [entry["epoch"] for entry in history]
    for axes, title, names in zip(
        figure.subplots(1, 2),
        ("loss", "accuracy"),
        (("training_loss", "validation_loss"), ("training_accuracy", "validation_mean_accuracy")),
        strict=True,
    ):
        for name in names:
            axes.plot(epochs, [entry[name] for entry in history], marker="o", label=name.replace("_", " "))
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    return figure
