"""A tiny task for tests of the feedback loop: is a photo tinted warm or cold? It is learnt in seconds on any processor.

Red is warm and blue is cold. The model of the first night was taught that yellow is warm, and people agree that it is
cold. So it is wrong on every yellow photo, and a fine-tune gets all of them right: the gate has a margin of dozens of
photos, whatever the processor's rounding does to the weights.
"""

import functools
from io import BytesIO
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from common.files import write_whole
from tests.helpers.commands import command, newest

LABELS = ("warm", "cold")
COLOURS = {"red": (1.0, 0.1, 0.1), "blue": (0.1, 0.1, 1.0), "yellow": (1.0, 0.9, 0.1)}
KNOWN = {"red": "warm", "blue": "cold"}
TAUGHT = {**KNOWN, "yellow": "warm"}
"""What the first model has learnt."""
AGREED = {**KNOWN, "yellow": "cold"}
"""What people say."""
FIT = {"epochs": 8, "batch_size": 16, "optimizer": "adamw", "learning_rate": 0.01, "schedule": "cosine"}


@functools.cache
def tinted(colour: str, seed: int) -> bytes:
    """A JPEG of soft spots in shades of a colour; two seeds are never near duplicates."""
    rng = np.random.default_rng([seed, *map(ord, colour)])
    spots = Image.fromarray(rng.integers(110, 256, (8, 8), np.uint8)).resize((96, 72), Image.Resampling.BICUBIC)
    pixels = np.asarray(spots, np.float32)[..., None] * np.array(COLOURS[colour], np.float32)
    buffer = BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write_photos(folder: Path, labels: dict[str, str], seeds: range) -> Path:
    """Label folders of photos of these colours."""
    for colour, label in labels.items():
        for seed in seeds:
            write_whole(folder / label / f"{colour}-{seed}.jpg", tinted(colour, seed))
    return folder


def write_recipe(path: Path) -> Path:
    """The recipe `tints`."""
    content = {
        "name": "tints",
        "task": "tells warm and cold photos apart",
        "labels": list(LABELS),
        "input": {"height": 32, "width": 32, "resize": "stretch"},
        "answer": {"unsure_below": 0.6},  # few photos: a fitted temperature keeps confidences low
        "runtime": {"engine": "onnxruntime", "threads": 1},
        "rollout": {"latency_ratio": 5.0},
        "backbone": {"name": "smallnet", "weights": "none"},
        "augment": {"scale": [0.6, 1.0]},
        "train": {**FIT, "validation": 0.25},
        "prune": {**FIT, "amount": 0.3, "epochs": 2},
        "export": {"int8": "never", "opset": 17},  # torch's older exporter takes a tenth of the time
        "gate": {"mean_accuracy": 0.85, "max_loss": 0.1},
    }
    write_whole(path, yaml.safe_dump(content).encode())
    return path


def train_first(folder: Path) -> None:
    """Recipe, base photos, the run that a person signed and its bundle."""
    recipe, taught = write_recipe(folder / "tints.yaml"), write_photos(folder / "taught", TAUGHT, range(40))
    write_photos(folder / "base", KNOWN, range(40))
    command("training", "train", recipe, "--data", taught, "--runs", folder / "runs")
    run = newest(folder / "runs" / "tints", "train")
    command("training", "export", run, "--data", taught, "--out", folder / "signed")
