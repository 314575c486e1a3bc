"""What is kept of an optimisation: a checkpoint while it goes on, one for others after it, TensorBoard's logs.

tensorboard --logdir runs          # while it trains, or after
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from common.errors import UserError
from common.files import write_json
from training.evaluation.charts import draw_curves
from training.models.classifier import Classifier
from training.records.run import CHECKPOINT, save_model

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter


DOCUMENT = "checkpoint.pth"
"""The checkpoint that the CIFAR document saves (section 4.6)."""


class Recorder:
    """Records epochs into a run's folder.

    Args:
        portable: leave a checkpoint for others at the end (`leave`).
    """

    def __init__(self, folder: Path, portable: bool = False) -> None:
        self.folder, self.portable = folder, portable

    @cached_property
    def writer(self) -> "SummaryWriter":
        """TensorBoard's, made when there is something to write."""
        from torch.utils.tensorboard.writer import SummaryWriter

        return SummaryWriter(str(self.folder / "tensorboard"))

    def inside(self, name: str) -> "Recorder":
        """A recorder of a part of this run, in a folder of its own below."""
        (self.folder / name).mkdir(exist_ok=True)
        return type(self)(self.folder / name)

    def load(self) -> dict[str, Any] | None:
        """The last checkpoint, or None where there is none.

        Raises:
            UserError: it is damaged.
        """
        path = self.folder / CHECKPOINT
        if not path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        except Exception as error:  # torch raises nearly everything on a damaged file
            raise UserError(f"{path} is damaged: start anew with --fresh") from error
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Keep a checkpoint, whole.

        Raises:
            OSError: it cannot be written; the one before it stays.
        """
        self._write(CHECKPOINT, state)

    def leave(self, epoch: int, network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Leave the last epoch's state under the document's keys, on the CPU: `torch.load(weights_only=True)` reads it.

        Args:
            epoch: counted from 0, as in the document's loop.
            network: without our scaling, so that its state dict fits the document's own net.

        Raises:
            OSError: it cannot be written.
        """
        if self.portable:
            states = {"model_state_dict": dict(network.state_dict()), "optimizer_state_dict": optimizer.state_dict()}
            self._write(DOCUMENT, {"epoch": epoch, **_on_cpu(states)})

    def _write(self, name: str, state: dict[str, Any]) -> None:
        beside = self.folder / f".{name}"
        try:
            torch.save(state, beside)
            beside.replace(self.folder / name)
        except RuntimeError as error:  # how torch says that the disk is full
            beside.unlink(missing_ok=True)
            raise OSError(0, str(error).splitlines()[0]) from error

    def epoch(self, entry: dict[str, Any]) -> None:
        """Log one epoch's figures."""
        for name, value in entry.items():
            if name != "epoch" and not isinstance(value, list):
                self.writer.add_scalar(name, value, entry["epoch"])
        self.writer.flush()

    def look(self, step: int, figures: dict[str, float]) -> None:
        """Log what was seen between two checkpoints."""
        for name, value in figures.items():
            self.writer.add_scalar(f"steps/{name}", value, step)

    def keep(self, model: Classifier, step: int, count: int) -> None:
        """Keep a model's weights as checkpoints/STEP.safetensors, and of all these the last so many.

        Raises:
            OSError: they cannot be written.
        """
        folder = self.folder / "checkpoints"
        folder.mkdir(exist_ok=True)
        name = f"{step:08d}.safetensors"
        save_model(folder, model, f".{name}")
        (folder / f".{name}").replace(folder / name)
        for old in sorted(folder.glob("*.safetensors"))[:-count]:
            old.unlink()

    def finish(self, history: Sequence[dict[str, Any]]) -> None:
        """Write the curves: curves.json, curves.png."""
        if "writer" in self.__dict__:
            self.writer.close()
        if history:
            write_json(self.folder / "curves.json", list(history))
            draw_curves(history).savefig(self.folder / "curves.png", dpi=100)


def _on_cpu(state: Any) -> Any:
    """A state dict with its tensors on the CPU, in their usual layout."""
    if isinstance(state, torch.Tensor):
        return state.detach().cpu().contiguous()
    if isinstance(state, dict):
        return {key: _on_cpu(value) for key, value in state.items()}
    return [_on_cpu(value) for value in state] if isinstance(state, list) else state
