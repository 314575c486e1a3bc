"""What an optimisation writes into a run: checkpoints to resume from, a portable one at the end, TensorBoard logs.

tensorboard --logdir runs          # during training, or after it
"""

import io
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from common.errors import InvalidInput
from common.files import write_json, write_whole
from training.evaluation.charts import draw_curves
from training.models.classifier import Classifier
from training.records.folder import CHECKPOINT
from training.records.weights import save_model

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

PORTABLE = "checkpoint.pth"
"""The checkpoint that the CIFAR-10 document saves (section 4.6)."""


class Recorder:
    """Records epochs into a run's folder.

    Args:
        portable: write a checkpoint for other code at the end (`write_portable`).
    """

    def __init__(self, folder: Path, portable: bool = False) -> None:
        self.folder, self.portable = folder, portable

    @cached_property
    def writer(self) -> "SummaryWriter":
        """TensorBoard's writer, created when there is something to write."""
        from torch.utils.tensorboard.writer import SummaryWriter

        return SummaryWriter(str(self.folder / "tensorboard"))

    def inside(self, name: str) -> "Recorder":
        """A recorder for a part of this run, in a folder below."""
        (self.folder / name).mkdir(exist_ok=True)
        return type(self)(self.folder / name)

    def load(self) -> dict[str, Any] | None:
        """The last checkpoint, or None where there is none.

        Raises:
            InvalidInput: it is damaged.
        """
        path = self.folder / CHECKPOINT
        if not path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        except Exception as error:  # torch raises many kinds for a damaged file
            raise InvalidInput(f"{path} is damaged", "start a new run with --fresh") from error
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Write a checkpoint, completely or not at all.

        Raises:
            OSError: it cannot be written; the former one is unchanged.
        """
        self._write(CHECKPOINT, state)

    def write_portable(self, epoch: int, network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Write the last epoch's state on the CPU, with the keys of the CIFAR-10 document (docs/sources.md).

        `torch.load(weights_only=True)` reads it.

        Args:
            epoch: counted from 0, as in that document's loop.
            network: without our scaling module, so that its state dict fits that document's network.

        Raises:
            OSError: it cannot be written.
        """
        if self.portable:
            states = {"model_state_dict": dict(network.state_dict()), "optimizer_state_dict": optimizer.state_dict()}
            self._write(PORTABLE, {"epoch": epoch, **_on_cpu(states)})

    def _write(self, name: str, state: dict[str, Any]) -> None:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_whole(self.folder / name, buffer.getvalue())

    def epoch(self, entry: dict[str, Any]) -> None:
        """Log one epoch's figures."""
        for name, value in entry.items():
            if name != "epoch" and not isinstance(value, list):
                self.writer.add_scalar(name, value, entry["epoch"])
        self.writer.flush()

    def log_step(self, step: int, figures: dict[str, float]) -> None:
        """Log figures between two checkpoints."""
        for name, value in figures.items():
            self.writer.add_scalar(f"steps/{name}", value, step)

    def keep(self, model: Classifier, step: int, count: int) -> None:
        """Write a model's weights to checkpoints/STEP.safetensors, and delete all but the last `count` of these.

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


class Follower(Recorder):
    """Resumes like the recorder of the process that writes, and writes nothing."""

    def save(self, state: dict[str, Any]) -> None: ...

    def write_portable(self, epoch: int, network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None: ...

    def epoch(self, entry: dict[str, Any]) -> None: ...

    def log_step(self, step: int, figures: dict[str, float]) -> None: ...

    def keep(self, model: Classifier, step: int, count: int) -> None: ...

    def finish(self, history: Sequence[dict[str, Any]]) -> None: ...


def _on_cpu(state: Any) -> Any:
    """A state dict with its tensors on the CPU and contiguous."""
    if isinstance(state, torch.Tensor):
        return state.detach().cpu().contiguous()
    if isinstance(state, dict):
        return {key: _on_cpu(value) for key, value in state.items()}
    return [_on_cpu(value) for value in state] if isinstance(state, list) else state
