"""How accuracy depends on properties of a photo: brightness, contrast, saturation, sharpness, size, shape."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from config.recipe import Recipe
from dataset.photos import Photo
from handler.image import open_photo
from training.data.loader import naming

Floats = npt.NDArray[np.float64]
FEATURES = {
    "brightness": "mean of the grey levels, 0 to 255",
    "contrast": "standard deviation of the grey levels, 0 to 127.5",
    "saturation": "mean of S of HSV, 0 to 255",
    "sharpness": "variance of the Laplacian of the grey levels at a shorter side of 224; low is blurred",
    "megapixels": "width times height, as stored in the file",
    "aspect": "width divided by height, upright",
}
BINS = 5
SIDE = 224


def features_of(photos: Sequence[Photo], recipe: Recipe) -> Floats:
    """The properties of each photo, shape (photos, len(FEATURES)), in the units of `FEATURES`.

    Raises:
        UserError: a photo cannot be read; the message names it.
    """
    rows = []
    for photo in photos:
        with naming(photo.path):
            data = photo.path.read_bytes()
            upright = open_photo(data, recipe.limits)
        with Image.open(io.BytesIO(data)) as stored:
            pixels = stored.width * stored.height / 1e6
        rows.append([*_properties(upright), pixels, upright.width / upright.height])
    return np.array(rows, np.float64).reshape(len(photos), len(FEATURES))


def _properties(photo: Image.Image) -> list[float]:
    """Brightness, contrast, saturation and sharpness, at one size, so that more pixels do not count as sharper."""
    scale = SIDE / min(photo.size)
    small = photo.resize((max(3, round(photo.width * scale)), max(3, round(photo.height * scale))))
    grey = np.asarray(small.convert("L"), np.float64)
    saturation = np.asarray(small.convert("HSV"), np.float64)[..., 1]
    return [grey.mean(), grey.std(), saturation.mean(), _laplacian(grey).var()]


def _laplacian(grey: Floats) -> Floats:
    """The four neighbours minus four times the pixel, without the border: (H, W) -> (H - 2, W - 2).

    Its variance as a measure of focus: Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", 2000.
    """
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return np.asarray(around - 4 * grey[1:-1, 1:-1])


def sensitivity(features: Floats, correct: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """For each feature its meaning, and bins with equally many photos, as far as ties allow.

    Args:
        features: shape (photos, len(FEATURES)).
        correct: whether each photo was predicted correctly, shape (photos,).
    """
    return {
        name: {"unit": unit, "bins": _bins(features[:, index], correct)}
        for index, (name, unit) in enumerate(FEATURES.items())
    }


def _bins(values: Floats, correct: npt.NDArray[np.bool_]) -> list[dict[str, float]]:
    edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)))
    bin_of = np.clip(np.searchsorted(edges, values, "right") - 1, 0, max(0, len(edges) - 2))
    rows = []
    for index in np.unique(bin_of):
        inside = bin_of == index
        rows.append(
            {
                "from": round(float(edges[index]), 4),
                "to": round(float(edges[min(index + 1, len(edges) - 1)]), 4),
                "photos": int(inside.sum()),
                "right": int(correct[inside].sum()),
                "accuracy": round(float(correct[inside].mean()), 5),
            }
        )
    return rows
