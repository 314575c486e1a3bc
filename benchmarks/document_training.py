"""The document's training, as it stands there (6.4, steps two and three), in our words: what ours is measured against.

f32, weights and pixels in PyTorch's default layout; torchvision's RandomResizedCrop, ToTensor and Normalize on a photo
that is decoded each time; four worker processes for each pass of training and of validation, started anew each
time; a validation pass after each epoch; the weights of the best epoch, by accuracy, copied whenever it gets better.
Frozen, the optimiser gets the last layer alone, and batch norm's statistics go on moving: nothing there stops them.
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
    """What torchvision's ImageFolder gives: a transformed photo and its label's index."""

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
    """Train the network of a model in place; on return it holds the best epoch's weights.

    Args:
        size: height and width to crop to, or stretch.
        freeze: train the last layer alone.
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
                warnings.filterwarnings("ignore", "This DataLoader will create")  # more than cores: as in the document
                right = _one_pass(network, loader, criterion, optimizer if phase == "train" else None)
            if phase == "train":
                schedule.step()
            elif right / len(validation) > most:
                best, most = copy.deepcopy(network.state_dict()), right / len(validation)
    network.load_state_dict(best)


def _one_pass(
    network: nn.Module,
    loader: DataLoader[tuple[Tensor, int]],
    criterion: nn.Module,
    optimizer: torch.optim.Optimizer | None,
) -> int:
    """How many photos were answered rightly; with an optimiser each batch is learnt from."""
    network.train(optimizer is not None)
    right, lost = 0, 0.0
    for photos, labels in loader:
        network.zero_grad()
        with torch.set_grad_enabled(optimizer is not None):
            logits = network(photos)
            loss = criterion(logits, labels)
            if optimizer:
                loss.backward()
                optimizer.step()
        lost += loss.item() * len(labels)
        right += int((logits.argmax(1) == labels).sum())
    return right


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
