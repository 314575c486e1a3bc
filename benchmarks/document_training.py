"""The training loop of the classroom document (docs/sources.md), written again: the baseline of benchmarks/training.py.

It uses f32 and PyTorch's default memory layout. Every photo is decoded each time it is used, then changed by
torchvision's RandomResizedCrop, ToTensor and Normalize. Each pass of training or validation starts four worker
processes. A validation pass follows each epoch, and the weights of the epoch with the best accuracy are kept. If
frozen, the optimiser has only the last layer, and the statistics of batch norm still change, as in that document.
"""

import copy
import warnings
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from dataset.photos import Photo
from handler.spec import Input
from training.models.classifier import Classifier

WORKERS = 4
BATCH = 8
LEARNING_RATE, MOMENTUM = 0.001, 0.9
STEP_SIZE, GAMMA = 7, 0.1


class Files(Dataset[tuple[Tensor, int]]):
    """Like torchvision's ImageFolder: a transformed photo and the index of its label."""

    def __init__(self, photos: Sequence[Photo], transform: transforms.Compose) -> None:
        self.photos, self.transform = photos, transform

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with Image.open(self.photos[index].path) as photo:
            return self.transform(photo.convert("RGB")), self.photos[index].label


def train_as_the_document(
    model: Classifier, training: Sequence[Photo], validation: Sequence[Photo], size: Input, epochs: int, freeze: bool
) -> None:
    """Train the network of a model in place; it ends with the weights of the best epoch.

    Args:
        size: height and width of the crop, or of the stretched photo.
        freeze: train only the last layer.
    """
    network, head = model.network, model.network.get_submodule(model.head)
    for parameter in network.parameters():
        parameter.requires_grad = not freeze
    for parameter in head.parameters():
        parameter.requires_grad = True
    loaders = _loaders(model, training, validation, (size.height, size.width))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD((head if freeze else network).parameters(), LEARNING_RATE, MOMENTUM)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, STEP_SIZE, GAMMA)
    best, most = copy.deepcopy(network.state_dict()), 0.0
    for _ in range(epochs):
        for phase, loader in loaders.items():
            with warnings.catch_warnings():
                warnings.filterwarnings(
                    "ignore", "This DataLoader will create"
                )  # more workers than cores, as in the classroom document
                correct = _one_pass(network, loader, criterion, optimizer if phase == "train" else None)
            if phase == "train":
                schedule.step()
            elif correct / len(validation) > most:
                best, most = copy.deepcopy(network.state_dict()), correct / len(validation)
    network.load_state_dict(best)


def _one_pass(
    network: nn.Module,
    loader: DataLoader[tuple[Tensor, int]],
    criterion: nn.Module,
    optimizer: torch.optim.Optimizer | None,
) -> int:
    """The number of correct predictions; with an optimiser it also trains."""
    network.train(optimizer is not None)
    correct = 0
    for photos, labels in loader:
        network.zero_grad()
        with torch.set_grad_enabled(optimizer is not None):
            logits = network(photos)
            loss = criterion(logits, labels)
            if optimizer:
                loss.backward()
                optimizer.step()
        correct += int((logits.argmax(1) == labels).sum())
    return correct


def _loaders(
    model: Classifier, training: Sequence[Photo], validation: Sequence[Photo], size: tuple[int, int]
) -> dict[str, DataLoader[tuple[Tensor, int]]]:
    mean, std = ((part.flatten() / 255).tolist() for part in (model.scale.mean, model.scale.std))
    last = [transforms.ToTensor(), transforms.Normalize(mean, std)]
    crop = transforms.Compose([transforms.RandomResizedCrop(size), *last])
    stretch = transforms.Compose([transforms.Resize(size), *last])
    return {"train": _loader(training, crop), "val": _loader(validation, stretch)}


def _loader(photos: Sequence[Photo], transform: transforms.Compose) -> DataLoader[tuple[Tensor, int]]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create")
        return DataLoader(Files(photos, transform), BATCH, shuffle=True, num_workers=WORKERS)
