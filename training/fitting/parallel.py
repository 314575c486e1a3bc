"""Train one model in several processes: each takes its part of every batch, and all have the same weights.

    torchrun --nproc-per-node 2 -m training train classroom --data PHOTOS

starts this command twice. A batch of the recipe is divided among the processes, so learning rate and steps stay those
of the recipe, and gradients are averaged as if one process had seen the whole batch (DistributedDataParallel). The
first process, rank 0, is the only one that writes. Without torchrun, nothing here does anything.

Two things differ from one process: the others augment with random numbers of their own, and batch norms see only a part
of a batch (recipe `norms: frozen` avoids that).
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler

from common.console import err_console
from common.errors import InvalidInput
from config.recipe import Fit

BACKEND = "cpu:gloo,cuda:nccl"
WAIT = timedelta(days=1)
"""The other processes wait while the first one works alone, for example on the scope."""


def size() -> int:
    """The number of processes; 1 without torchrun."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0; 0 writes."""
    return dist.get_rank() if dist.is_initialized() else 0


@contextmanager
def joined() -> Iterator[bool]:
    """Join the processes that torchrun started; yields whether this one is the first, which writes and prints."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield True
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group(BACKEND if torch.cuda.is_available() else "gloo", timeout=WAIT)
    err_console.quiet = bool(rank())
    try:
        yield rank() == 0
    finally:
        dist.destroy_process_group()


def refuse(settings: Fit, learns: bool, only_head: bool) -> None:
    """Refuse what several processes cannot do.

    Args:
        learns: whether there is a teacher.
        only_head: whether only the last layer trains.

    Raises:
        InvalidInput: naming it.
    """
    if size() == 1:
        return
    if learns or only_head:
        what = "a teacher" if learns else "a frozen network"
        raise InvalidInput(f"torchrun: {what} is trained by one process only", "start it without torchrun")
    if settings.batch_size < 2 * size():
        problem = f"a batch of {settings.batch_size} is too small for {size()} processes"
        raise InvalidInput(problem, f"give torchrun --nproc-per-node {max(1, settings.batch_size // 2)} or less")


def refuse_sweep() -> None:
    """Raise InvalidInput if there are several processes: a sweep is many runs."""
    if size() > 1:
        raise InvalidInput("torchrun: a sweep is trained by one process only", "start it without torchrun")


def tell(text: str) -> None:
    """Send a text to the others, which call `heard`."""
    _broadcast(text)


def heard() -> str:
    """The text that the first process sends next."""
    return str(_broadcast(None))


def _broadcast(text: str | None) -> str | None:
    box = [text]
    if size() > 1:
        dist.broadcast_object_list(box, src=0)
    return box[0]


def divided(loader: DataLoader[Any]) -> DataLoader[Any]:
    """The loader whose batches are this process's parts of a loader's batches; the loader itself if there is one."""
    if size() == 1:
        return loader
    parts = _Parts(loader.batch_sampler)  # type: ignore[arg-type]
    return DataLoader(loader.dataset, batch_sampler=parts, generator=loader.generator)


class _Parts(Sampler[list[int]]):
    """Every size-th photo of each batch. A batch with fewer photos than processes goes whole to each of them."""

    def __init__(self, whole: Sampler[list[int]]) -> None:
        self.whole = whole

    def __len__(self) -> int:
        return len(self.whole)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.whole:
            yield batch if len(batch) < size() else batch[rank() :: size()]


def wrapped(model: nn.Module) -> nn.Module:
    """What is called in training: averages the gradients over all processes; the model itself if there is one."""
    return model if size() == 1 else nn.parallel.DistributedDataParallel(model)


def share(labels: Tensor, weights: Tensor | None, unlabelled: int) -> float:
    """The factor of this process's mean loss, so that the mean over the processes is that of the whole batch.

    Args:
        labels: of this process's part of the batch.
        weights: of the classes, in the loss.
        unlabelled: label of photos without one, which the loss leaves out.
    """
    if size() == 1:
        return 1.0
    counted = labels[labels != unlabelled]
    own = float(len(counted) if weights is None else weights[counted].sum())
    (whole,) = summed([own])
    return own * size() / whole if whole else 1.0


def summed(numbers: Sequence[float]) -> list[float]:
    """The sums over all processes."""
    total = torch.tensor(numbers, dtype=torch.float64)
    if size() > 1:
        dist.all_reduce(total)
    return [float(number) for number in total]


def own(count: int) -> range:
    """The indices, out of `count`, that this process evaluates: all, if there are fewer than processes."""
    return range(count) if count < size() else range(rank(), count, size())


def gathered(rows: Tensor, count: int) -> Tensor:
    """All rows in order, of which each process has those of `own`. Shape (count, columns)."""
    if size() == 1 or count < size():
        return rows
    parts: list[Any] = [None] * size()
    dist.all_gather_object(parts, rows)
    whole = rows.new_empty(count, *rows.shape[1:])
    for number, part in enumerate(parts):
        whole[number :: size()] = part
    return whole


def reseed(seed: int, epoch: int) -> None:
    """Give each process but the first its own random numbers for an epoch, the same ones after a resume."""
    if rank():
        torch.manual_seed(seed + 1_000_003 * rank() + 7919 * epoch)
